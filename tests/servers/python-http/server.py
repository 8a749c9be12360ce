"""Python's own threaded HTTP server. server.py [HOST [PORT]]"""

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

KEPT = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in two writes, which Nagle's algorithm would hold up.
    disable_nagle_algorithm = True

    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)

        def number(name):
            return int(query.get(name, ["0"])[0])

        status, body = 200, b"%d\n" % os.getpid()
        if url.path == "/leak":
            KEPT.append(b"x" * (number("kib") * 1024))
        elif url.path == "/slow":
            time.sleep(number("ms") / 1000)
        elif url.path == "/hang":
            # A hung thread would leave the others serving: stop the process. This thread may run
            # on for a moment, and must not answer.
            os.kill(os.getpid(), signal.SIGSTOP)
            threading.Event().wait()
        elif url.path not in ("/", "/pid"):
            status, body = 404, b"not found\n"
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    # The default of 5 is less than a handful of clients at once.
    request_queue_size = 128
    # Requests under way are finished when the server closes.
    daemon_threads = False


def serve(host, port):
    """Serves until SIGTERM."""
    server = Server((host, port), Handler)
    # shutdown() waits for serve_forever(), which the signal has interrupted: another thread asks.
    stop = threading.Thread(target=server.shutdown)
    signal.signal(signal.SIGTERM, lambda *_: stop.ident or stop.start())
    server.serve_forever()
    server.server_close()


def address(arguments):
    """HOST and PORT out of the command line."""
    host = arguments[0] if arguments else "127.0.0.1"
    return host, int(arguments[1]) if len(arguments) > 1 else 8000


if __name__ == "__main__":
    serve(*address(sys.argv[1:]))
