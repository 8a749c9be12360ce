"""A worker that misbehaves on purpose. worker.py FAULT [HOST [PORT]]

exit-at-once  ends with code 3 and a last word on standard error, before it listens
ignore-term   serves, and ignores SIGTERM
fork-away     serves, and leaves a process behind in a session of its own whose parent has ended
flood         writes 128 MiB to standard output as fast as it can, then serves
"""

import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python-http"))
import server  # noqa: E402  (found through the line above)


def fork_away():
    """A grandchild that neither its process group nor its parent leads back to."""
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.execvp("sleep", ["sleep", "3600"])


def flood():
    line = b"x" * 1023 + b"\n"
    for _ in range(128):
        sys.stdout.buffer.write(line * 1024)
    sys.stdout.buffer.flush()


def main():
    fault, *rest = sys.argv[1:]
    host, port = server.address(rest)
    match fault:
        case "exit-at-once":
            print("faulty: no database", file=sys.stderr)
            sys.exit(3)
        case "ignore-term":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            server.Server((host, port), server.Handler).serve_forever()
        case "fork-away":
            fork_away()
            server.serve(host, port)
        case "flood":
            flood()
            server.serve(host, port)
        case _:
            sys.exit(f"faulty: unknown fault {fault!r}")


if __name__ == "__main__":
    main()
