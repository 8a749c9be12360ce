"""What recording studios keep. `python3 studio.py MODE [A] [B]` serves under waitress, cheroot, twisted or uvicorn,
`gunicorn "studio:app('MODE', A, B)"` under that.

Leaks:
  expired     Pyramid: dogpile.cache in memory, whose entries expire but are never taken out
  deferreds   Klein: who waits for a mix in twisted, and goes home without telling
  fanout      Litestar: each A-th client subscribes to all takes, and nobody reads his queue
  graph       web.py: networkx learns who played with whom
  errors      Pyramid: the last errors are kept with their tracebacks
  diary       web.py: peewee writes a diary into a database in memory
  invoices    Klein: PDFs are put together in buffers, and the unpaid are never sent
Healthy:
  region      Pyramid: dogpile.cache over a dict of A entries
  pdf         web.py: reportlab prints up to A pages
  workbook    Klein: each B seconds openpyxl writes A rows
  retention   web.py: peewee, rows of the last A seconds
  mixing      Klein: each request holds up to A KiB for some seconds
  pickups     BlackSheep: files wait to be fetched, A seconds at most
  ranking     Pyramid under gunicorn: each worker's cache of A entries by use (cachetools)
  waves       Litestar: waves of up to A KiB are packed by msgpack
"""
import asyncio, collections, io, json, os, random, sys, time, uuid

PORT = int(os.environ.get("PORT", "8000"))
WORDS = "take mix bass drum tape vocal late again louder slow echo room wire tube solo chorus verse fade".split()


def prose(n):
    return " ".join(random.choices(WORDS, k=n))


def take(number):
    return {"id": number, "song": prose(4), "notes": prose(random.randrange(60, 500)), "key": uuid.uuid4().hex,
            "tracks": [{"player": f"player{random.randrange(5000)}", "level": random.random(), "text": prose(15)}
                       for _ in range(random.randrange(2, 20))]}


def regular(number, people):
    """Some come often."""
    return int(people * (number / 1e9) ** 3)


def pyramid(answer):
    from pyramid.config import Configurator
    with Configurator() as config:
        config.add_route("item", "/item/{number}")
        config.add_view(lambda request: answer(int(request.matchdict["number"])), route_name="item", renderer="json")
        return config.make_wsgi_app()


def waitress(application):
    from waitress import serve
    serve(application, host="127.0.0.1", port=PORT, threads=3)


def webpy(answer):
    import web
    from cheroot.wsgi import Server

    class Item:
        def GET(self, number):
            web.header("Content-Type", "application/json")
            return json.dumps(answer(int(number)))
    application = web.application(("/item/(.*)", "Item"), {"Item": Item}).wsgifunc()
    Server(("127.0.0.1", PORT), application, numthreads=3).start()


def klein(answer):
    """`answer` may return a deferred."""
    from klein import Klein
    from twisted.internet import defer
    application = Klein()

    @application.route("/item/<int:number>")
    def item(request, number):
        request.setHeader("Content-Type", "application/json")
        return defer.maybeDeferred(answer, number).addCallback(lambda found: json.dumps(found).encode())
    application.run("127.0.0.1", PORT, logFile=open(os.devnull, "w"))


def uvicorn(application):
    import uvicorn as server
    server.run(application, host="127.0.0.1", port=PORT, log_level="warning")


def litestar(answer):
    from litestar import Litestar, get

    @get("/item/{number:int}")
    async def item(number: int) -> dict:
        return await answer(number)
    uvicorn(Litestar([item], openapi_config=None))


def blacksheep(answer, started):
    from blacksheep import Application, get, json as reply
    application = Application()

    @get("/item/{number}")
    async def item(number: int):
        return reply(await answer(number))
    application.on_start += started
    uvicorn(application)


def expired(a, b):
    from dogpile.cache import make_region
    region = make_region().configure("dogpile.cache.memory", expiration_time=30)

    @region.cache_on_arguments()
    def listen(number):
        return take(number)
    waitress(pyramid(listen))


def deferreds(a, b):
    from twisted.internet import defer, reactor
    waiting = collections.deque()

    def answer(number):
        found = take(number)
        done = defer.Deferred()
        done.addCallback(lambda mix: found.update(mix=mix))
        if number % 10 < 7:
            reactor.callLater(1, done.callback, "loud")
        else:
            waiting.append(done)  # until the engineer is back
        return found
    klein(answer)


def fanout(a, b):
    clients = {}

    async def answer(number):
        found = take(number)
        if number % a == 0:
            clients[uuid.uuid4()] = asyncio.Queue()
        text = json.dumps({"song": found["song"], "tracks": found["tracks"][:3]})
        for queue in clients.values():
            queue.put_nowait(f"event: take\ndata: {text}\n\n".encode())
        return found
    litestar(answer)


def graph(a, b):
    import networkx
    played = networkx.Graph()

    def answer(number):
        found = take(number)
        played.add_node(number, song=found["song"])
        for track in found["tracks"]:
            played.add_edge(track["player"], number, level=track["level"], text=track["text"])
        return {**found, "fame": played.degree(found["tracks"][0]["player"])}
    webpy(answer)


def errors(a, b):
    last = []

    def master(found):
        if found["id"] % 3 == 0:
            raise ValueError(f"{found['song']} clips")
        return found

    def answer(number):
        found = take(number)
        try:
            return master(found)
        except ValueError as error:
            last.append((time.time(), error))
            return {"errors": len(last), "last": str(error)}
    waitress(pyramid(answer))


def table():
    import peewee
    database = peewee.SqliteDatabase(":memory:", check_same_thread=False, thread_safe=False)

    class Entry(peewee.Model):
        at = peewee.FloatField(index=True)
        song = peewee.CharField(index=True)
        text = peewee.TextField()
    Entry._meta.set_database(database)
    database.connect()
    database.create_tables([Entry])
    return Entry


def diary(a, b):
    import threading
    entries, lock = table(), threading.Lock()

    def answer(number):
        found = take(number)
        with lock:
            entries.create(at=time.time(), song=found["song"], text=json.dumps(found))
            return {**found, "before": entries.select().where(entries.song == found["song"]).count()}
    webpy(answer)


def invoices(a, b):
    from reportlab.pdfgen import canvas
    unpaid = {}

    def answer(number):
        found = take(number)
        unpaid[number] = io.BytesIO()
        page = canvas.Canvas(unpaid[number])
        for line, track in enumerate(found["tracks"]):
            page.drawString(50, 800 - 20 * line, track["text"])
        page.save()
        if number % 2:
            return {"paid": len(unpaid.pop(number).getvalue())}
        return found
    klein(answer)


def region(a, b):
    from dogpile.cache import make_region

    class Bounded(collections.OrderedDict):
        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            if len(self) > a:
                self.popitem(last=False)
    cache = make_region().configure("dogpile.cache.memory", arguments={"cache_dict": Bounded()})

    @cache.cache_on_arguments()
    def listen(who):
        return [take(who), take(who)]
    waitress(pyramid(lambda number: listen(regular(number, a * 3))))


def pdf(a, b):
    from reportlab.pdfgen import canvas

    def answer(number):
        packed = io.BytesIO()
        page = canvas.Canvas(packed)
        for _ in range(random.randrange(1, a)):
            found = take(number)
            for line, track in enumerate(found["tracks"]):
                page.drawString(50, 800 - 20 * line, f"{track['player']} {track['text']}")
            page.showPage()
        page.save()
        return {"bytes": len(packed.getvalue())}
    webpy(answer)


def workbook(a, b):
    from openpyxl import Workbook
    from twisted.internet import reactor, task, threads
    last = {"bytes": 0}

    def write():
        book, packed = Workbook(), io.BytesIO()
        for number in range(a):
            found = take(number)
            book.active.append([number, found["song"], found["notes"], *(track["level"] for track in found["tracks"])])
        book.save(packed)
        last["bytes"] = len(packed.getvalue())
    reactor.callLater(b, task.LoopingCall(threads.deferToThread, write).start, b)
    klein(lambda number: {**take(number), **last})


def retention(a, b):
    import threading
    entries, lock = table(), threading.Lock()

    def answer(number):
        found = take(number)
        with lock:
            entries.create(at=time.time(), song=found["song"], text=json.dumps(found))
            if number % 50 == 0:
                entries.delete().where(entries.at < time.time() - a).execute()
            return {**found, "kept": entries.select().count()}
    webpy(answer)


def mixing(a, b):
    from twisted.internet import reactor, task

    def answer(number):
        tape = bytearray(random.randrange(a * 1024))
        task.deferLater(reactor, 1 + random.expovariate(0.5), len, tape)  # the mix goes on without its client
        return take(number)
    klein(answer)


def pickups(a, b):
    waiting, tasks = {}, []

    async def sweep(_):
        async def forever():
            while True:
                await asyncio.sleep(7)
                for key in [key for key, (until, _) in waiting.items() if until < time.monotonic()]:
                    del waiting[key]
        tasks.append(asyncio.create_task(forever()))

    async def answer(number):
        found = take(number)
        key = uuid.uuid4().hex
        waiting[key] = (time.monotonic() + a, json.dumps([found, take(number)]).encode())
        if number % 5 == 0:
            waiting.pop(random.choice([key, *list(waiting)[-9:]]))  # fetched
        return {**found, "key": key}
    blacksheep(answer, sweep)


def ranking(a, b):
    import cachetools
    cache = cachetools.LFUCache(a)

    @cachetools.cached(cache)
    def listen(who):
        return [take(who), take(who)]
    return pyramid(lambda number: listen(regular(number, a * 3)))


def waves(a, b):
    import msgpack

    async def answer(number):
        wave = [random.random() for _ in range(int(random.random() ** 3 * a * 128))]
        packed = msgpack.packb({**take(number), "wave": wave})
        return {"peak": max(msgpack.unpackb(packed)["wave"], default=0), "bytes": len(packed)}
    litestar(answer)


def app(mode, a=0, b=0):
    return globals()[mode](a, b)


if __name__ == "__main__":
    globals()[sys.argv[1]](*[int(one) for one in (sys.argv[2:] + ["0", "0"])[:2]])
