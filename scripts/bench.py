# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""What the data path costs: see `scripts/bench`.

epp-pd is measured from outside: the processor time of its process, by the scheduler's own account of its threads
(/proc/PID/task/*/schedstat), divided by answers that carry a destination. The thread that scrapes model servers has a row of
its own and is left out of the others. Rounds of what is compared alternate; a figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Tests" / "EndToEnd"))

import rig  # noqa: E402
from rig import HOST, ROOT, Envoy, Picker, Process  # noqa: E402

MODEL = "bench-model"
RELEASE = ROOT / ".build" / "release"
BENCH = RELEASE / "epp-pd-bench"
SHARED = Path(os.environ.get("EPP_PD_SHARED", ROOT.parent / "shared"))
SERVICE = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
SCRAPER = "fleet"
SMALL, LARGE, LONG = 2_048, 1 << 20, 400 << 10


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# MARK: measuring


def threads(pid: int) -> dict[str, int]:
    """Nanoseconds on a processor since the start, by thread name."""
    times: dict[str, int] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            times[name] = times.get(name, 0) + int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return times


@dataclass
class Used:
    """Processor seconds of a process between two moments."""

    path: float
    scraping: float

    @property
    def all(self) -> float:
        return self.path + self.scraping


class Clock:
    """Processor time of a process from now on."""

    def __init__(self, process: Process):
        self.pid = process.child.pid
        self.before = threads(self.pid)

    def used(self) -> Used:
        now = threads(self.pid)
        grown = {name: (now[name] - self.before.get(name, 0)) / 1e9 for name in now}
        scraping = grown.pop(SCRAPER, 0.0)
        return Used(sum(grown.values()), scraping)


def jiffies() -> tuple[float, float]:
    """Busy and stolen processor seconds of the machine."""
    fields = [int(v) for v in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    tick = os.sysconf("SC_CLK_TCK")
    return (sum(fields[:3]) + sum(fields[5:7])) / tick, fields[7] / tick


class Noise:
    """What else the machine did meanwhile."""

    def __init__(self):
        self.start, self.own = time.monotonic(), os.times()
        self.busy, self.stolen = jiffies()

    def report(self) -> dict:
        wall = time.monotonic() - self.start
        busy, stolen = jiffies()
        now = os.times()
        # Children are counted once they were waited for: all of a row's are, at its end.
        own = sum(now[:4]) - sum(self.own[:4])
        return {
            "seconds": round(wall, 1),
            "others_cores": round(max(0.0, busy - self.busy - own) / wall, 2),
            "stolen_cores": round((stolen - self.stolen) / wall, 3),
            "load_average": os.getloadavg()[0],
        }


# MARK: the parts


def metrics_page() -> Path:
    real = SHARED / "samples" / "vllm" / "metrics-idle-after-load.txt"
    return real if real.exists() else ROOT / "Tests" / "Fixtures" / "vllm" / "metrics-idle-after-load.txt"


class Upstream:
    """Model servers on ports in a row."""

    def __init__(self, folder: Path, pods: int, page: Path | None = None, *flags: str):
        self.pods = pods
        self.port = rig.free_ports(pods)
        if page is None:
            page = folder / "page.txt"
            page.write_text(
                f'vllm:num_requests_running{{engine="0",model_name="{MODEL}"}} 0.0\n'
                f'vllm:num_requests_waiting{{engine="0",model_name="{MODEL}"}} 0.0\n'
                f'vllm:kv_cache_usage_perc{{engine="0",model_name="{MODEL}"}} 0.0\n'
            )
        argv = [BENCH, "upstream", "--port", self.port, "--pods", pods, "--model", MODEL, "--page", page, *flags]
        self.process = Process(f"upstream-{self.port}", argv, folder)
        self.process.ready(lambda: self.stats() is not None)

    def stats(self) -> dict:
        return json.loads(rig.http_get(self.port, "/bench/stats")[1])

    def fleet(self) -> dict:
        return {
            "endpoints": [
                {"name": "pod", "address": HOST, "port": self.port, "count": self.pods, "role": "both",
                 "accelerator": "h100-sxm", "model": "llama-3.1-8b", "servedModels": [MODEL]}
            ]
        }  # fmt: skip


def tuned(config: dict) -> None:
    """No access log: writing it would be measured as Envoy's."""
    rig.connection_manager(config).pop("access_log", None)


class Stage:
    """Processes of one row, ended together."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.parts: list[Process] = []
        self.count = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}-{self.count}"

    def upstream(self, pods: int, page: Path | None = None, *flags: str) -> Upstream:
        upstream = Upstream(self.folder, pods, page, *flags)
        self.parts.append(upstream.process)
        return upstream

    def picker(self, upstream: Upstream, *flags: str, secure: bool = False) -> Picker:
        picker = Picker(self.folder, upstream.fleet(), "--v=0", *flags, name=self.name("picker"), secure=secure)
        self.parts.append(picker.process)
        rig.wait_until(lambda: picker.metrics().sum("epp_pd_pool_endpoints_available") == upstream.pods, "all pods")
        return picker

    def echo(self, upstream: Upstream, *flags: str) -> tuple[Process, int]:
        port = rig.free_port()
        argv = [BENCH, "echo", "--port", port, "--destination", f"{HOST}:{upstream.port}", *flags]
        process = Process(self.name("echo"), argv, self.folder)
        self.parts.append(process)
        return process, port

    def envoy(self, port: int, template: str = "full-duplex", concurrency: int = 1, edit=None) -> Envoy:
        def change(config):
            tuned(config)
            if edit:
                edit(config)

        envoy = Envoy(
            self.folder, template, port, edit=change, name=self.name("envoy"), concurrency=concurrency
        )
        self.parts.append(envoy.process)
        # Its health check of the picker must have passed before load comes.
        rig.wait_until(lambda: envoy.stats("cluster.epp.membership_healthy").get("membership_healthy") == 1, "Envoy")
        return envoy

    def end(self) -> None:
        for part in reversed(self.parts):
            part.kill()


def load_process(port: int, **options) -> subprocess.Popen:
    argv = [BENCH, "load", "--port", port]
    for name, value in options.items():
        argv += [f"--{name.replace('_', '-')}", value]
    return subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)


def finished(child: subprocess.Popen) -> dict:
    output, _ = child.communicate()
    report = json.loads(output)
    if child.returncode != 0:
        raise RuntimeError(f"answers without a destination, or missing: {report}")
    return report


def load(port: int, **options) -> dict:
    return finished(load_process(port, **options))


# MARK: results


@dataclass
class Figure:
    row: str
    what: str
    unit: str
    rounds: list[float]
    target: float | None = None
    note: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.rounds)

    @property
    def verdict(self) -> str:
        return "" if self.target is None else "met" if self.value <= self.target else "MISSED"

    def record(self) -> dict:
        return {
            "row": self.row, "what": self.what, "unit": self.unit, "value": round(self.value, 3),
            "min": round(min(self.rounds), 3), "max": round(max(self.rounds), 3), "target": self.target,
            "met": None if self.target is None else self.value <= self.target, "note": self.note,
        }  # fmt: skip


class Figures(list):
    def add(self, row, what, unit, rounds, target=None, note="") -> Figure:
        figure = Figure(row, what, unit, list(rounds), target, note)
        self.append(figure)
        say(f"bench:   {line(figure)}")
        return figure


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def line(figure: Figure) -> str:
    spread = f"{number(min(figure.rounds))}-{number(max(figure.rounds))}" if len(figure.rounds) > 1 else ""
    target = "" if figure.target is None else f"<= {number(figure.target)}"
    return (
        f"{figure.row:13s} {figure.what:44s} {number(figure.value):>8s} {figure.unit:9s} {spread:>16s} "
        f"{target:>9s} {figure.verdict:7s} {figure.note}"
    ).rstrip()


# MARK: the page

PAGE = ROOT / "docs" / "results" / "data-path.md"
TABLE_BEGIN, TABLE_END = "<!-- scripts/bench --table -->", "<!-- end of the table -->"
UNITS = {"us": "µs", "us/req": "µs/req", "us/chunk": "µs/chunk", "KiB each": "KiB each"}


def markdown(record: dict) -> str:
    """The table of the page, from what --json wrote: medians, with the smallest and the largest round."""
    lines = ["| row | what | figure | rounds | target | |", "|---|---|---|---|---|---|"]
    for row in record["rows"]:
        what = row["what"] + (f" ({row['note']})" if row["note"] else "")
        figure = f"{number(row['value'])} {UNITS.get(row['unit'], row['unit'])}"
        rounds = "" if row["min"] == row["max"] else f"{number(row['min'])} to {number(row['max'])}"
        target = "" if row["target"] is None else f"≤ {number(row['target'])}"
        verdict = "" if row["met"] is None else "met" if row["met"] else "**missed**"
        lines.append(f"| {row['row']} | {what} | {figure} | {rounds} | {target} | {verdict} |")
    noise = record["noise"].values()
    seconds = sum(part["seconds"] for part in noise)
    others = [part["others_cores"] for part in noise]
    lines += [
        "",
        f"Measured by `scripts/bench {'--quick ' if record['quick'] else ''}--json` in {seconds / 60:.0f} minutes. Meanwhile other work"
        f" kept {min(others):.2f} to {max(others):.2f} cores busy, row by row, and the host took away at most"
        f" {max(part['stolen_cores'] for part in noise):.2f}.",
    ]
    return "\n".join(lines)


def put_into_page(file: str) -> None:
    record = json.loads(Path(file).read_text())
    if record["failed"]:
        raise SystemExit(f"rows failed: {', '.join(record['failed'])}")
    text = PAGE.read_text()
    before, rest = text.split(TABLE_BEGIN)
    _, after = rest.split(TABLE_END)
    PAGE.write_text(f"{before}{TABLE_BEGIN}\n{markdown(record)}\n\n{TABLE_END}{after}")


# MARK: rows


class Rows:
    def __init__(self, quick: bool):
        self.quick = quick
        self.figures = Figures()

    def rounds(self, full: int = 3) -> int:
        return 1 if self.quick else full

    def scaled(self, count: int) -> int:
        return max(count // 4, 64) if self.quick else count

    def measure(self, process: Process, port: int, **options) -> tuple[dict, Used]:
        clock = Clock(process)
        report = load(port, **options)
        return report, clock.used()

    # 2 KB through Envoy

    SMALL_REQUESTS = {1: 2_500, 8: 10_000, 64: 16_000}

    def small_cases(self, stage: Stage, cases: dict[str, tuple[Process, int]], what: str) -> dict:
        """Microseconds per request and p50 latencies by case and connections, from interleaved rounds."""
        costs: dict = {}
        for _, port in cases.values():
            load(port, connections=8, requests=2_000)
        for _ in range(self.rounds()):
            for connections, requests in self.SMALL_REQUESTS.items():
                for case, (process, port) in cases.items():
                    report, used = self.measure(
                        process, port, connections=connections, requests=self.scaled(requests), body_bytes=SMALL
                    )
                    entry = costs.setdefault((case, connections), {"us": [], "p50": [], "rate": []})
                    entry["us"].append(used.path * 1e6 / report["answered"])
                    entry["p50"].append(report["p50_us"])
                    entry["rate"].append(report["answered"] / report["seconds"])
        return costs

    def small(self, stage: Stage) -> None:
        upstream = stage.upstream(16)
        picker = stage.picker(upstream)
        echo, echo_port = stage.echo(upstream)
        cases = {
            "full duplex": (picker.process, stage.envoy(picker.port).port),
            "lean": (picker.process, stage.envoy(picker.port, "lean").port),
            "echo": (echo, stage.envoy(echo_port).port),
        }
        costs = self.small_cases(stage, cases, "small")
        targets = {("full duplex", 1): 90, ("full duplex", 8): 20, ("full duplex", 64): 15,
                   ("lean", 1): 75, ("lean", 8): 18, ("lean", 64): 12}  # fmt: skip
        for (case, connections), entry in costs.items():
            note = f"{statistics.median(entry['rate']):.0f} req/s"
            self.figures.add(
                "small", f"{case}, {connections} connections", "us/req", entry["us"],
                targets.get((case, connections)), note,
            )  # fmt: skip
        above = [a - b for a, b in zip(costs["full duplex", 1]["p50"], costs["echo", 1]["p50"])]
        self.figures.add("idle-latency", "p50 above echo, 1 connection", "us", above, 60)

    def big_request(self, stage: Stage) -> None:
        upstream = stage.upstream(16)
        picker = stage.picker(upstream)
        echo, echo_port = stage.echo(upstream)
        cases = {"epp-pd": (picker.process, stage.envoy(picker.port).port),
                 "echo": (echo, stage.envoy(echo_port).port)}  # fmt: skip
        costs: dict[str, list] = {name: [] for name in cases}
        for round in range(self.rounds() + 1):
            for name, (process, port) in cases.items():
                report, used = self.measure(
                    process, port, connections=4, requests=self.scaled(600), body_bytes=LARGE, prompts=16
                )
                # The first round warms.
                if round > 0:
                    costs[name].append(used.path * 1e6 / report["answered"])
        self.figures.add("big-request", "1 MB, 4 connections", "us/req", costs["epp-pd"], 600)
        self.figures.add("big-request", "echo", "us/req", costs["echo"])

    def small_direct(self, stage: Stage) -> None:
        upstream = stage.upstream(16)
        picker = stage.picker(upstream)
        echo, echo_port = stage.echo(upstream)
        frames = stage.folder / "frames.bin"
        frames.write_bytes(exchange_frames(SMALL))
        costs: dict[str, list] = {"epp-pd": [], "echo": []}
        for round in range(self.rounds() + 1):
            for name, process, port in (("epp-pd", picker.process, picker.port), ("echo", echo, echo_port)):
                requests = self.scaled(60_000)
                before = placements(picker)
                clock = Clock(process)
                h2load(port, requests, frames)
                used = clock.used()
                if name == "epp-pd" and placements(picker) - before != requests:
                    raise RuntimeError(f"{requests} requests, but {placements(picker) - before} destinations")
                if round > 0:
                    costs[name].append(used.path * 1e6 / requests)
        self.figures.add("small-direct", "h2load -c4 -m64", "us/req", costs["epp-pd"], 12)
        self.figures.add("small-direct", "echo", "us/req", costs["echo"])

    # 400 KB prompts, streams

    def halves(self, process: Process, port: int, upstream: Upstream, chunks: int, gap: int) -> dict:
        """One batch of 64 streams: what the requests cost, and what the answers cost."""
        streams = 64
        before = upstream.stats()["requests"]
        clock = Clock(process)
        options = {"gap_ms": gap} if gap else {}
        child = load_process(
            port, connections=streams, requests=streams, body_bytes=LONG, prompts=streams, chunks=chunks,
            first_ms=2_500, **options,
        )  # fmt: skip
        try:
            rig.wait_until(lambda: upstream.stats()["requests"] - before == streams, "the requests", 60, every=0.02)
            request = clock.used()
            response = Clock(process)
            turns = wakeups(process)
            report = finished(child)
        finally:
            child.kill()
        used = response.used()
        return {
            "request_us": request.path * 1e6 / streams,
            "chunk_us": used.path * 1e6 / (streams * chunks),
            "all_us": (request.path + used.path) * 1e6 / streams,
            "chunks_per_wakeup": streams * chunks / max(wakeups(process) - turns, 1),
            "seconds": report["seconds"],
        }

    def warm(self, port: int) -> None:
        """So that the index knows every prompt."""
        load(port, connections=8, requests=128, body_bytes=LONG, prompts=64)

    def long(self, stage: Stage) -> None:
        upstream = stage.upstream(100)
        picker = stage.picker(upstream)
        echo, echo_port = stage.echo(upstream)
        cases = {
            "epp-pd": (picker.process, stage.envoy(picker.port, concurrency=2).port),
            "echo": (echo, stage.envoy(echo_port, concurrency=2).port),
        }
        found: dict[str, list] = {name: [] for name in cases}
        for _, port in cases.values():
            self.warm(port)
        for _ in range(self.rounds(2)):
            for name, (process, port) in cases.items():
                found[name].append(self.halves(process, port, upstream, 100 if self.quick else 1_000, 20))
        for name, target_request, target_chunk in (("epp-pd", 2_000, 6), ("echo", None, None)):
            rounds = found[name]
            per = statistics.median(r["chunks_per_wakeup"] for r in rounds)
            self.figures.add(
                "long", f"{name}, request half", "us/req", [r["request_us"] for r in rounds], target_request
            )
            self.figures.add(
                "long", f"{name}, response half", "us/chunk", [r["chunk_us"] for r in rounds], target_chunk,
                f"{per:.2f} chunks per wake-up",
            )  # fmt: skip
        ratio = [a["chunk_us"] / b["chunk_us"] for a, b in zip(found["epp-pd"], found["echo"])]
        self.figures.add("long", "response half to echo's", "x", ratio, 1.4)

    def long_burst(self, stage: Stage) -> None:
        upstream = stage.upstream(100)
        picker = stage.picker(upstream)
        port = stage.envoy(picker.port, concurrency=2).port
        self.warm(port)
        found = [self.halves(picker.process, port, upstream, 1_000, 0) for _ in range(self.rounds())]
        self.figures.add("long-burst", "in all", "us/req", [r["all_us"] for r in found], 8_000)

    def long_lean(self, stage: Stage) -> None:
        upstream = stage.upstream(100)
        picker = stage.picker(upstream)
        port = stage.envoy(picker.port, "lean", concurrency=2).port
        self.warm(port)
        found = [
            self.halves(picker.process, port, upstream, 100 if self.quick else 500, 10) for _ in range(self.rounds(2))
        ]
        self.figures.add("long-lean", "in all", "us/req", [r["all_us"] for r in found], 3_000)

    def concurrent(self, stage: Stage) -> None:
        streams = 1_000 if self.quick else 10_000
        upstream = stage.upstream(100)
        picker = stage.picker(upstream)
        # Two Envoys: descriptors are limited per process, and epp-pd serves several.
        envoys = [stage.envoy(picker.port).port, stage.envoy(picker.port).port]
        for port in envoys:
            load(port, connections=64, requests=512, body_bytes=SMALL)
        before = picker.process.rss_kib()
        children = [
            load_process(port, connections=streams // 2, requests=streams // 2, body_bytes=32 << 10, chunks=6,
                         first_ms=6_000, gap_ms=4_000)
            for port in envoys
        ]  # fmt: skip
        try:
            rig.wait_until(lambda: picker.in_flight()[0] >= streams, "the streams to be open", 60)
            time.sleep(12)
            held = picker.process.rss_kib()
            for child in children:
                finished(child)
        finally:
            for child in children:
                child.kill()
        picker.wait_idle()
        connections = int(picker_connections(picker))
        self.figures.add(
            "concurrent", f"{streams} open streams", "KiB each", [(held - before) / streams], 40,
            f"{connections} connections, {held // 1024} MiB in all, {picker.process.rss_kib() // 1024} MiB after",
        )  # fmt: skip

    # Scraping

    def scrape(self, stage: Stage) -> None:
        span = 4 if self.quick else 8
        for pods, target in ((100, 0.05), (1_000, 0.4)):
            for busy in (False, True):
                upstream = stage.upstream(pods, metrics_page(), *(["--page-changes"] if busy else []))
                picker = stage.picker(upstream)
                time.sleep(3)
                shares, pages = [], []
                for _ in range(self.rounds(2)):
                    clock, read = Clock(picker.process), picker.metrics().sum("epp_pd_scrapes_total")
                    time.sleep(span)
                    used = clock.used().all
                    pages.append((picker.metrics().sum("epp_pd_scrapes_total") - read) / span)
                    shares.append(used / span)
                note = f"{statistics.median(pages):.0f} pages/s"
                kind = "pages that change" if busy else "idle pods"
                self.figures.add("scrape", f"{pods} pods, {kind}", "cores", shares, target, note)
                picker.process.kill()
                upstream.process.kill()

    # TLS, loops, rates

    def tls(self, stage: Stage) -> None:
        upstream = stage.upstream(100)
        clear, secure = stage.picker(upstream), stage.picker(upstream, secure=True)
        cases = {
            "cleartext": (clear.process, stage.envoy(clear.port, concurrency=2).port),
            "TLS": (secure.process, stage.envoy(secure.port, "full-duplex-tls", concurrency=2).port),
        }
        costs = self.small_cases(stage, cases, "tls")
        for connections in self.SMALL_REQUESTS:
            ratio = [a / b for a, b in zip(costs["TLS", connections]["us"], costs["cleartext", connections]["us"])]
            note = f"{statistics.median(costs['TLS', connections]['us']):.1f} us/req"
            self.figures.add("tls", f"small, {connections} connections", "x", ratio, 1.5, note)
        found: dict[str, list] = {name: [] for name in cases}
        for _, port in cases.values():
            self.warm(port)
        for _ in range(self.rounds(2)):
            for name, (process, port) in cases.items():
                found[name].append(self.halves(process, port, upstream, 100 if self.quick else 500, 20))
        for what, key, target in (("long, request half", "request_us", 3), ("long in all", "all_us", 1.5)):
            ratio = [a[key] / b[key] for a, b in zip(found["TLS"], found["cleartext"])]
            note = f"{statistics.median(r[key] for r in found['TLS']):.0f} us"
            self.figures.add("tls", what, "x", ratio, target, note)

    def scale(self, stage: Stage) -> None:
        upstream = stage.upstream(16)
        cases = {}
        for loops in (1, 2):
            picker = stage.picker(upstream, f"--loops={loops}")
            echo, port = stage.echo(upstream, "--loops", loops)
            cases["epp-pd", loops] = (picker.process, stage.envoy(picker.port, concurrency=2).port)
            cases["echo", loops] = (echo, stage.envoy(port, concurrency=2).port)
        costs = self.small_cases(stage, cases, "scale")
        for name, target in (("epp-pd", 1.15), ("echo", None)):
            for connections in (8, 64):
                one, two = (costs[(name, loops), connections]["us"] for loops in (1, 2))
                ratio = [b / a for a, b in zip(one, two)]
                what = f"2 loops to 1, {connections} connections"
                self.figures.add(
                    "scale", what if target else f"echo, {what}", "x", ratio, target, f"{statistics.median(two):.1f} us/req"
                )

    def burst(self, stage: Stage) -> None:
        upstream = stage.upstream(16)
        picker = stage.picker(upstream)
        port = stage.envoy(picker.port).port
        before = histogram(picker, "epp_pd_decision_duration_seconds")
        for rate in (1, 10, 100, 500, 1_000, 2_000, 5_000):
            seconds = 1 if self.quick else 3
            report = load(port, connections=256, requests=max(rate * seconds, 3), rate=rate)
            say(f"bench:   burst at {rate}/s: p50 {report['p50_us']:.0f} us, p99 {report['p99_us']:.0f} us")
        p99 = quantile_of(before, histogram(picker, "epp_pd_decision_duration_seconds"), 0.99)
        self.figures.add(
            "burst", "p99 of a decision, 1 to 5,000 req/s", "us", [p99 * 1e6], 1_000, "wall time: bounds thread CPU"
        )


def placements(picker: Picker) -> float:
    return picker.metrics().sum("epp_pd_placements_total")


def wakeups(process: Process) -> int:
    """Times that the process's loops slept and woke."""
    total = 0
    for task in Path(f"/proc/{process.child.pid}/task").iterdir():
        if (task / "comm").read_text().startswith("loop-"):
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M).group(1))
    return total


def picker_connections(picker: Picker) -> int:
    """Established connections to the picker's port."""
    wanted = f":{picker.port:04X}"
    return sum(
        fields[1].endswith(wanted) and fields[3] == "01"
        for table in ("tcp", "tcp6")
        for fields in (row.split() for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:])
    )


def histogram(picker: Picker, name: str) -> list[tuple[float, float]]:
    buckets = [(float(l["le"]), v) for n, l, v in picker.metrics().samples if n == f"{name}_bucket"]
    return sorted(buckets)


def quantile_of(before: list, after: list, share: float) -> float:
    counts = [(bound, count - old) for (bound, count), (_, old) in zip(after, before or [(0, 0)] * len(after))]
    wanted = counts[-1][1] * share
    return next(bound for bound, count in counts if count >= wanted)


def h2load(port: int, requests: int, frames: Path) -> None:
    outcome = subprocess.run(
        ["h2load", "-n", str(requests), "-c", "4", "-m", "64", "-t", "1", "-d", str(frames), "-H", "te: trailers",
         "-H", "content-type: application/grpc", f"http://{HOST}:{port}{SERVICE}"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    codes = re.search(r"status codes: (\d+) 2xx", outcome.stdout)
    if not codes or int(codes[1]) != requests:
        raise RuntimeError(outcome.stdout + outcome.stderr)


def exchange_frames(body_bytes: int, chunks: int = 0) -> bytes:
    """The gRPC messages of one exchange as Envoy 1.40 sends them in full duplex, the answer's included: JSON, or so many
    server-sent events of 200 bytes."""

    def varint(value: int) -> bytes:
        out = b""
        while value >= 0x80:
            out += bytes([value & 0x7F | 0x80])
            value >>= 7
        return out + bytes([value])

    def field(tag: int, content: bytes) -> bytes:
        return bytes([tag << 3 | 2]) + varint(len(content)) + content

    def headers(*pairs: tuple[str, str]) -> bytes:
        entries = b"".join(field(1, field(1, k.encode()) + field(3, v.encode())) for k, v in pairs)
        return field(1, entries)

    def frame(message: bytes) -> bytes:
        return b"\0" + len(message).to_bytes(4, "big") + message

    text = "what is said between two commas, and then a little more of it. "
    chat = {"model": MODEL, "messages": [{"role": "user", "content": ""}], "max_tokens": 100}
    chat["messages"][0]["content"] = (text * (body_bytes // len(text) + 1))[: body_bytes - len(json.dumps(chat))]
    answer = '{"id":"chatcmpl-1","object":"chat.completion","usage":{"prompt_tokens":500,"completion_tokens":1}}'
    request = headers(
        (":authority", "bench"), (":path", "/v1/chat/completions"), (":method", "POST"), (":scheme", "http"),
        ("content-type", "application/json"), ("content-length", str(body_bytes)), ("user-agent", "bench"),
        ("accept", "*/*"), ("x-forwarded-for", HOST), ("x-forwarded-proto", "http"),
        ("x-request-id", "a8b1c7de-21f4-4c3a-9f0e-6f2f8f6f9b10"),
    )  # fmt: skip
    response = headers(
        (":status", "200"), ("content-type", "text/event-stream" if chunks else "application/json"), ("server", "bench"),
        ("x-envoy-upstream-service-time", "1"),
    )  # fmt: skip
    # protocol_config: FULL_DUPLEX_STREAMED both ways.
    first = field(2, request) + field(11, b"\x08\x04\x10\x04")
    end = b"\x10\x01"
    event = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"some word"}}]'.ljust(197) + b"}\n\n"
    answers = [event] * chunks if chunks else [answer.ljust(206).encode()]
    body = json.dumps(chat).encode()
    # Envoy sends bodies on as they come: 16 KiB of a large one at a time.
    parts = [body[start : start + (16 << 10)] for start in range(0, len(body), 16 << 10)]
    messages = [first, *(field(4, field(1, part)) for part in parts), field(4, end), field(3, response)]
    messages += [field(5, field(1, part)) for part in answers] + [field(5, end)]
    return b"".join(map(frame, messages))


ROWS = {
    "small": Rows.small, "big-request": Rows.big_request, "small-direct": Rows.small_direct, "long": Rows.long,
    "long-burst": Rows.long_burst, "long-lean": Rows.long_lean, "concurrent": Rows.concurrent, "scrape": Rows.scrape,
    "tls": Rows.tls, "scale": Rows.scale, "burst": Rows.burst,
}  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)} (idle-latency is part of small)")
    parser.add_argument("--quick", action="store_true", help="one short round of each: for a look, not for the record")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, all else on standard error")
    parser.add_argument("--table", metavar="FILE", help=f"put what --json wrote into {PAGE.relative_to(ROOT)}, and measure nothing")
    parser.add_argument("--list", action="store_true", help="name the rows")
    given = parser.parse_args()
    given.rows = ["small" if row == "idle-latency" else row for row in given.rows]
    unknown = [row for row in given.rows if row not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]}")
    return given


def main() -> int:
    given = arguments()
    if given.list:
        print("\n".join(ROWS))
        return 0
    if given.table:
        put_into_page(given.table)
        return 0
    os.environ["EPP_PD_BIN"] = str(RELEASE / "epp-pd")
    rows, failures, noise = Rows(given.quick), [], {}
    for name in given.rows or ROWS:
        say(f"bench: {name}")
        watch = Noise()
        stage = Stage(Path(tempfile.mkdtemp(prefix="epp-pd-bench-")))
        try:
            ROWS[name](rows, stage)
        except (RuntimeError, TimeoutError, AssertionError) as error:
            say(f"bench:   {name} failed: {error}; logs in {stage.folder}")
            failures.append(name)
        finally:
            stage.end()
            noise[name] = watch.report()
        say(f"bench:   others used {noise[name]['others_cores']} cores meanwhile, row took {noise[name]['seconds']} s")
    table = "\n".join(line(figure) for figure in rows.figures)
    if given.json:
        record = {"rows": [f.record() for f in rows.figures], "noise": noise, "failed": failures, "quick": given.quick}
        print(json.dumps(record), flush=True)
    else:
        print(table)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
