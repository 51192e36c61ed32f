#!/usr/bin/env python3
"""rpd beside its peers: CPU microseconds per proxied request, and bytes of memory per idle connection. See README here."""
import argparse
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PORT, ORIGIN = 18180, 19180
# name: path, connections, further arguments of wrk
LOADS = {
    "small": ("/b/200", 64, []),
    "mid": ("/b/65536", 32, []),
    "large": ("/b/1048576", 16, []),
    "noka": ("/b/200", 32, ["-H", "Connection: close"]),
    "c2000": ("/b/200", 2000, []),
    "idle": ("/b/200", 5000, []),
}


def command(peer, directory, args):
    """How a peer is started; None when it is not installed."""
    def conf(name):
        text = (HERE / "conf" / name).read_text()
        for key, value in (("DIR", directory), ("PORT", PORT), ("ORIGIN", ORIGIN)):
            text = text.replace(f"@{key}@", str(value))
        path = pathlib.Path(directory) / name
        path.write_text(text)
        return str(path)

    programs = {"nginx": "nginx", "haproxy": "haproxy", "h2o": "h2o", "varnish": "varnishd"}
    if peer in programs:
        program = os.environ.get(peer.upper()) or shutil.which(programs[peer]) or shutil.which(f"/usr/sbin/{programs[peer]}")
        if not program:
            return None
    if peer == "rpd":
        return [args.rpd, "-F", "-c", args.conf or conf("rpd.conf")]
    if peer == "old":
        return [args.old, "-F", "-c", args.conf or conf("rpd.conf")]
    if peer == "relay":
        return [f"{args.tools}/relay", str(PORT), str(ORIGIN)]
    if peer == "nginx":
        return [program, "-e", f"{directory}/error.log", "-c", conf("nginx.conf")]
    if peer == "haproxy":
        return [program, "-db", "-f", conf("haproxy.cfg")]
    if peer == "h2o":
        return [program, "-c", conf("h2o.conf")]
    return [program, "-F", "-n", f"{directory}/v", "-a", f"127.0.0.1:{PORT}", "-f", conf("varnish.vcl"), "-s", "malloc,1g",
            "-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "thread_pool_max=3000", "-p", "timeout_idle=300"]


def family(pid):
    """The process and everything below it."""
    below = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            below.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += below.get(one, [])
    return found


def cpu_seconds(pid):
    total = 0
    for one in family(pid):
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                total += int(pathlib.Path(f"/proc/{one}/task/{task}/schedstat").read_text().split()[0])
        except OSError:
            pass
    return total / 1e9


def memory_bytes(pid):
    total = 0
    for one in family(pid):
        try:
            text = pathlib.Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(kib) for kib in re.findall(r"^Pss:\s+(\d+)", text, re.M)) * 1024
    return total


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"timed out: {what}")
        time.sleep(0.02)


def answers():
    try:
        ask(socket.create_connection(("127.0.0.1", PORT), 1)).close()
        return True
    except (OSError, ValueError):
        return False


def ask(connection, path="/b/200"):
    """One keep-alive request; the answer is read to its end."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65536)
        if not piece:
            raise OSError("closed")
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    if not head.startswith(b"HTTP/1.1 200") or not length:
        raise ValueError(head)
    left = int(length.group(1)) - len(body)
    while left > 0:
        left -= len(connection.recv(65536))
    return connection


class Running:
    def __init__(self, peer, args):
        self.directory = tempfile.mkdtemp(prefix=f"bench-{peer}-")
        os.chmod(self.directory, 0o777)
        self.command = command(peer, self.directory, args)

    def __enter__(self):
        self.output = open(f"{self.directory}/output", "w")
        self.process = subprocess.Popen(["taskset", "-c", "0"] + self.command, stdout=self.output, stderr=self.output)

        def ready():
            if self.process.poll() is not None:
                raise RuntimeError(pathlib.Path(f"{self.directory}/output").read_text()[-2000:])
            return answers()
        until(ready, 20, "start")
        return self

    def __exit__(self, *_):
        pids = family(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def measure(running, load, seconds):
    path, connections, more = LOADS[load]
    pid = running.process.pid
    if load == "idle":
        before = memory_bytes(pid)
        held = [ask(socket.create_connection(("127.0.0.1", PORT), 10), path) for _ in range(connections)]
        # Memory is looked at when it stands still.
        last = []

        def still():
            last.append(memory_bytes(pid))
            return len(last) > 25 and len(set(last[-20:])) == 1
        until(still, 30, "memory to stand still")
        for one in held:
            one.close()
        return (last[-1] - before) / connections, ""
    wrk = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", *more,
           f"http://127.0.0.1:{PORT}{path}"]
    before = cpu_seconds(pid)
    text = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
    used = cpu_seconds(pid) - before
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    bad = "; ".join(re.findall(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", text))
    return used / max(requests, 1) * 1e6, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rpd", default=str(HERE.parent.parent / "build" / "sbin" / "rpd"))
    parser.add_argument("--old", help="another build of rpd, as the peer `old`")
    parser.add_argument("--conf", help="configuration of rpd instead of conf/rpd.conf")
    parser.add_argument("--peers", default="relay,rpd,nginx,haproxy,h2o,varnish")
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as args.tools:
        for tool in ("origin", "relay"):
            subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", f"{args.tools}/{tool}", str(HERE / f"{tool}.c")], check=True)
        peers = [p for p in args.peers.split(",") if (p != "old" or args.old) and command(p, args.tools, args)]
        origin = subprocess.Popen(["taskset", "-c", "1", f"{args.tools}/origin", str(ORIGIN)])
        try:
            print(f"{'':8}" + "".join(f"{p:>12}" for p in peers), flush=True)
            for load in args.loads.split(","):
                figures = {p: [] for p in peers}
                wrong = {}
                # Peers take turns, so that a drift of the machine meets all of them.
                for _ in range(1 if load == "idle" else args.rounds):
                    for peer in peers:
                        if (load, peer) == ("idle", "relay"):
                            continue
                        with Running(peer, args) as running:
                            figure, bad = measure(running, load, args.seconds)
                        figures[peer].append(figure)
                        if bad:
                            wrong[peer] = bad
                row = "".join(f"{statistics.median(v):12.1f}" if v else f"{'-':>12}" for v in figures.values())
                print(f"{load:8}{row}", flush=True)
                for peer, bad in wrong.items():
                    print(f"        {peer}: {bad}")
        finally:
            origin.kill()


if __name__ == "__main__":
    sys.exit(main())
