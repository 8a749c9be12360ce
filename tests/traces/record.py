#!/usr/bin/env python3
"""Runs servers under load on loopback and writes their trace CSVs (see README.md).

    record.py BUILD NAME...      records those lines of corpus.csv, all at the same time
    record.py BUILD --split X    the same for all lines of a split

BUILD is where the servers were built (see README.md). A command gets PORT in its environment and must
serve HTTP there. Load comes from one keep-alive connection of a process of its own;
`load_rps` is what it was answered since the last sample, a second. What is read is the whole tree of the
command: pages that its processes share are counted once.
"""
import csv, http.client, math, mmap, os, pathlib, random, signal, socket, subprocess, sys, time

HERE = pathlib.Path(__file__).parent


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def rate_at(age, rps, bursts):
    """The rate at that age: a burst FROM:TO:RPS, else a rhythm ~PERIOD:LOW:HIGH or a rise
    ^SECONDS:LOW:HIGH, else `rps`."""
    for one in bursts:
        if one[0] == "^":
            seconds, low, high = map(float, one[1:].split(":"))
            return low + (high - low) * min(age / seconds, 1)
        if one[0] == "~":
            period, low, high = map(float, one[1:].split(":"))
            return low + (high - low) * (1 - math.cos(math.tau * age / period)) / 2
        begin, end, rate = map(float, one.split(":"))
        if begin <= age < end:
            return rate
    return rps


def load(port, rps, bursts, began, answered):
    """Requests at that rate, one connection; a late request is sent at once. `answered` counts."""
    connection, due = None, time.monotonic()
    while True:
        rate = rate_at(time.monotonic() - began, rps, bursts)
        due = max(due + random.expovariate(rate), time.monotonic() - 1)
        time.sleep(max(0, due - time.monotonic()))
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", f"/item/{random.randrange(10**9)}")
            connection.getresponse().read()
            answered[0] += 1
        except OSError:
            connection = None
            time.sleep(0.2)
        except http.client.HTTPException:
            connection = None


def stat(pid):
    """The fields of /proc/PID/stat from the third (the state) on."""
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()


def tree(pid):
    children = {}
    for one in filter(str.isdigit, os.listdir("/proc")):
        try:
            children.setdefault(int(stat(one)[1]), []).append(int(one))
        except (FileNotFoundError, ProcessLookupError):
            pass
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def lines(path):
    with open(path) as f:
        return {name: rest.split()[0] for name, _, rest in (s.partition(":") for s in f) if rest.strip()}


def sample(pids):
    """Resident KiB, anonymous KiB, threads, descriptors, CPU ticks of a tree."""
    rss = anon = threads = fds = ticks = 0
    for one in pids:
        status = lines(f"/proc/{one}/status")
        rss += int(status["VmRSS"])
        threads += int(status["Threads"])
        shared = lines(f"/proc/{one}/smaps_rollup") if len(pids) > 1 else {}
        anon += int(shared.get("Pss_Anon", status["RssAnon"]))
        fds += len(os.listdir(f"/proc/{one}/fd"))
        ticks += sum(map(int, stat(one)[11:13]))
    return {"rss_kib": rss, "rss_anon_kib": anon, "threads": threads, "fds": fds, "cpu_ticks": ticks}


def record(line, build):
    """One trace; ends after its time or with its server."""
    step, seconds = float(line["step_s"]), float(line["seconds"])
    port = free_port()
    env = {**os.environ, "PORT": str(port), "NODE_PATH": f"{build}/node_modules",
           "PATH": f"{build}/bin:{build}:{os.environ['PATH']}",
           "CLASSPATH": f"{build}:{build}/jetty/*:{build}/jars/*"}
    command = line["command"].replace("$PORT", str(port))
    out = HERE / line["split"] / f"{line['name']}.csv"
    out.parent.mkdir(exist_ok=True)
    answered = memoryview(mmap.mmap(-1, 8)).cast("Q")  # shared with the client
    before = (0.0, 0)
    began = time.monotonic()
    server = subprocess.Popen(["sh", "-c", f"exec env {command}"], env=env, cwd=HERE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = os.fork()
    if client == 0:
        load(port, float(line["rps"]), line["bursts"].split(), began, answered)
    columns = line["columns"].split()
    forks = any(one in command for one in ("gunicorn", "nginx", "php -S"))
    try:
        with open(out, "w", buffering=1) as file:
            file.write(",".join(["t_s"] + columns) + "\n")
            due = began
            while time.monotonic() - began < seconds and server.poll() is None:
                t = time.monotonic() - began
                try:
                    row = sample(tree(server.pid) if forks else [server.pid])
                except (FileNotFoundError, KeyError, ProcessLookupError):
                    row = {}  # between fork and exec, or at its end
                if row:
                    now = (t, answered[0])
                    row["load_rps"] = f"{(now[1] - before[1]) / max(t - before[0], 1e-3):.2f}"
                    before = now
                    file.write(f"{t:.1f}," + ",".join(str(row[c]) for c in columns) + "\n")
                due += step
                time.sleep(max(0, due - time.monotonic()))
    finally:
        os.kill(client, signal.SIGKILL)
        os.waitpid(client, 0)
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main():
    build, *names = sys.argv[1:]
    with open(HERE / "corpus.csv", newline="") as file:
        corpus = list(csv.DictReader(file))
    split = names[1] if names[:1] == ["--split"] else None
    children = []
    for line in corpus:
        if line["name"] in names or line["split"] == split:
            child = os.fork()
            if child == 0:
                record(line, build)
                os._exit(0)
            children.append(child)
            time.sleep(0.5)
    for child in children:
        os.waitpid(child, 0)


main()
