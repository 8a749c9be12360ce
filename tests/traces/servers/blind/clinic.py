"""Flask and Django under gunicorn (`gunicorn clinic:flask_app`, `gunicorn clinic:django_app`), aiohttp by
`python3 clinic.py`; MODE, BYTES, BOUND.

globals    flask; a dict of what each visitor sent
compiled   flask; a template compiled for each request and kept by its text
ttl        flask; cachetools.TTLCache, entries live BOUND seconds
lfu        flask; cachetools.LFUCache of BOUND entries, some asked for more often
render     flask; renders a table and drops it
signals    django; a receiver connected for each request
locmem     django; its cache in local memory, BOUND entries, a third culled at a time
orders     django; parses and answers, a large one now and then
waiters    aiohttp; a task for each request that waits for ever
events     aiohttp; a list of events, cut every BOUND seconds
buffers    aiohttp; bytearrays kept
users      aiohttp; a dict by user, BOUND of them
"""
import asyncio, json, os, random, sys, time

mode = os.environ["MODE"]
size = int(os.environ.get("BYTES", "4000"))
bound = int(os.environ.get("BOUND", "1000"))
kept, served = {}, 0


def rows():
    return [{"id": n, "name": f"patient {random.random()}", "tags": ["a", "b"]} for n in range(size // 200)]


def flask_made():
    import cachetools, flask, jinja2
    app = flask.Flask(__name__)
    ttl = cachetools.TTLCache(10**9, ttl=bound)
    lfu = cachetools.LFUCache(bound)
    table = "<table>{% for row in rows %}<tr><td>{{ row.id }}</td><td>{{ row.name }}</td></tr>{% endfor %}</table>"

    @app.get("/<path:path>")
    def page(path):
        global served
        served += 1
        if mode == "globals":
            kept[path] = rows()
        elif mode == "compiled":
            text = f"{path} {table}"
            kept[text] = app.jinja_env.from_string(text)
            return kept[text].render(rows=rows()[:5])
        elif mode == "ttl":
            ttl[path] = json.dumps(rows())
        elif mode == "lfu":
            lfu[int(random.paretovariate(0.5)) % (3 * bound)] = rows()
        return flask.render_template_string(table, rows=rows())

    return app


def django_made():
    import django
    from django.conf import settings
    from django.core.cache import cache
    from django.core.handlers.wsgi import WSGIHandler
    from django.dispatch import Signal
    from django.http import JsonResponse
    from django.urls import re_path
    sent = Signal()

    def view(request):
        global served
        served += 1
        page = rows()
        if mode == "signals":
            def receiver(sender, **kwargs):
                return page
            sent.connect(receiver, weak=False)
        elif mode == "locmem":
            cache.set(request.path, page)
        elif mode == "orders" and served % bound == 0:
            page = [rows() for _ in range(100)]
        return JsonResponse({"rows": len(json.loads(json.dumps(page)))})

    settings.configure(
        DEBUG=False, ALLOWED_HOSTS=["*"], SECRET_KEY="x", ROOT_URLCONF=type(sys)("urls"), MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "TIMEOUT": None,
                            "OPTIONS": {"MAX_ENTRIES": bound}}})
    settings.ROOT_URLCONF.urlpatterns = [re_path("", view)]
    django.setup()
    return WSGIHandler()


def aiohttp_runs():
    from aiohttp import web

    async def wait(page):
        await asyncio.get_running_loop().create_future()
        return page

    async def page(request):
        global served
        served += 1
        if mode == "waiters":
            kept[served] = asyncio.create_task(wait(rows()))
        elif mode == "events":
            kept[served] = rows()
            if time.monotonic() - kept.setdefault("cut", time.monotonic()) > bound:
                kept.clear()
        elif mode == "buffers":
            kept[served] = bytearray(os.urandom(16) * (size // 16))
        elif mode == "users":
            kept[random.randrange(bound)] = rows()
        return web.json_response(rows())

    app = web.Application()
    app.router.add_get("/{tail:.*}", page)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)


if __name__ == "__main__":
    aiohttp_runs()
elif mode in ("signals", "locmem", "orders"):
    django_app = django_made()
else:
    flask_app = flask_made()
