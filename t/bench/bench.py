#!/usr/bin/env python3
"""rpd beside its peers on one core: CPU microseconds per answered request, bytes of memory per idle connection. See README here."""
import argparse
import dataclasses
import gzip
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
PROXY_CPU, OTHER_CPU = 0, 1
PORT, ORIGIN, TLSPORT = 18180, 19180, 18543
OWN = "o" * 1024               # what /own answers: a KiB that the proxy itself has


@dataclasses.dataclass(frozen=True)
class Load:
    """One row of the table. To add one: a line in LOADS, what it needs in conf/, and in `without` the peers that cannot take part."""
    path: str
    size: int                  # of the answer's body: checked once before each run
    connections: int
    wrk: tuple = ()            # further arguments of wrk
    idle: bool = False         # memory of connections that wait, instead of time
    floor: tuple = ("pass",)   # the mode of relay.c that is this load's floor; empty: none
    without: tuple = ()
    tls: bool = False          # over TLS
    h2: int = 0                # HTTP/2 with so many requests in flight per connection (h2load)
    shake: str = ""            # a handshake per request: new or resume (shake.c)
    lua: str = ""              # a script of wrk
    warm: int = 0              # seconds of the load before it is measured
    gzip: bool = False         # asked for compressed; size is that of the plain body


MANY = "local i = 0\nrequest = function() i = (i * 7919 + 13) % 20000; return wrk.format(nil, wrk.path .. i) end\n"
PIPELINE = """init = function() local all = {} for i = 1, 16 do all[i] = wrk.format() end sixteen = table.concat(all) end
request = function() return sixteen end
"""
LOADS = {
    "small": Load("/b/200", 200, 64),
    "mid": Load("/b/65536", 65536, 32),
    "large": Load("/b/1048576", 1 << 20, 16),
    # The relay would open a connection to the origin for each client: that is no floor.
    "noka": Load("/b/200", 200, 32, wrk=("-H", "Connection: close"), floor=()),
    "c2000": Load("/b/200", 200, 2000),
    "idle": Load("/b/200", 200, 5000, idle=True, floor=()),
    # Answers from the cache; h2o has none.
    "hit1k": Load("/c/1024/a", 1024, 64, floor=("hit",), without=("h2o",)),
    "hit64k": Load("/c/65536/a", 65536, 32, floor=("hit",), without=("h2o",)),
    "hitmany": Load("/c/2048/", 2048, 64, lua=MANY, warm=2, floor=("hit",), without=("h2o",)),
    "pipeline": Load("/c/1024/a", 1024, 64, lua=PIPELINE, floor=(), without=("h2o",)),
    # varnish compresses for its cache only.
    "gzip": Load("/t/51200", 51200, 16, gzip=True, floor=(), without=("varnish",)),
    "tls1k": Load("/c/1024/a", 1024, 64, tls=True, floor=("tls",), without=("h2o", "varnish")),
    "tls1m": Load("/c/1048576/a", 1 << 20, 16, tls=True, warm=1, floor=(), without=("h2o", "varnish")),
    "tlsown": Load("/own", 1024, 64, tls=True, floor=("tls",), without=("varnish",)),
    "tlslarge": Load("/b/1048576", 1 << 20, 16, tls=True, floor=(), without=("varnish",)),
    "tlsproxy": Load("/b/200", 200, 64, tls=True, floor=(), without=("varnish",)),
    "shake": Load("/own", 1024, 4, tls=True, shake="new", floor=("tls",), without=("varnish",)),
    "resume": Load("/own", 1024, 4, tls=True, shake="resume", floor=("tls",), without=("varnish",)),
    "h2hit": Load("/c/1024/a", 1024, 16, tls=True, h2=32, floor=(), without=("h2o", "varnish")),
    "h2own": Load("/own", 1024, 16, tls=True, h2=32, floor=(), without=("varnish",)),
    "h2proxy": Load("/b/200", 200, 16, tls=True, h2=32, floor=(), without=("varnish",)),
    "idletls": Load("/b/200", 200, 3000, idle=True, tls=True, floor=(), without=("varnish",)),
}
PEERS = ("nginx", "haproxy", "h2o", "varnish")


class Broken(Exception):
    """A proxy that does not start, dies, or answers nonsense: its figure is missing, the rest goes on."""


def program(*names):
    """The first of: the environment's NAME, NAME on the path or in /usr/sbin."""
    found = os.environ.get(names[0].upper())
    for name in names:
        found = found or shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return found


def rpd_binary():
    candidates = [os.environ.get("RPD"), TOP / "build/sbin/rpd", TOP / "build/rpd"]
    for one in candidates:
        if one and os.access(one, os.X_OK):
            return str(one)
    return None


def command(proxy, load, directory, tools, args):
    """How a proxy is started for a load, its configuration written into directory. None: not installed."""
    def conf(name, source=None):
        text = pathlib.Path(source or HERE / "conf" / name).read_text()
        for key, value in (("DIR", directory), ("SHM", directory), ("PORT", PORT), ("ORIGIN", ORIGIN), ("TLSPORT", TLSPORT), ("OWN", OWN),
                           ("CERT", f"{tools}/cert.pem"), ("KEY", f"{tools}/key.pem"), ("PEM", f"{tools}/both.pem"), ("WWW", f"{tools}/www")):
            text = text.replace(f"@{key}@", str(value))
        path = pathlib.Path(directory) / name
        path.write_text(text)
        return str(path)

    if proxy == "relay":
        mode = load.floor[0]
        if mode == "tls":
            return [f"{tools}/tls_floor", str(TLSPORT), f"{tools}/cert.pem", f"{tools}/key.pem", str(load.size)]
        return [f"{tools}/relay", mode, str(PORT), str(load.size if mode == "hit" else ORIGIN)]
    if proxy in ("rpd", "old"):
        binary = rpd_binary() if proxy == "rpd" else args.old
        return binary and [binary, "-F", "-c", conf("rpd.ini", os.environ.get("RPD_INI"))]
    binary = program("varnishd" if proxy == "varnish" else proxy)
    if not binary:
        return None
    if proxy == "nginx":
        return [binary, "-e", f"{directory}/error.log", "-c", conf("nginx.conf")]
    if proxy == "haproxy":
        return [binary, "-db", "-f", conf("haproxy.cfg")]
    if proxy == "h2o":
        return [binary, "-c", conf("h2o.conf")]
    return [binary, "-F", "-n", f"{directory}/varnish", "-a", f"127.0.0.1:{PORT}", "-f", conf("varnish.vcl"), "-s", "malloc,1g",
            "-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "thread_pool_max=4000", "-p", "timeout_idle=300"]


def processes():
    """{pid: (parent, start time)} of everything that runs."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[int(entry)] = (int(stat[1]), stat[19])
    return found


def family(pid):
    """{pid: start time} of a process and of everything below it."""
    everything = processes()
    found, todo = {}, [pid]
    while todo:
        one = todo.pop()
        if one in everything and one not in found:
            found[one] = everything[one][1]
            todo += [p for p, (parent, _) in everything.items() if parent == one]
    return found


def cpu_seconds(pid):
    """User and system time of all threads of all processes, from the scheduler's nanoseconds."""
    total = 0
    for one in family(pid):
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                total += int(pathlib.Path(f"/proc/{one}/task/{task}/schedstat").read_text().split()[0])
        except OSError:
            pass
    return total / 1e9


def memory_bytes(pid):
    """What the processes hold of their own (anonymous and shared memory), swapped out or not. Pages of files come and go with the
    kernel's mood: they are not counted."""
    total = 0
    for one in family(pid):
        try:
            text = pathlib.Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(kib) for kib in re.findall(r"^(?:Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+)", text, re.M)) * 1024
    return total


def dial(load):
    """A connection as the load has them."""
    connection = socket.create_connection(("127.0.0.1", TLSPORT if load.tls else PORT), 10)
    if not load.tls:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname="bench.test")


def ask(connection, load):
    """One keep-alive request on the connection; the answer must be 200 and complete. Returns the connection."""
    connection.sendall(f"GET {load.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65536)
        if not piece:
            raise OSError("closed before an answer")
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    if not re.match(rb"HTTP/1\.1 200\b", head):
        raise OSError(f"answered {head.splitlines()[0]!r}")
    left = load.size - len(body)
    while left > 0:
        piece = connection.recv(min(left, 65536))
        if not piece:
            raise OSError("closed within the answer")
        left -= len(piece)
    return connection


def ask_gzip(load):
    """The same for a compressed answer, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    try:
        connection.request("GET", load.path, headers={"Accept-Encoding": "gzip"})
        got = connection.getresponse()
        if got.status != 200 or got.getheader("Content-Encoding") != "gzip":
            raise OSError(f"answered {got.status}, Content-Encoding {got.getheader('Content-Encoding')}")
        if len(gzip.decompress(got.read())) != load.size:
            raise OSError("the body is another one")
    except http.client.HTTPException as e:
        raise OSError(repr(e)) from e
    finally:
        connection.close()


class Running:
    """A proxy on its CPU from enter to exit; it leaves neither processes nor files."""

    def __init__(self, proxy, load, tools, args):
        self.load = load
        # In memory: files of caches belong there.
        self.directory = tempfile.mkdtemp(prefix=f"bench-{proxy}-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        os.chmod(self.directory, 0o777)  # workers that drop root write here, too
        self.command = command(proxy, load, self.directory, tools, args)

    def __enter__(self):
        with open(f"{self.directory}/output", "wb") as output:
            self.process = subprocess.Popen(["taskset", "-c", str(PROXY_CPU), *self.command], stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=output, start_new_session=True)
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait(self):
        """Until one whole answer came through it."""
        why, end = "", time.monotonic() + 20
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Broken("it ended: " + pathlib.Path(f"{self.directory}/output").read_text(errors="replace")[-2000:])
            try:
                with dial(self.load) as connection:
                    ask(connection, self.load)
                if self.load.gzip:
                    ask_gzip(self.load)
                return
            except OSError as e:
                why = str(e)
                time.sleep(0.05)
        raise Broken(f"no good answer within 20 s: {why}")

    def __exit__(self, *_):
        members = family(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        # What is left of exactly those processes; a pid that was given to somebody else has another start time.
        alive = processes()
        for pid, start in members.items():
            if alive.get(pid, (0, None))[1] == start:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def generator(load, seconds, tools):
    """The command that makes the load."""
    url = (f"https://127.0.0.1:{TLSPORT}" if load.tls else f"http://127.0.0.1:{PORT}") + load.path
    if load.shake:
        return [f"{tools}/shake", str(TLSPORT), str(seconds), load.shake, load.path, str(load.connections)]
    if load.h2:
        return ["h2load", "-t1", f"-c{load.connections}", f"-m{load.h2}", f"-D{seconds}", url]
    script = []
    if load.lua:
        pathlib.Path(tools, "load.lua").write_text(load.lua)
        script = ["-s", f"{tools}/load.lua"]
    return ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "10s", *script, *load.wrk,
            *(("-H", "Accept-Encoding: gzip") if load.gzip else ()), url]


def answered(load, text):
    """(requests that had a good answer, what went wrong), from what the generator printed"""
    if load.shake:
        n, resumed, failed = map(int, re.search(r"(\d+) connections, (\d+) resumed, (\d+) failed", text).groups())
        wrong = [f"{failed} failed"] if failed else []
        if n and (resumed > n * 0.9) != (load.shake == "resume"):
            wrong.append(f"{resumed} of {n} were resumed")
        return n, "; ".join(wrong)
    if load.h2:
        n = int(re.search(r"(\d+) succeeded", text).group(1))
        wrong = re.findall(r"([1-9]\d* (?:failed|errored|timeout))\b", text) + re.findall(r"([1-9]\d* [345]xx)", text)
        return n, "; ".join(wrong)
    n = int(re.search(r"(\d+) requests in", text).group(1))
    return n, "; ".join(re.findall(r"(Non-2xx or 3xx responses: \d+|Socket errors: .*)", text))


def measure_time(running, load, seconds, tools):
    """(CPU microseconds per answered request, requests per second, what went wrong)"""
    pid = running.process.pid
    if load.warm:
        subprocess.run(generator(load, load.warm, tools), capture_output=True, check=True)
    before = cpu_seconds(pid)
    text = subprocess.run(generator(load, seconds, tools), capture_output=True, text=True, check=True).stdout
    used = cpu_seconds(pid) - before
    requests, wrong = answered(load, text)
    if not requests:
        raise Broken("no request was answered")
    return used / requests * 1e6, requests / seconds, wrong


def measure_idle(running, load):
    """(bytes per connection that has had one answer and waits, 0, what went wrong)"""
    pid = running.process.pid
    before = memory_bytes(pid)
    held = [ask(dial(load), load) for _ in range(load.connections)]
    # Memory is looked at when it stands still: some give buffers back a moment later.
    last, end = [], time.monotonic() + 30
    while len(last) < 40 or len(set(last[-30:])) > 1:
        if time.monotonic() > end:
            break
        last.append(memory_bytes(pid))
        time.sleep(0.05)
    closed = 0
    for one in held:
        one.setblocking(False)
        try:
            closed += one.recv(1) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            closed += 1
        one.close()
    return (last[-1] - before) / load.connections, 0, f"{closed} connections were closed meanwhile" if closed else ""


def measure(proxy, load, tools, args):
    try:
        with Running(proxy, load, tools, args) as running:
            figure, rate, wrong = measure_idle(running, load) if load.idle else measure_time(running, load, args.seconds, tools)
    except (Broken, OSError, subprocess.CalledProcessError) as e:
        return {"figure": None, "rate": 0, "wrong": str(e)}
    return {"figure": figure, "rate": rate, "wrong": wrong}


def ratio(median, other, note):
    if "rpd" not in median or median.get(other, 0) <= 0:
        return f"{'-':>6} {'':10}"
    return f"{median['rpd'] / median[other]:6.2f} {note:10}"


def row(name, columns, samples):
    """A line of the table and, below it, everything that went wrong."""
    median, cells, wrong = {}, [], []
    for proxy in columns:
        figures = [s["figure"] for s in samples.get(proxy, []) if s["figure"] is not None]
        if figures:
            median[proxy] = statistics.median(figures)
        bad = sorted({s["wrong"] for s in samples.get(proxy, []) if s["wrong"]})
        cells.append((f"{median[proxy]:.1f}" if figures else "-") + ("!" if bad else " "))
        wrong += [f"    ! {proxy}: {text}" for text in bad]
    peers = [p for p in PEERS if median.get(p, 0) > 0]
    best = min(peers, key=median.get) if peers else None
    ratios = [ratio(median, best, f"({best})"), ratio(median, "relay", "")]
    return f"{name:8}" + "".join(f"{c:>11}" for c in cells) + f"  {ratios[0]} {ratios[1].rstrip()}\n" + "".join(w + "\n" for w in wrong)


def build(tools):
    for tool in ("origin", "relay"):
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", f"{tools}/{tool}", str(HERE / f"{tool}.c")], check=True)


def build_tls(tools):
    """What loads over TLS need besides: their tools, a certificate, and /own as a file for those who serve files."""
    for tool in ("shake", "tls_floor"):
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", f"{tools}/{tool}", str(HERE / f"{tool}.c"), "-lssl", "-lcrypto"], check=True)
    cert, key, www = pathlib.Path(tools, "cert.pem"), pathlib.Path(tools, "key.pem"), pathlib.Path(tools, "www")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", "/CN=bench.test", "-addext", "subjectAltName=DNS:bench.test,IP:127.0.0.1", "-out", cert, "-keyout", key],
                   check=True, capture_output=True)
    pathlib.Path(tools, "both.pem").write_text(cert.read_text() + key.read_text())
    www.mkdir()
    (www / "own").write_text(OWN)
    for path in (pathlib.Path(tools), www, www / "own", cert, key, pathlib.Path(tools, "both.pem")):
        path.chmod(0o755)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="relay,rpd," + ",".join(PEERS), help="which proxies, in the order of the columns")
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--seconds", type=int, default=4, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--old", help="another build of rpd: the column `old`")
    parser.add_argument("--json", help="file for every single figure")
    args = parser.parse_args()
    args.columns = args.peers.split(",") + (["old"] if args.old and "old" not in args.peers.split(",") else [])
    args.names = args.loads.split(",")
    unknown = [n for n in args.names if n not in LOADS] + [c for c in args.columns if c not in ("relay", "rpd", "old", *PEERS)]
    if unknown:
        parser.error("unknown: " + " ".join(unknown))
    if not {PROXY_CPU, OTHER_CPU} <= os.sched_getaffinity(0):
        parser.error(f"needs CPUs {PROXY_CPU} and {OTHER_CPU}")
    tools = ["wrk", "taskset", "cc", "openssl"] + (["h2load"] if any(LOADS[n].h2 for n in args.names) else [])
    missing = [t for t in tools if not shutil.which(t)]
    if missing:
        parser.error("needs " + " ".join(missing))
    for port in (PORT, ORIGIN, TLSPORT):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                parser.error(f"port {port} of 127.0.0.1 is in use")
    return args


def run(args, tools):
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        absent = [c for c in args.columns if not command(c, LOADS["small"], scratch, tools, args)]
    if absent:
        print("not installed:", *absent, flush=True)
    columns = [c for c in args.columns if c not in absent]
    everything = {}
    print(f"{'':8}" + "".join(f"{c:>10} " for c in columns) + "  rpd / best peer    rpd / relay", flush=True)
    for name in args.names:
        load, samples = LOADS[name], {}
        for _ in range(1 if load.idle else args.rounds):
            for proxy in columns:  # in turns, so that a drift of the machine meets all of them
                if proxy not in load.without and (proxy != "relay" or load.floor):
                    samples.setdefault(proxy, []).append(measure(proxy, load, tools, args))
        everything[name] = samples
        print(row(name, columns, samples), end="", flush=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(everything, indent=1) + "\n")


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.sched_setaffinity(0, {OTHER_CPU})  # ours, the origin's and the load generator's
    print(f"load average {os.getloadavg()[0]:.2f}; {args.rounds} rounds of {args.seconds} s; µs of CPU per request, "
          "idle: bytes per connection")
    with tempfile.TemporaryDirectory(prefix="bench-") as tools:
        build(tools)
        build_tls(tools)
        origin = subprocess.Popen([f"{tools}/origin", str(ORIGIN)])
        try:
            run(args, tools)
        finally:
            origin.kill()
            origin.wait()
    print(f"load average {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
