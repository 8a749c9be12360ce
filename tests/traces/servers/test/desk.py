"""A WSGI and an ASGI application, `gunicorn desk:wsgi` and `uvicorn desk:asgi`; MODE, BYTES, BOUND.

log      a list of what was answered, never cut
memo     functools.lru_cache(BOUND) on distinct arguments
memoall  functools.cache on BOUND different arguments
tasks    an object a request in a cycle with a big one, held by a registry
plain    parse, transform and drop
import   a job of BYTES x 1000 a request in BOUND
"""
import collections, functools, json, os, random, zlib

mode = os.environ["MODE"]
size = int(os.environ.get("BYTES", "4000"))
bound = int(os.environ.get("BOUND", "5000"))
kept, served = collections.deque(), 0


def page(key):
    return json.dumps({"key": key, "rows": [f"{key} {n} {random.random()}" for n in range(size // 24)]})


memo = functools.lru_cache(bound)(page)
memo_all = functools.cache(page)


class Task:
    def __init__(self, key):
        self.me, self.text = self, page(key)


def answer(path):
    global served
    served += 1
    if mode == "log":
        kept.append((path, page(path)))
    elif mode == "memo":
        memo(f"{path}{served}")
    elif mode == "memoall":
        memo_all(zlib.crc32(path.encode()) % bound)
    elif mode == "tasks":
        kept.append(Task(path))
    elif mode == "plain":
        json.loads(page(path))
    elif mode == "import" and served % bound == 0:
        json.loads(json.dumps([page(n) for n in range(1000)]))
    return b"ok"


def wsgi(environ, start_response):
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        body = answer(scope["path"])
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
