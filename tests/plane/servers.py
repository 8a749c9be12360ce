"""Small servers of many habits. Each answers a connection with its worker's name and closes it.

servers.py KIND HOST PORT
"""
import os, select, signal, socket, sys, threading, time

KIND, HOST, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
NAME = os.environ["PLANE_ID"].encode()
FAMILY = socket.AF_INET6 if ":" in HOST else socket.AF_INET


def answer(connection):
    connection.sendall(NAME)
    connection.close()


def serve(listener):
    """Accepts until SIGTERM, which never comes between accept and answer."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGTERM, lambda *_: None)
    while True:
        ready, _, _ = select.select([listener, wake], [], [])
        if wake in ready:
            sys.exit(0)
        try:
            answer(listener.accept()[0])
        except BlockingIOError:
            pass


def bound(family=FAMILY, reuse=False, protocol=0):
    listener = socket.socket(family, socket.SOCK_STREAM, protocol)
    if reuse:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, PORT))
    except OSError as error:
        sys.exit(error.errno)
    return listener


def plain():
    listener = bound()
    listener.listen(5)
    serve(listener)


def reuse():
    listener = bound(reuse=True)
    listener.listen(5)
    serve(listener)


def blocking():
    listener = bound()
    if not os.get_blocking(listener.fileno()):
        sys.exit("the listener should block")
    listener.listen()
    while True:
        answer(listener.accept()[0])


def nonblocking():
    """Accepts until there is no more, as event loops do."""
    listener = socket.socket(FAMILY, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind((HOST, PORT))
    if os.get_blocking(listener.fileno()):
        sys.exit("a listener that blocks would hang the loop")
    listener.listen()
    while True:
        select.select([listener], [], [])
        while True:
            try:
                answer(listener.accept()[0])
            except BlockingIOError:
                break


def epoll_first():
    listener = socket.socket(FAMILY, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN | select.EPOLLET)
    listener.bind((HOST, PORT))
    listener.listen()
    epoll.modify(listener, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            assert fd == listener.fileno()
            try:
                answer(listener.accept()[0])
            except BlockingIOError:
                pass


def asynchronous():
    import asyncio

    async def main():
        async def handle(_, writer):
            writer.write(NAME)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, HOST or None, PORT)
        await server.serve_forever()

    asyncio.run(main())


def http():
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def handle(self):
            self.wfile.write(NAME)

    ThreadingHTTPServer((HOST, PORT), Handler).serve_forever()


def dual():
    listener = socket.create_server((HOST, PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    serve(listener)


def multipath():
    IPPROTO_MPTCP = 262
    listener = bound(protocol=IPPROTO_MPTCP)
    listener.listen()
    serve(listener)


def prefork():
    """The child binds, its child accepts."""
    if os.fork() == 0:
        listener = bound()
        listener.listen()
        os.fork()
        serve(listener)
    os.wait()


def rebind():
    """Tries the port first, as careful servers do; then wants another mode."""
    bound().close()
    nonblocking()


def twice():
    """What the supervisor sees when a signal interrupts bind and it is called again."""
    listener = bound()
    listener.bind((HOST, PORT))
    listener.listen()
    serve(listener)


def deaf():
    """Listens and never accepts. Its backlog is too small for the tests."""
    listener = bound()
    listener.listen(1)
    signal.pause()


def sockets():
    """Answers with what stat says of its listener before and after bind."""
    listener = socket.socket()
    before = os.fstat(listener.fileno()).st_ino
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, NAME.endswith(b"1"))
    listener.bind((HOST, PORT))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        now = os.fstat(listener.fileno()).st_ino
        keepalive = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        inherited = os.get_inheritable(listener.fileno())
        connection.sendall(f"{before} {now} {keepalive} {inherited}".encode())
        connection.close()


def shutting():
    """Shuts its listener down and says so; then accepts again."""
    listener = bound()
    listener.listen(1)
    listener.shutdown(socket.SHUT_RDWR)
    serve(listener)


def others():
    """Binds everything that is not supervised, then the supervised address last."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((HOST, PORT))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind("\0plane-%d-%s" % (PORT, NAME.decode()))
    unix.listen()
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    netlink.bind((0, 0))
    anywhere = socket.socket()
    anywhere.bind((HOST, 0))
    anywhere.listen()
    refused = []
    for wrong in [
        lambda: socket.socket(socket.AF_INET6).bind(("1::1", PORT)),
        lambda: socket.socket().bind(("192.0.2.1", PORT)),
    ]:
        try:
            wrong()
            refused.append(0)
        except OSError as error:
            refused.append(error.errno)
    listener = bound()
    listener.listen()
    connection, _ = listener.accept()
    ports = [udp.getsockname()[1] == PORT, anywhere.getsockname()[1] not in (0, PORT)]
    connection.sendall(f"{ports} {refused}".encode())
    connection.close()
    signal.pause()


globals()[KIND]()
