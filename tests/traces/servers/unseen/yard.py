"""python3 yard.py MODE [BYTES] [BOUND]: tornado, bottle under waitress, CherryPy, Quart under hypercorn.

callbacks  tornado; a callback kept for each request
cached     tornado; functools.cache by path
lru        tornado; functools.lru_cache of BOUND entries
xml        tornado; lxml trees, dropped
locals     waitress; a list in each thread that grows
uncollected waitress; cycles, with the collector switched off
cycles     waitress; the same with the collector on
markdown   waitress; pages, dropped
sessions   cherrypy; sessions that live for a day
brief      cherrypy; sessions that live for BOUND minutes
rows       waitress; sqlalchemy, one session for ever, rows in a database in memory
recent     waitress; sqlalchemy, a session a request, the last BOUND rows
jobs       hypercorn; a background task a request that waits for ever
feed       hypercorn; a deque of BOUND messages
"""
import asyncio, collections, functools, gc, json, os, random, sys, threading

mode = sys.argv[1]
size = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
bound = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
port = int(os.environ["PORT"])
kept, own, served = [], threading.local(), 0


def parcel():
    return {"from": f"yard {random.random()}", "goods": [f"good {k} {random.random()}" for k in range(size // 100)]}


def tornado_made():
    import lxml.etree, tornado.web
    make = lambda path: parcel()
    cached = functools.cache(make) if mode == "cached" else functools.lru_cache(bound)(make)

    class Page(tornado.web.RequestHandler):
        def get(self):
            if mode == "callbacks":
                one = parcel()
                kept.append(lambda: (self, one))
            elif mode == "xml":
                root = lxml.etree.Element("yard")
                for good in parcel()["goods"]:
                    lxml.etree.SubElement(root, "good", name=good).text = good
                lxml.etree.fromstring(lxml.etree.tostring(root))
            elif mode == "lru":
                cached(str(random.randrange(3 * bound)))
            else:
                cached(self.request.path)
            self.write(json.dumps(parcel()["goods"][:10]))

    async def main():
        tornado.web.Application([("/.*", Page)]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(main())


class Knot:
    def __init__(self):
        self.body, self.own = parcel(), self


def bottle_made():
    import bottle, markdown, sqlalchemy, sqlalchemy.orm, waitress
    app = bottle.Bottle()
    if mode == "uncollected":
        gc.disable()
    if mode in ("rows", "recent"):
        class Base(sqlalchemy.orm.DeclarativeBase):
            pass

        class Parcel(Base):
            __tablename__ = "parcels"
            id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
            body = sqlalchemy.Column(sqlalchemy.Text)

        engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.StaticPool,
                                          connect_args={"check_same_thread": False})
        Base.metadata.create_all(engine)
        made = sqlalchemy.orm.sessionmaker(engine, expire_on_commit=False)
        always, one_at_a_time = made(), threading.Lock()

    @app.get("/<path:path>")
    def page(path):
        global served
        served += 1
        if mode == "locals":
            own.__dict__.setdefault("list", []).append(parcel())
        elif mode in ("uncollected", "cycles"):
            Knot()
        elif mode == "markdown":
            return markdown.markdown("\n\n".join(f"# {g}\n* {g}\n* **{g}**" for g in parcel()["goods"]))
        elif mode == "rows":
            with one_at_a_time:
                one = Parcel(body=json.dumps(parcel()))
                always.add(one)
                always.commit()
                kept.append(one)
        elif mode == "recent":
            with one_at_a_time, made() as session:
                session.add(Parcel(body=json.dumps(parcel())))
                session.execute(sqlalchemy.delete(Parcel).where(Parcel.id <= served - bound))
                session.commit()
        return json.dumps(parcel())

    waitress.serve(app, host="127.0.0.1", port=port, threads=4)


def cherrypy_made():
    import cherrypy

    class Root:
        @cherrypy.expose
        def default(self, *path):
            cherrypy.session["parcel"] = parcel()
            return json.dumps(parcel()["goods"][:10])

    minutes = 1440 if mode == "sessions" else bound
    cherrypy.config.update({"server.socket_host": "127.0.0.1", "server.socket_port": port, "log.screen": False})
    cherrypy.quickstart(Root(), "/", {"/": {"tools.sessions.on": True, "tools.sessions.timeout": minutes,
                                            "tools.sessions.clean_freq": 1}})


def quart_made():
    import hypercorn.asyncio, hypercorn.config, quart
    app, feed = quart.Quart(__name__), collections.deque(maxlen=bound)

    @app.get("/<path:path>")
    async def page(path):
        if mode == "jobs":
            async def job(one):
                await asyncio.Event().wait()
                return one
            kept.append(asyncio.create_task(job(parcel())))
        else:
            feed.append(parcel())
        return json.dumps(parcel()["goods"][:10])

    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    asyncio.run(hypercorn.asyncio.serve(app, config))


if mode in ("callbacks", "cached", "lru", "xml"):
    tornado_made()
elif mode in ("sessions", "brief"):
    cherrypy_made()
elif mode in ("jobs", "feed"):
    quart_made()
else:
    bottle_made()
