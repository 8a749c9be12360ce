"""server.py MODE [BYTES] [BOUND]: a small service on http.server, several ways of holding memory."""
import http.server, json, os, random, sys, threading, time, zlib

mode = sys.argv[1]
size = int(sys.argv[2]) if len(sys.argv) > 2 else 4000
bound = int(sys.argv[3]) if len(sys.argv) > 3 else 10000
began = time.monotonic()
held, cache, served = [], {}, 0


def work(path):
    global cache
    if mode == "leak" or mode == "late" and time.monotonic() - began > bound:
        held.append(os.urandom(size))
    elif mode == "objects":  # small objects of many kinds: the heap grows in arenas
        held.append({"path": path, "row": list(range(random.randrange(size // 8)))})
    elif mode == "buffer":  # one buffer that doubles
        held[:] = held or [bytearray()]
        held[0] += os.urandom(size)
    elif mode == "cache":  # random keys into a bounded key space: fills ever more slowly
        key = zlib.crc32(path.encode()) % bound
        if key not in cache:
            cache[key] = os.urandom(size)
    elif mode == "lru":  # distinct keys: fills in a straight line to its bound
        cache[served] = os.urandom(size)
        cache.pop(served - bound, None)
    elif mode == "churn":
        json.loads(json.dumps([{"n": n, "text": "x" * 100} for n in range(200)]))
    elif mode == "jobs":  # now and then one that takes much
        if served % bound == 0:
            sorted(os.urandom(size) for _ in range(2000))
    elif mode == "reload":  # a table that is loaded anew, larger
        if served % bound == 0:
            cache = {n: os.urandom(size) for n in range(1000 + served // bound * 50)}
    elif mode == "threads":  # a thread that waits for ever, one request in fifty
        if served % 50 == 0:
            threading.Thread(target=threading.Event().wait, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write a response: two would wait for the delayed ACK

    def do_GET(self):
        global served
        work(self.path)
        served += 1
        body = b"ok"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
