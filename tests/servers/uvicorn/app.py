"""An ASGI application without a framework. uvicorn --app-dir DIR --host HOST --port PORT app:app"""

import asyncio
import os
from urllib.parse import parse_qs

KEPT = []


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    query = parse_qs(scope["query_string"].decode())

    def number(name):
        return int(query.get(name, ["0"])[0])

    status, body = 200, b"%d\n" % os.getpid()
    match scope["path"]:
        case "/" | "/pid":
            pass
        case "/leak":
            KEPT.append(b"x" * (number("kib") * 1024))
        case "/slow":
            await asyncio.sleep(number("ms") / 1000)
        case "/hang":
            while True:
                pass
        case _:
            status, body = 404, b"not found\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
