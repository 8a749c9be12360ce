"""What bureau services keep. `python3 bureau.py MODE [A] [B]` serves under uvicorn, aiohttp or Sanic;
`gunicorn "bureau:app('MODE', A, B)"` the WSGI ones.

Leaks:
  receivers   Django: a signal's receiver for each request, held strongly
  waiting     aiohttp: tasks that wait for an answer nobody gives
  userlabels  Starlette: prometheus counters labelled by user and path
  loggers     Flask: a logger and its handler for each request
  drift       Falcon: the features of each prediction, kept as numpy arrays to watch their drift
  threads     Flask: a mailing thread for every A-th request, never told to end
  outbox      Flask under gevent: greenlets whose mail server never answers
  frame       Starlette: each request a row of a pandas frame
  retries     Sanic: failed jobs are put back, and some fail always
Healthy:
  simple      Flask-Caching of A entries
  locmem      Django's cache in memory, A entries at most
  thumbs      Flask and Pillow: images of up to A pixels a side, scaled
  nightly     FastAPI: pandas groups A rows each B seconds (APScheduler)
  recycled    Flask: a small leak, and --max-requests
  letters     Starlette and jinja2: letters of A paragraphs
  lru         aiohttp: functools.lru_cache of A entries
  slow        Sanic: each request holds A KiB for a second
  ttl         Starlette: documents live A seconds, swept each five
"""
import asyncio, collections, functools, io, json, logging, os, queue, random, sys, threading, time, uuid

PORT = int(os.environ.get("PORT", "8000"))
WORDS = "form file case of the clerk office permit granted until further notice by post with seal and date".split()


def prose(n):
    return " ".join(random.choices(WORDS, k=n))


def document(number):
    return {"id": number, "title": prose(6), "text": prose(random.randrange(200, 2000)), "seal": uuid.uuid4().hex,
            "notes": [{"by": f"clerk{k}", "at": time.time(), "text": prose(40)} for k in range(random.randrange(16))]}


def number_of(path):
    return int(path.rsplit("/", 1)[1])


def user_of(number, users):
    """Some come often."""
    return int(users * (number / 1e9) ** 2)


def uvicorn(application):
    import uvicorn as server
    server.run(application, host="127.0.0.1", port=PORT, log_level="warning")


def starlette(answer, **options):
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def item(request):
        return JSONResponse(await answer(request.path_params["number"]))
    uvicorn(Starlette(routes=[Route("/item/{number:int}", item)], **options))


def flask(answer):
    import flask as framework
    application = framework.Flask("bureau")
    application.get("/item/<int:number>")(lambda number: answer(number))
    return application


def django(answer, **settings):
    import django as framework
    from django.conf import settings as conf
    from django.core.wsgi import get_wsgi_application
    from django.http import JsonResponse
    from django.urls import path
    here = sys.modules[__name__]
    here.urlpatterns = [path("item/<int:number>", lambda request, number: JsonResponse(answer(request, number)))]
    conf.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="a", **settings)
    framework.setup()
    return get_wsgi_application()


def falcon(answer):
    import falcon as framework

    class Item:
        def on_get(self, request, response, number):
            response.media = answer(number)
    application = framework.App()
    application.add_route("/item/{number:int}", Item())
    return application


def receivers(a, b):
    from django.dispatch import Signal
    closed = Signal()

    def answer(request, number):
        case = document(number)

        def on_closed(sender, **_):
            case["closed"] = sender
        closed.connect(on_closed, weak=False)
        if number % 50 == 0:
            closed.send(sender="clerk")
        return case
    return django(answer)


def waiting(a, b):
    from aiohttp import web
    pending, tasks = {}, set()

    async def item(request):
        case = document(number_of(request.path))
        key = uuid.uuid4().hex

        async def approval():
            pending[key] = asyncio.get_running_loop().create_future()
            case["approved"] = await pending[key]
        task = asyncio.create_task(approval())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if random.random() < 0.3:
            asyncio.get_running_loop().call_later(2, lambda: pending.pop(key).set_result(True))
        return web.json_response(case)
    application = web.Application()
    application.router.add_get("/item/{number}", item)
    web.run_app(application, host="127.0.0.1", port=PORT, print=None)


def userlabels(a, b):
    import prometheus_client
    seen = prometheus_client.Counter("requests", "answered", ["user", "path", "code"])
    took = prometheus_client.Histogram("seconds", "taken", ["user"])

    async def answer(number):
        begin = time.perf_counter()
        case = document(number)
        seen.labels(f"user{number % 100003}", f"/item/{number}", "200").inc()
        took.labels(f"user{number % 100003}").observe(time.perf_counter() - begin)
        return case
    starlette(answer)


def loggers(a, b):
    logging.lastResort = None

    def answer(number):
        log = logging.getLogger(f"request.{uuid.uuid4().hex}")
        buffer = io.StringIO()
        log.addHandler(logging.StreamHandler(buffer))
        case = document(number)
        log.warning("case %s: %s", number, case["title"])
        for note in case["notes"]:
            log.warning("note %s", note)
        return case
    return flask(answer)


def drift(a, b):
    import numpy
    history = collections.defaultdict(list)
    weights = numpy.random.rand(300)

    def answer(number):
        features = numpy.random.rand(random.randrange(500, 1500))
        history[number % 12].append(features)
        return {"score": float(features[:300] @ weights), "seen": len(history[number % 12])}
    return falcon(answer)


def threads(a, b):
    started = []

    def mailer(inbox):
        while True:
            letter = inbox.get()
            letter["sent"] = json.dumps(letter)

    def answer(number):
        case = document(number)
        if number % a == 0:
            inbox = queue.Queue()
            thread = threading.Thread(target=mailer, args=(inbox,), daemon=True)
            thread.start()
            started.append(thread)
            for _ in range(8):
                inbox.put(document(number))
        return case
    return flask(answer)


def outbox(a, b):
    import gevent
    from gevent.event import AsyncResult

    def send(letter):
        AsyncResult().get()
        return len(letter)

    def answer(number):
        case = document(number)
        gevent.spawn(send, json.dumps(case))
        return case
    return flask(answer)


def frame(a, b):
    import pandas
    kept = pandas.DataFrame()

    async def answer(number):
        nonlocal kept
        case = document(number)
        notes = case.pop("notes")
        kept = pandas.concat([kept, pandas.DataFrame([case])], ignore_index=True)
        return {"rows": len(kept), "notes": len(notes)}
    starlette(answer)


def retries(a, b):
    from sanic import Sanic, response
    application = Sanic("bureau")
    application.config.ACCESS_LOG = False
    failed = collections.deque()

    @application.get("/item/<number:int>")
    async def item(request, number):
        case = document(number)
        failed.append({"case": case, "tries": 0})
        return response.json(case)

    @application.after_server_start
    async def begin(app):
        app.add_task(work())

    async def work():
        while True:
            for _ in range(min(40, len(failed))):
                job = failed.popleft()
                job["tries"] += 1
                if job["case"]["id"] % 10 < 5:  # the register refuses these
                    failed.append(job)
            await asyncio.sleep(1)
    application.run(host="127.0.0.1", port=PORT, single_process=True, access_log=False, motd=False)


def simple(a, b):
    from flask_caching import Cache
    cache = Cache(config={"CACHE_TYPE": "SimpleCache", "CACHE_THRESHOLD": a, "CACHE_DEFAULT_TIMEOUT": 3600})

    @cache.memoize()
    def case(number):
        return document(number)
    application = flask(case)
    cache.init_app(application)
    return application


def locmem(a, b):
    from django.core.cache import cache

    def answer(request, number):
        user = user_of(number, a * 3)
        case = cache.get(f"user:{user}") or document(number)
        cache.set(f"user:{user}", case, 3600)
        return case
    return django(answer, CACHES={"default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": a, "CULL_FREQUENCY": 4}}})


def thumbs(a, b):
    from PIL import Image

    def answer(number):
        side = random.randrange(a // 4, a)
        image = Image.effect_noise((side, side), 40).convert("RGB")
        image.thumbnail((200, 200))
        packed = io.BytesIO()
        image.save(packed, "JPEG")
        return packed.getvalue()
    return flask(answer)


def nightly(a, b):
    import numpy, pandas
    from apscheduler.schedulers.background import BackgroundScheduler
    from fastapi import FastAPI
    totals = {}

    def report():
        rows = pandas.DataFrame({"office": numpy.random.randint(0, 400, a), "fee": numpy.random.rand(a),
                                 "clerk": [f"clerk{k % 900}" for k in range(a)]})
        joined = rows.merge(rows.groupby("office", as_index=False).fee.mean(), on="office")
        totals["fees"] = joined.groupby("clerk").fee_x.sum().to_dict()
    scheduler = BackgroundScheduler()
    scheduler.add_job(report, "interval", seconds=b)
    scheduler.start()
    application = FastAPI()

    @application.get("/item/{number}")
    def item(number: int):
        return {**document(number), "fee": totals.get("fees", {}).get(f"clerk{number % 900}")}
    uvicorn(application)


def recycled(a, b):
    kept = []

    def answer(number):
        kept.append([document(number) for _ in range(a)])
        return kept[-1][0]
    return flask(answer)


def letters(a, b):
    import jinja2
    names = {f"letter{k}": f"<h1>Letter {k}</h1>" + "{% for c in cases %}<p>{{ c.title|e }} {{ c.text|e }}</p>{% endfor %}" for k in range(60)}
    pages = jinja2.Environment(loader=jinja2.DictLoader(names), cache_size=40)

    async def answer(number):
        count = random.randrange(1, a)
        page = pages.get_template(f"letter{number % 60}").render(cases=[document(k) for k in range(count)])
        return {"page": page[:3000], "length": len(page)}
    starlette(answer)


def lru(a, b):
    from aiohttp import web

    @functools.lru_cache(maxsize=a)
    def case(user):
        return json.dumps([document(user), document(user)])

    async def item(request):
        return web.Response(text=case(user_of(number_of(request.path), a * 4)))
    application = web.Application()
    application.router.add_get("/item/{number}", item)
    web.run_app(application, host="127.0.0.1", port=PORT, print=None)


def slow(a, b):
    from sanic import Sanic, response
    application = Sanic("bureau")
    tasks = set()

    async def scan(number):
        pages = bytearray(random.randrange(a * 1024))
        await asyncio.sleep(1 + random.expovariate(1))
        return len(pages) + number

    @application.get("/item/<number:int>")
    async def item(request, number):
        task = asyncio.create_task(scan(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return response.json({**document(number), "scanning": len(tasks)})
    application.run(host="127.0.0.1", port=PORT, single_process=True, access_log=False, motd=False)


def ttl(a, b):
    import contextlib
    live = {}

    async def sweep():
        while True:
            await asyncio.sleep(5)
            old = time.monotonic() - a
            for key in [key for key, (at, _) in live.items() if at < old]:
                del live[key]

    @contextlib.asynccontextmanager
    async def lifespan(_):
        task = asyncio.create_task(sweep())
        yield
        task.cancel()

    async def answer(number):
        live[number] = (time.monotonic(), document(number))
        return {**live[number][1], "live": len(live)}
    starlette(answer, lifespan=lifespan)


def app(mode, a=0, b=0):
    return globals()[mode](a, b)


if __name__ == "__main__":
    globals()[sys.argv[1]](*[int(one) for one in (sys.argv[2:] + ["0", "0"])[:2]])
