"""A WSGI application. gunicorn --chdir DIR --bind HOST:PORT app:application"""

import os
import signal
import threading
import time
from urllib.parse import parse_qs

KEPT = []


def application(environ, start_response):
    path = environ["PATH_INFO"]
    query = parse_qs(environ.get("QUERY_STRING", ""))

    def number(name):
        return int(query.get(name, ["0"])[0])

    status = "200 OK"
    body = b"%d\n" % os.getpid()
    if path == "/leak":
        KEPT.append(b"x" * (number("kib") * 1024))
    elif path == "/slow":
        time.sleep(number("ms") / 1000)
    elif path == "/hang":
        # A hung thread would leave the others serving: stop the process. This thread may run on
        # for a moment, and must not answer.
        os.kill(os.getpid(), signal.SIGSTOP)
        threading.Event().wait()
    elif path not in ("/", "/pid"):
        status, body = "404 Not Found", b"not found\n"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
