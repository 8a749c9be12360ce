"""observatory.py SERVER MODE [A] [B]: what an observatory keeps, under microdot, trio with h11, or wsgiref with webob. Leaks:
    signals    blinker; each watcher of the sky is connected for good, also when she has gone to bed
    forms      marshmallow; a schema class for each report, which its registry keeps
    nights     transitions; each observation is added to the one machine, none is removed
    partners   httpx; a client for each partner that is told of a find, not closed
    visitors   a pool of threads for each visitor's charts, not shut down
    plates     a finalizer of each plate, whose arguments hold the plate
    spectra    functools; a cached method, whose cache holds all stars
    waits      tasks that wait for a sky that does not clear
Healthy:
    counts     opentelemetry; a duration for each path as it was asked for, of which it keeps 2000
    stars      cachebox; the A stars asked for last
    weather    aiocache; each place's weather is good for A seconds
    survey     polars; every B seconds a table of A rows
    reports    fpdf2; a report of up to A pages for each request
    locales    babel; A languages, read when first asked for
    guards     limits; a moving window of a minute for each of A visitors
    sightings  sortedcontainers; what was seen in the last A seconds, at most B
    source     pygments; programs of up to A lines
    exposures  exposures are developed by a thread, in clear nights they wait"""
import asyncio, collections, concurrent.futures, functools, json, os, queue, random, sys, threading, time, weakref

SERVER, MODE, A, B = (sys.argv[1:] + [0, 0])[:4]
A, B = int(A), int(B)
PORT = int(os.environ["PORT"])
WORDS = "star dome lens night cloud ring moon plate red dwarf giant orbit dust comet arc field".split()


def prose(n):
    return " ".join(random.choices(WORDS, k=n))


def star(number):
    return {"number": number, "name": prose(3), "text": prose(random.randrange(40, 300)),
            "seen": [{"by": prose(2), "note": prose(12)} for _ in range(random.randrange(14))]}


def regular(number, people):
    """Some come often."""
    return int(people * (number / 1e9) ** 3)


def every(seconds, job):
    def run():
        while True:
            time.sleep(seconds)
            job()

    threading.Thread(target=run, daemon=True).start()


def signals():
    import blinker
    news = blinker.Namespace()

    def answer(number):
        found = star(number)

        def seen(sender, **what):
            found["last"] = what

        field = news.signal(f"field-{number % 50}")
        field.connect(seen, weak=False)
        if random.random() < 0.05:
            field.send("dome", brightness=random.random())
        return found

    return answer


def forms():
    from marshmallow import Schema, fields

    def answer(number):
        asked = {f"value{k}": fields.Float() for k in range(random.randrange(2, 9))}
        schema = type(f"Report{number}", (Schema,), {"number": fields.Int(), "name": fields.Str(), "text": fields.Str(), **asked})
        return schema().dump(star(number) | {one: random.random() for one in asked})

    return answer


class Observation:
    def __init__(self, number):
        self.of = star(number)


def nights():
    from transitions import Machine
    machine = Machine(model=None, states=["asked", "planned", "seen", "told"], initial="asked", transitions=[
        ["plan", "asked", "planned"], ["see", "planned", "seen"], ["tell", "seen", "told"]])

    def answer(number):
        one = Observation(number)
        machine.add_model(one)
        one.plan()
        return one.of | {"state": one.state}

    return answer


def partners():
    import httpx
    partners = {}

    def answer(number):
        name = regular(number, A)
        if name not in partners:
            partners[name] = httpx.Client(base_url=f"https://partner{name}.example", headers={"X-Partner": prose(4)})
        request = partners[name].build_request("POST", "/finds", json=star(number))
        return {"told": str(request.url), "size": len(request.content)}

    return answer


def counts():
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter(out=open(os.devnull, "w")), export_interval_millis=60000)
    durations = MeterProvider([reader]).get_meter("observatory").create_histogram("http.server.duration")

    def answer(number):
        began = time.perf_counter()
        found = star(number)
        durations.record(time.perf_counter() - began, {"http.target": f"/item/{number}", "http.method": "GET"})
        return found

    return answer


def visitors():
    pools = {}

    def answer(number):
        visitor = regular(number, A)
        if visitor not in pools:
            pools[visitor] = concurrent.futures.ThreadPoolExecutor(2)
        charts = pools[visitor].map(star, range(number, number + 3))
        return list(charts)

    return answer


class Plate:
    def __init__(self, number):
        self.of, self.pixels = star(number), bytes(random.randrange(8000))

    def store(self):
        self.pixels = b""


def plates():
    def answer(number):
        plate = Plate(number)
        weakref.finalize(plate, Plate.store, plate)
        return plate.of

    return answer


class Star:
    def __init__(self, number):
        self.of = star(number)

    @functools.cache
    def spectrum(self, lines):
        return [(line, len(self.of["text"]) * line) for line in range(lines)]


def spectra():
    return lambda number: {"lines": Star(number).spectrum(10 + number % 20)}


def waits():
    clear, waiting = collections.defaultdict(asyncio.Event), set()

    async def look(found):
        await clear[found["number"]].wait()
        found["clear"] = True

    async def answer(number):
        found = star(number)
        if random.random() < 0.4:
            clear[number].set()
        task = asyncio.create_task(look(found))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        return found

    return answer


def stars():
    import cachebox
    cache = cachebox.LRUCache(A)

    def answer(number):
        key = int(3 * A * (number / 1e9) ** 2)
        found = cache.get(key)
        if found is None:
            found = cache[key] = star(key) | {"picture": "*" * random.randrange(9000)}
        return found

    return answer


def weather():
    from aiocache import SimpleMemoryCache
    cache = SimpleMemoryCache(ttl=A)

    async def answer(number):
        place = regular(number, 9000)
        found = await cache.get(place)
        if found is None:
            await cache.set(place, found := [star(place), star(number)])
        return found

    return answer


def survey():
    import polars

    def count():
        table = polars.DataFrame({"field": [random.randrange(300) for _ in range(A)], "by": random.choices(WORDS, k=A), "light": [random.random() for _ in range(A)]})
        table.group_by("field", "by").agg(polars.col("light").mean(), polars.len()).sort("light").write_csv()

    every(B, count)
    return star


def reports():
    from fpdf import FPDF

    def answer(number):
        report = FPDF()
        report.set_font("Helvetica", size=11)
        for _ in range(random.randrange(1, A + 1)):
            report.add_page()
            found = star(number)
            report.multi_cell(0, 6, found["text"])
            with report.table() as table:
                for seen in found["seen"]:
                    table.row([seen["by"], seen["note"]])
        return {"size": len(report.output())}

    return answer


def locales():
    import datetime
    from babel import Locale, dates, localedata, numbers
    names = sorted(random.Random(4).sample(localedata.locale_identifiers(), A))

    def answer(number):
        locale = Locale.parse(names[regular(number, A)])
        now = datetime.datetime.now()
        return {"when": dates.format_datetime(now, "full", locale=locale), "bright": numbers.format_decimal(number, locale=locale), "in": locale.get_display_name(locale)}

    return answer


def guards():
    from limits import RateLimitItemPerMinute, storage, strategies
    limiter, most = strategies.MovingWindowRateLimiter(storage.MemoryStorage()), RateLimitItemPerMinute(60)

    def answer(number):
        if not limiter.hit(most, "visitor", str(regular(number, A))):
            return {"later": True}
        return star(number)

    return answer


def sightings():
    from sortedcontainers import SortedDict
    seen, lock = SortedDict(), threading.Lock()

    def answer(number):
        with lock:
            seen[time.monotonic()] = star(number)
            while len(seen) > B or seen.peekitem(0)[0] < time.monotonic() - A:
                seen.popitem(0)
            return {"seen": len(seen), "first": seen.peekitem(0)[1]["name"]}

    return answer


def source():
    from pygments import highlight, lexers, formatters
    names = ["python", "c", "rust", "go", "java", "sql", "html", "json", "ruby", "php"]

    def answer(number):
        text = "\n".join(f"if ({prose(1)} == {random.random()}) {{ return '{prose(5)}'; }} # {prose(4)}" for _ in range(random.randrange(1, A)))
        return {"html": highlight(text, lexers.get_lexer_by_name(names[number % 10]), formatters.HtmlFormatter())}

    return answer


def exposures():
    waiting = queue.Queue()

    def develop():
        while True:
            number, pixels = waiting.get()
            time.sleep(random.uniform(0.05, 0.2))
            sum(pixels[::64])

    threading.Thread(target=develop, daemon=True).start()

    def answer(number):
        waiting.put((number, random.randbytes(50000)))
        return {"waiting": waiting.qsize()}

    return answer


ANSWER = globals()[MODE]()


async def microdot():
    from microdot import Microdot
    app = Microdot()

    @app.get("/item/<int:number>")
    async def item(request, number):
        found = ANSWER(number)
        return await found if asyncio.iscoroutine(found) else found

    await app.start_server("127.0.0.1", PORT)


def webob():
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
    from webob import Response
    from webob.dec import wsgify

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_):
            pass

    @wsgify
    def item(request):
        return Response(json=ANSWER(int(request.path.rpartition("/")[2])))

    make_server("127.0.0.1", PORT, item, Server, Quiet).serve_forever()


async def trio_h11():
    import h11, trio

    async def serve(stream):
        connection = h11.Connection(h11.SERVER)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Request):
                number = int(event.target.rpartition(b"/")[2])
            elif isinstance(event, h11.EndOfMessage):
                body = json.dumps(ANSWER(number)).encode()
                for part in (h11.Response(status_code=200, headers=[("Content-Length", str(len(body)))]), h11.Data(data=body), h11.EndOfMessage()):
                    await stream.send_all(connection.send(part))
                connection.start_next_cycle()
            else:
                return

    await trio.serve_tcp(serve, PORT, host="127.0.0.1")


if SERVER == "microdot":
    asyncio.run(microdot())
elif SERVER == "trio":
    import trio
    trio.run(trio_h11)
else:
    webob()
