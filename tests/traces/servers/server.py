"""server.py leak|cache|churn|threads [BYTES] [BOUND]: a small service, several ways of holding memory."""
import http.server, json, os, sys, threading, zlib

mode = sys.argv[1]
size = int(sys.argv[2]) if len(sys.argv) > 2 else 4000
bound = int(sys.argv[3]) if len(sys.argv) > 3 else 10000
held, cache = [], {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write a response: two would wait for the delayed ACK

    def do_GET(self):
        if mode == "leak":
            held.append(os.urandom(size))
        elif mode == "cache":  # random keys into a bounded key space: fills ever more slowly
            key = zlib.crc32(self.path.encode()) % bound
            if key not in cache:
                cache[key] = os.urandom(size)
        elif mode == "churn":
            json.loads(json.dumps([{"n": n, "text": "x" * 100} for n in range(200)]))
        elif mode == "threads":  # a thread that waits for ever, one request in fifty
            if len(held) % 50 == 0:
                threading.Thread(target=threading.Event().wait, daemon=True).start()
            held.append(None)
        body = b"ok"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
