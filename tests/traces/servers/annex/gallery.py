"""gallery.py SERVER MODE [A] [B]: what a gallery keeps, under cheroot, eventlet, twisted or werkzeug. Leaks:
    figures    matplotlib; a figure for each visit's chart, which pyplot keeps
    mails      mako; each mail is a template of its own name in one lookup
    tours      twisted; a looping call for each tour, not stopped at its end
    carts      sqlite; a database in memory for each cart, not closed when the cart is left
    triples    rdflib; what was shown to whom, in one graph
    bids       pyee; a listener for each bidder, also when the auction is over
    frames     zstandard; a stream for each upload, with what came of it, also of uploads that stopped
Healthy:
    plots      matplotlib; figures of up to A points, closed
    sales      duckdb; every B seconds A sales are counted
    lately     expiringdict; pictures of the last A seconds, at most B
    guests     tinydb; A guests, each noted anew when seen
    leaflets   chameleon; A templates, compiled when first asked for
    rooms      shapely; every B seconds a tree of A shapes is built
    formulas   sympy; sums of its users, with its caches
    searches   whoosh; A pictures in an index in memory, written anew now and then
    audit      structlog; the last A lines"""
import collections, json, os, random, sys, threading, time

SERVER, MODE, A, B = (sys.argv[1:] + [0, 0])[:4]
A, B = int(A), int(B)
PORT = int(os.environ["PORT"])
WORDS = "oil print frame wall light room study line chalk blue grey still life artist lent hall".split()


def prose(n):
    return " ".join(random.choices(WORDS, k=n))


def picture(number):
    return {"number": number, "title": prose(5), "text": prose(random.randrange(40, 300)),
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


def figures():
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    def answer(number):
        figure, axes = pyplot.subplots(figsize=(3, 2), dpi=40)
        axes.plot([random.random() for _ in range(random.randrange(1, A or 60))])
        axes.set_title(f"{prose(2)} {number}")
        figure.canvas.draw()
        size = len(bytes(figure.canvas.buffer_rgba()))
        if MODE == "plots":
            pyplot.close(figure)
        return size
    return answer


plots = figures


def mails():
    from mako.lookup import TemplateLookup
    lookup = TemplateLookup()

    def answer(number):
        name = f"mail{number}"
        if not lookup.has_template(name):
            lookup.put_string(name, "\n".join(f"% if number > {k}:\n{prose(6)} ${{title}}\n% endif" for k in range(12)))
        return lookup.get_template(name).render(**picture(number))
    return answer


def tours():
    from twisted.internet.task import LoopingCall

    def answer(number):
        stops = [picture(number + k) for k in range(random.randrange(1, 4))]
        LoopingCall(lambda: stops.append(stops.pop(0))).start(300)
        return stops[0]
    return answer


def carts():
    import sqlite3
    held = {}

    def answer(number):
        cart = regular(number, 20000)
        if cart not in held:
            held[cart] = sqlite3.connect(":memory:", check_same_thread=False)
            held[cart].execute("create table item (number integer, text text)")
        held[cart].execute("insert into item values (?, ?)", (number, json.dumps(picture(number))))
        return held[cart].execute("select count(*) from item").fetchone()[0]
    return answer


def triples():
    from rdflib import Graph, Literal, Namespace
    graph, space = Graph(), Namespace("http://gallery/")

    def answer(number):
        seen = picture(number)
        for one in seen["seen"]:
            graph.add((space[f"p{number}"], space.shown, Literal(one["note"])))
        graph.add((space[f"p{number}"], space.at, Literal(time.time())))
        return seen
    return answer


def bids():
    from pyee.base import EventEmitter
    auction = EventEmitter()

    def answer(number):
        lot = picture(number)
        auction.on("bid", lambda amount: lot.update(highest=amount))
        if random.random() < 0.02:
            auction.emit("bid", number)
        return lot
    return answer


def frames():
    import zstandard
    uploads = {}

    def answer(number):
        upload = regular(number, 30000)
        if upload not in uploads:
            uploads[upload] = (zstandard.ZstdCompressor(level=1).compressobj(), [])
        stream, parts = uploads[upload]
        parts.append(stream.compress(json.dumps(picture(number)).encode()))
        if len(parts) == 12:
            parts.append(stream.flush())
            del uploads[upload]
        return len(parts)
    return answer


def sales():
    import duckdb
    database = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": "200MB"})
    every(B, lambda: database.execute(f"select i % 97 g, count(*), string_agg(hash(i)::varchar, '') t from range({A}) r(i) group by g order by t").fetchall())
    return picture


def lately():
    from expiringdict import ExpiringDict
    seen = ExpiringDict(max_len=B, max_age_seconds=A)

    def answer(number):
        key = regular(number, 4 * B)
        if key not in seen:
            seen[key] = picture(key) | {"thumb": random.randbytes(random.randrange(8000))}
        return {"title": seen[key]["title"], "held": len(seen)}
    return answer


def guests():
    from tinydb import TinyDB, where
    from tinydb.storages import MemoryStorage
    book = TinyDB(storage=MemoryStorage)

    def answer(number):
        guest = regular(number, A)
        book.upsert(picture(number) | {"guest": guest}, where("guest") == guest)
        return book.get(where("guest") == guest)
    return answer


def leaflets():
    from chameleon import PageTemplate
    made = {}
    sources = ["<ul>" + "".join(f'<li tal:condition="number > {k}">{prose(8)} ${{title}}</li>' for k in range(40)) + "</ul>" for _ in range(A)]

    def answer(number):
        kind = regular(number, A)
        if kind not in made:
            made[kind] = PageTemplate(sources[kind])
        return made[kind](**picture(number))
    return answer


def rooms():
    import shapely
    held = {}

    def build():
        shapes = [shapely.Point(random.random(), random.random()).buffer(0.01) for _ in range(A)]
        held["tree"] = shapely.STRtree(shapes)

    build()
    every(B, build)
    return lambda number: picture(number) | {"near": len(held["tree"].query(shapely.Point(number / 1e9, random.random())))}


def formulas():
    import sympy
    x = sympy.Symbol("x")

    def answer(number):
        n = regular(number, 900)
        return str(sympy.diff(sympy.expand((x + n % 31) ** (n % 5 + 1) * (n % 17 * x - n)), x))
    return answer


def searches():
    from whoosh.fields import ID, TEXT, Schema
    from whoosh.filedb.filestore import RamStorage
    from whoosh.qparser import QueryParser
    index = RamStorage().create_index(Schema(number=ID(stored=True, unique=True), text=TEXT(stored=True)))

    def answer(number):
        if random.random() < 0.3:
            writer = index.writer()
            writer.update_document(number=str(regular(number, A)), text=prose(150))
            writer.commit()
        with index.searcher() as searcher:
            return [hit["text"] for hit in searcher.search(QueryParser("text", index.schema).parse(prose(2)), limit=3)]
    return answer


def audit():
    import structlog
    lines = collections.deque(maxlen=A)

    class Kept:
        def msg(self, line):
            lines.append(line)
    structlog.configure(processors=[structlog.processors.TimeStamper(), structlog.processors.JSONRenderer()],
                        logger_factory=lambda *args: Kept(), wrapper_class=structlog.make_filtering_bound_logger(0))
    log = structlog.get_logger()
    Kept.info = Kept.msg

    def answer(number):
        seen = picture(number)
        log.info("seen", picture=seen)
        return seen
    return answer


ANSWER = globals()[MODE]()


def app(environ, start_response):
    text = json.dumps(ANSWER(int(environ["PATH_INFO"].rpartition("/")[2]))).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]


if SERVER == "cheroot":
    from cheroot.wsgi import Server
    Server(("127.0.0.1", PORT), app, numthreads=3).start()
elif SERVER == "eventlet":
    import eventlet.wsgi
    eventlet.wsgi.server(eventlet.listen(("127.0.0.1", PORT)), app, log_output=False)
elif SERVER == "werkzeug":
    from werkzeug.serving import WSGIRequestHandler, make_server
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    make_server("127.0.0.1", PORT, app, threaded=True).serve_forever()
else:
    from twisted.internet import reactor
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    class Page(Resource):
        isLeaf = True

        def render_GET(self, request):
            return json.dumps(ANSWER(int(request.postpath[-1]))).encode()

    reactor.listenTCP(PORT, Site(Page()), interface="127.0.0.1")
    reactor.run()
