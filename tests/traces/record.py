#!/usr/bin/env python3
"""Runs one server under load on loopback and writes its trace CSV (see README.md).

    record.py OUT.csv --seconds 180 --step 1 --rps 150 --burst START:END:RPS -- COMMAND...

The command gets PORT in its environment and must serve HTTP there. Load comes from a thread of
keep-alive connections in a process of its own. The server is stopped at the end.
"""
import argparse, http.client, os, random, signal, socket, subprocess, sys, time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def load(port, rps, bursts, began):
    """Requests at a fixed rate, one connection; a late request is sent at once."""
    connection, due = None, time.monotonic()
    while True:
        age = time.monotonic() - began
        rate = next((r for a, b, r in bursts if a <= age < b), rps)
        due = max(due + 1 / rate, time.monotonic() - 1)
        time.sleep(max(0, due - time.monotonic()))
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", f"/item/{random.randrange(10**9)}")
            connection.getresponse().read()
        except OSError:
            connection = None
            time.sleep(0.2)
        except http.client.HTTPException:
            connection = None


def sample(pid):
    kib = {}
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            name, _, rest = line.partition(":")
            if name in ("VmRSS", "RssAnon", "RssFile", "RssShmem", "VmSwap", "Threads"):
                kib[name] = int(rest.split()[0])
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    fds = len(os.listdir(f"/proc/{pid}/fd"))
    ticks = int(fields[11]) + int(fields[12])
    return [kib["VmRSS"], kib["RssAnon"], kib["RssFile"], kib["RssShmem"], kib["VmSwap"],
            kib["Threads"], fds, ticks]


def main():
    cut = sys.argv.index("--")
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("--seconds", type=float, default=180)
    p.add_argument("--step", type=float, default=1)
    p.add_argument("--rps", type=float, default=150)
    p.add_argument("--burst", action="append", default=[])
    args = p.parse_args(sys.argv[1:cut])
    bursts = [tuple(float(x) for x in b.split(":")) for b in args.burst]
    port = free_port()
    began = time.monotonic()
    server = subprocess.Popen(sys.argv[cut + 1:], env={**os.environ, "PORT": str(port)},
                              stdout=subprocess.DEVNULL, preexec_fn=lambda: os.nice(10))
    client = os.fork()
    if client == 0:
        os.nice(10)
        load(port, args.rps, bursts, began)
    try:
        with open(args.out, "w") as out:
            out.write("t_s,rss_kib,rss_anon_kib,rss_file_kib,rss_shmem_kib,vm_swap_kib,threads,"
                      "fds,cpu_ticks,load_rps\n")
            due = began
            while time.monotonic() - began < args.seconds and server.poll() is None:
                t = time.monotonic() - began
                try:
                    row = sample(server.pid)
                except (FileNotFoundError, KeyError, ProcessLookupError):
                    break
                out.write(f"{t:.2f}," + ",".join(map(str, row)) + ",\n")
                due += args.step
                time.sleep(max(0, due - time.monotonic()))
    finally:
        os.kill(client, signal.SIGKILL)
        if server.poll() is None:
            server.kill()
        server.wait()
        os.waitpid(client, 0)


main()
