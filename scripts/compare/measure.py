"""Runs the work of each client against stubs of its own, in turns, and prints or writes what it took. `run` starts it."""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass

import plots

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "../../docs/performance.md")
OURS, FLOOR = "tinkex", "floor"
# Results are held until the work releases them, and as many samples as it likes are in flight.
HELD = ["--stub-delay-ms", "100000000", "--flag", "sample_max_concurrent_requests=1000000", "--max-connections", "100000"]
DELAYED = ["--stub-delay-ms", "50", "--max-connections", "100000"]
PATIENCE = 1800
# From this version on, the official client sends passes in protobuf only; older ones send JSON only.
SENDS_PROTOBUF = (0, 38)


@dataclass
class Work:
    name: str
    words: str
    stub: tuple = ()
    has_floor: bool = False
    # The formats that the server takes. The newest servers take passes in protobuf only, as the newest official client sends them.
    wire: str = "protobuf"
    official: bool = True
    # Takes so long that it is done only once.
    once: bool = False


WORKS = [
    Work("start to the first accepted request", "start"),
    Work("`forward_backward` 128 × 4096", "pass 128 4096 5", has_floor=True),
    Work("the same, with a server that takes both formats", "pass 128 4096 5", wire="both"),
    Work("the same in JSON", "pass 128 4096 5", has_floor=True, wire="json", official=False),
    Work("`forward_backward` 1 × 32 768", "pass 1 32768 20", has_floor=True),
    Work("`forward_backward` 1024 × 64", "pass 1024 64 10", has_floor=True),
    Work("a result of 500 000 logprobs", "result 125 4000", stub=HELD, has_floor=True),
    Work("such a result in JSON", "result 125 4000", stub=HELD, has_floor=True, wire="json", official=False),
    Work("4 000 samples of 50 ms, 400 at a time", "samples 4000 400", stub=DELAYED, has_floor=True),
    Work("a sample of a 32 000-token prompt", "prompt 32000 20", has_floor=True),
    Work("400 samples at once, 10 rounds", "rounds 4000 400", stub=DELAYED),
    # The official client has a connection for each, and a process has at most 20 000 on many machines.
    Work("an unresolved future of 10 000", "futures 10000", stub=HELD, once=True),
    Work("an unresolved future of 100 000", "futures 100000", stub=HELD, once=True, official=False),
    Work("a second of an idle session", "idle 10", once=True),
]

# How cost grows: the name of the plot, its axis, what the numbers are of, and the work for each number.
SERIES = [
    ("batch", "datums of 1024 tokens", "a forward_backward", [1, 8, 32, 128, 512], "pass {} 1024 5", ()),
    ("concurrency", "samples of 50 ms at a time", "2 000 samples", [10, 50, 200, 400, 1000], "samples 2000 {}", DELAYED),
    ("prompt", "tokens of the prompt", "a sample", [1000, 4000, 16000, 64000], "prompt {} 10", ()),
    ("futures", "unresolved futures", "a future", [500, 2000, 8000], "futures {}", HELD),
]

# Name of the work, who is compared, what of it, and the least ratio to this crate, or the largest of this crate to it.
GOALS = [
    ("`forward_backward` 128 × 4096", "official", "cpu", 8),
    ("`forward_backward` 128 × 4096", "official", "peak", 10),
    ("`forward_backward` 128 × 4096", FLOOR, "cpu", 1.5),
    ("the same in JSON", FLOOR, "cpu", 1.1),
    ("a result of 500 000 logprobs", "official", "cpu", 2),
    ("a result of 500 000 logprobs", FLOOR, "cpu", 1.2),
    ("`forward_backward` 1024 × 64", "official", "cpu", 8),
    ("`forward_backward` 1024 × 64", FLOOR, "cpu", 1.3),
    ("4 000 samples of 50 ms, 400 at a time", "official", "cpu", 25),
    ("4 000 samples of 50 ms, 400 at a time", "official", "wall", 15),
    ("4 000 samples of 50 ms, 400 at a time", FLOOR, "cpu", 1.2),
    ("an unresolved future of 10 000", "official", "peak", 60),
    ("a second of an idle session", "official", "peak", 18),
]
LIMITS = [
    ("an unresolved future of 10 000", "peak", 1024),
    ("an unresolved future of 100 000", "peak", 1024),
    ("an unresolved future of 10 000", "cpu", 40e-6),
    ("a second of an idle session", "peak", 4_500_000),
]
WORDS = {"cpu": "CPU", "wall": "wall", "peak": "memory"}


def seconds(value):
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1:
            break
    return f"{value * factor:.3g} {unit}"


def size(value):
    for factor, unit in ((1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"


SHOWN = {"wall": seconds, "cpu": seconds, "peak": size, "received": size, "sent": size}


@contextmanager
def started_stub(program, options):
    """The URL of a server of one run."""
    with tempfile.TemporaryFile() as errors:
        command = [program, "serve", "--port", "0", "--stub", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            line = process.stdout.readline()
            if not line:
                process.wait()
                errors.seek(0)
                sys.exit(f"compare: the stub did not start: {' '.join(command)}\n{errors.read().decode()}")
            yield line.split()[-1]
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def counts(url):
    with urllib.request.urlopen(f"{url}/stub") as response:
        return json.load(response)


def sends_protobuf(version):
    return tuple(int(part) for part in version.split(".")[:2]) >= SENDS_PROTOBUF


class Clients:
    def __init__(self, options):
        self.options = options
        self.names = [OURS, FLOOR, *options.version]
        self.has_failed = False

    def command(self, name, words):
        if name == OURS:
            return [f"{self.options.programs}/ours", *words]
        if name == FLOOR:
            return [f"{self.options.programs}/ours", "floor-" + words[0], *words[1:]]
        return [f"{self.options.programs}/{name}/bin/python", f"{HERE}/work.py", *words]

    def does(self, name, work):
        return {OURS: True, FLOOR: work.has_floor}.get(name, work.official)

    def measure(self, name, work):
        """What one run took: for each call, except connections; None if it failed."""
        wire = work.wire
        if name not in (OURS, FLOOR) and not sends_protobuf(name):
            wire = "json"
        with started_stub(self.options.stub, ["--wire", wire, *work.stub]) as url:
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": self.options.programs,
                "TINKER_BASE_URL": url,
                "TINKER_API_KEY": "tml-compare",
                "TINKER_TELEMETRY": "0",
                "TINKER_WIRE": "json" if wire == "json" else "auto",
                "PYTHONWARNINGS": "ignore",
                "PYTHONDONTWRITEBYTECODE": "1",
                # Old versions import torch, for which there is a stub.
                "PYTHONPATH": f"{HERE}/../conformance/stubs",
            }
            with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
                began = time.perf_counter()
                command = self.command(name, work.words.split())
                child = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
                end = threading.Timer(PATIENCE, child.kill)
                end.daemon = True
                end.start()
                try:
                    # Also what the process as a whole took.
                    _, child.returncode, used = os.wait4(child.pid, 0)
                finally:
                    end.cancel()
                    child.kill()
                    child.wait()
                wall = time.perf_counter() - began
                output.seek(0)
                errors.seek(0)
                if child.returncode != 0:
                    about = errors.read().decode()[-2000:]
                    print(f"compare: {name} failed: {work.words}\n{about}", file=sys.stderr)
                    self.has_failed = True
                    return None
                measured = json.load(output)
            counted = counts(url)
        calls = measured.get("calls", 1)
        whole = {"wall": wall, "cpu": used.ru_utime + used.ru_stime}
        measured = {**whole, **measured}
        measured.update({key: counted[key] / calls for key in ("received", "sent", "requests")})
        # One more is that of the counts.
        measured["accepted"] = counted["accepted"] - measured["own_connections"] - 1
        return measured


def medians(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]} if runs else None


def measure_all(clients, options):
    """The medians of each work, by its name and the client. The runs of the clients alternate, so that a busy time slows all."""
    runs = {}
    works = [work for work in WORKS if options.only in work.name]
    for index in range(options.runs):
        for work in works:
            for name in clients.names:
                if clients.does(name, work) and (index == 0 or not work.once):
                    measured = clients.measure(name, work)
                    runs.setdefault((work.name, name), []).extend([measured] if measured else [])
        print(f"compare: run {index + 1} of {options.runs} is done", file=sys.stderr)
    return {key: medians(values) for key, values in runs.items()}


def ratio(value):
    return f"{value:.2g}×" if value < 10 else f"{value:.0f}×"


def beside(value, ours):
    """How many times ours, in brackets, if both did something of the kind."""
    return f" ({ratio(value / ours)})" if ours and 0.01 < value / ours < 10_000 else ""


def table(measured, clients):
    """A row for each work and client. In brackets: how many times that of this crate."""
    yield "| work | client | wall | CPU | memory | sent | received | connections |"
    yield "|---|---|---|---|---|---|---|---|"
    for work in WORKS:
        ours, title = measured.get((work.name, OURS)), work.name
        for name in clients.names:
            values = measured.get((work.name, name))
            if not values:
                continue
            cells, title = [title, name], ""
            for key, show in SHOWN.items():
                cells.append(show(values[key]) + (beside(values[key], ours[key]) if name != OURS and ours else ""))
            yield f"| {' | '.join(cells)} | {values['accepted']:.0f} |"


def goals(measured, newest, only):
    """A row for each goal of the work that has this word."""
    yield "| work | goal | measured | |"
    yield "|---|---|---|---|"
    for work, other, key, bound in GOALS:
        if only not in work:
            continue
        is_floor = other == FLOOR
        ours, other = measured.get((work, OURS)), measured.get((work, other if is_floor else newest))
        goal = f"{WORDS[key]} ≤ {bound} × the floor" if is_floor else f"≥ {bound} times less {WORDS[key]} than {newest}"
        if not ours or not other or not ours[key] or not other[key]:
            yield f"| {work} | {goal} | not measured | |"
            continue
        value = ours[key] / other[key] if is_floor else other[key] / ours[key]
        yield f"| {work} | {goal} | {ratio(value)} | {verdict(value <= bound if is_floor else value >= bound)} |"
    for work, key, bound in LIMITS:
        if only not in work:
            continue
        ours, show = measured.get((work, OURS)), SHOWN[key]
        value, met = (show(ours[key]), verdict(ours[key] <= bound)) if ours else ("not measured", "")
        yield f"| {work} | {WORDS[key]} ≤ {show(bound)} | {value} | {met} |"


def verdict(is_met):
    return "" if is_met else "missed"


def machine():
    with open("/proc/cpuinfo") as lines:
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]
    return (
        f"{os.cpu_count()} processors ({model}), {memory:.0f} GiB, Linux {platform.release()}; rustc {rustc}, "
        f"Python {platform.python_version()}; {time.strftime('%Y-%m-%d')}."
    )


def drawn(clients):
    """What the plots of how cost grows show: their name, axis, unit and lines."""
    for name, axis, each, numbers, words, stub in SERIES:
        lines = {}
        for client in clients.names:
            if client == FLOOR:
                continue
            for number in numbers:
                measured = clients.measure(client, Work(name, words.format(number), stub=stub))
                if measured:
                    for key in ("cpu", "peak"):
                        lines.setdefault(key, {}).setdefault(client, []).append((number, measured[key]))
        yield name, axis, each, lines


def renew(tables):
    """Puts each table between its marks in the page."""
    with open(PAGE) as file:
        page = file.read()
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, rest = page.split(begin)
        page = before + begin + "".join(line + "\n" for line in lines) + end + rest.split(end)[1]
    with open(PAGE, "w") as file:
        file.write(page)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", required=True)
    parser.add_argument("--stub", required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--version", action="append", default=[])
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write renews whole tables: leave --only out")
    if options.write and not options.version:
        parser.error("--write needs the official client beside")
    # Ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    clients = Clients(options)
    measured = measure_all(clients, options)
    tables = {"machine": [machine()], "table": list(table(measured, clients))}
    if options.version:
        tables["goals"] = list(goals(measured, options.version[0], options.only))
    print("\n\n".join("\n".join(lines) for lines in tables.values()))
    plotted = list(drawn(clients)) if options.write and not clients.has_failed else []
    if clients.has_failed:
        sys.exit("compare: some of the work failed" + (", so that nothing is written" if options.write else ""))
    if options.write:
        for name, axis, each, lines in plotted:
            plots.write(os.path.join(os.path.dirname(PAGE), f"performance/{name}.svg"), axis, each, lines)
        renew(tables)


main()
