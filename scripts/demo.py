# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""The demo: see `scripts/demo`.

All times it prints are model time, wall time multiplied by the time scale. Predictions come from the picker's decision
log, joined with the client's own view by the request id, which the model server repeats in its answers as vLLM does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import openai
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Tests" / "EndToEnd"))

import rig  # noqa: E402
from rig import HOST, Envoy, Picker  # noqa: E402

MODEL = "llama-3.1-70b"
# One decode pod is this much slower than its profile says, and one reports its metrics this late.
SLOW_POD, SLOWNESS = "decode-h200-1", 1.4
LATE_POD, LATENESS = "decode-h200-0", "500ms"
# Requests in flight at most: a real client waits too.
CONCURRENCY = 24
# Model seconds between two requests, on average.
MEAN_GAP = 0.15
WORDS = "the of and to in is that for it as was with be by on not he his but at are this have from or had an they".split()


def fleet_file() -> dict:
    """Prefill pods on two accelerators, decode pods on two more, and one pod of both roles on a fifth.

    Half of them publish what they cache as KV events: those whose prompts matter most."""
    events = rig.free_ports(6)
    common = {"model": MODEL, "address": HOST, "tensorParallel": 4, "dtype": "fp8", "blockSize": 16}
    entries = [
        {"name": "prefill-h100", "role": "prefill", "accelerator": "h100-sxm", "count": 2,
         "kvEvents": {"endpoint": f"tcp://{HOST}:{events}", "replay": f"tcp://{HOST}:{events + 2}"}},
        {"name": "prefill-l40s", "role": "prefill", "accelerator": "l40s",
         "kvEvents": {"endpoint": f"tcp://{HOST}:{events + 4}"}},
        {"name": "decode-h200", "role": "decode", "accelerator": "h200-sxm", "tensorParallel": 2, "count": 2},
        {"name": "decode-a100", "role": "decode", "accelerator": "a100-sxm", "dtype": "bfloat16", "tensorParallel": 8},
        {"name": "both-b200", "role": "both", "accelerator": "b200-sxm", "tensorParallel": 1,
         "kvEvents": {"discover": True}},
    ]
    return {"endpoints": [common | e | {"port": rig.free_ports(e.get("count", 1))} for e in entries]}


# The mock servers cut prompts into tokens when asked, as vLLM does, and their sidecars report the prefill pod's hits.
CONFIGURATION = {"kvCache": {"pairCachedTokens": "prefill", "tokenizer": {"source": "tokenize", "deadline": "100ms"}}}


@dataclass
class Question:
    kind: str
    messages: list[dict]
    max_tokens: int
    stream: bool


@dataclass
class Answer:
    question: Question
    number: int
    error: str | None = None
    request_id: str = ""
    # Model seconds.
    ttft: float = 0
    tpot: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    decision: dict | None = None


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(WORDS, k=count))


def questions(count: int, rng: random.Random) -> list[Question]:
    """Short prompts, long ones that nobody sent before, and questions under three long shared system prompts."""
    shared = [f"You are assistant {i}. " + words(rng, 4000) for i in range(3)]
    made = []
    for index in range(count):
        kind = ("short", "long", "shared", "short", "shared")[index % 5]
        messages = [{"role": "user", "content": f"Question {index}: " + words(rng, rng.randrange(10, 60))}]
        if kind == "long":
            messages[0]["content"] += words(rng, rng.randrange(3000, 9000))
        elif kind == "shared":
            messages.insert(0, {"role": "system", "content": rng.choice(shared)})
        made.append(Question(kind, messages, rng.randrange(32, 128), stream=index % 4 != 3))
    return made


@dataclass
class Run:
    arguments: argparse.Namespace
    folder: Path
    fleet: dict
    answers: list[Answer] = field(default_factory=list)
    decisions: dict[str, dict] = field(default_factory=dict)
    log_offset: int = 0

    @property
    def scale(self) -> float:
        return self.arguments.time_scale

    def start(self) -> None:
        path = self.folder / "fleet.yaml"
        path.write_text(yaml.safe_dump(self.fleet, sort_keys=False))
        configuration = self.folder / "config.yaml"
        configuration.write_text(yaml.safe_dump(CONFIGURATION))
        self.log = self.folder / "decisions.jsonl"
        self.mock = rig.Process(
            "mock-server",
            [
                rig.binary(), "mock-server", "--fleet", path, "--time-scale", self.scale, "--jitter", "0.03",
                "--skew", f"{SLOW_POD}={SLOWNESS}", "--metrics-delay", f"{LATE_POD}={LATENESS}",
            ],
            self.folder,
        )  # fmt: skip
        last = self.fleet["endpoints"][-1]["port"]
        self.mock.ready(lambda: rig.http_get(last, "/health")[0] == 200)
        self.picker = Picker(
            self.folder, self.fleet, f"--time-scale={self.scale}", f"--decision-log={self.log}",
            f"--config={configuration}", name="epp-pd",
        )  # fmt: skip
        self.envoy = Envoy(self.folder, "full-duplex", self.picker.port)

    def stop(self) -> None:
        for process in ("envoy", "picker", "mock"):
            part = getattr(self, process, None)
            if part is not None:
                (part if isinstance(part, rig.Process) else part.process).kill()

    # The client

    async def ask(self, client: openai.AsyncOpenAI, number: int, question: Question) -> Answer:
        answer = Answer(question, number)
        start = time.monotonic()
        try:
            if question.stream:
                await self.read_stream(client, question, answer, start)
            else:
                whole = await self.create(client, question)
                self.note(answer, whole.id, whole.usage)
                # The first token of an answer that comes in one piece cannot be seen: only its end.
                answer.ttft = (time.monotonic() - start) * self.scale
        except openai.OpenAIError as error:
            answer.error = f"{type(error).__name__}: {error}"[:100]
        self.answers.append(answer)
        self.tell(answer)
        return answer

    def create(self, client, question: Question, **more):
        return client.chat.completions.create(
            model=MODEL, messages=question.messages, max_tokens=question.max_tokens, **more
        )

    async def read_stream(self, client, question, answer, start) -> None:
        first = last = None
        stream = await self.create(client, question, stream=True, stream_options={"include_usage": True})
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                last = time.monotonic()
                first = first or last
            if chunk.usage:
                self.note(answer, chunk.id, chunk.usage)
        if first is None or not answer.output_tokens:
            raise openai.OpenAIError("the stream ended without tokens or usage")
        answer.ttft = (first - start) * self.scale
        if answer.output_tokens > 1:
            answer.tpot = (last - first) / (answer.output_tokens - 1) * self.scale

    @staticmethod
    def note(answer: Answer, id: str, usage) -> None:
        answer.request_id = id.removeprefix("chatcmpl-")
        answer.prompt_tokens, answer.output_tokens = usage.prompt_tokens, usage.completion_tokens
        answer.cached_tokens = usage.prompt_tokens_details.cached_tokens or 0

    async def drive(self, asked: list[Question]) -> None:
        rng = random.Random(self.arguments.seed + 1)
        places = asyncio.Semaphore(CONCURRENCY)
        client = openai.AsyncOpenAI(
            base_url=f"{self.envoy.url}/v1", api_key="none", max_retries=0, timeout=120
        )

        async def one(number, question):
            async with places:
                await self.ask(client, number, question)

        async with client:
            await client.models.list()  # connects, and loads what Python loads lazily
            await self.ask_all(one, asked, rng)

    async def ask_all(self, one, asked: list[Question], rng: random.Random) -> None:
        async with asyncio.TaskGroup() as group:
            for number, question in enumerate(asked):
                group.create_task(one(number, question))
                await asyncio.sleep(rng.expovariate(1 / MEAN_GAP) / self.scale)

    # The decision log

    def read_decisions(self) -> None:
        with self.log.open() as lines:
            lines.seek(self.log_offset)
            while line := lines.readline():
                if not line.endswith("\n"):
                    break
                self.log_offset = lines.tell()
                record = json.loads(line)
                if (request := record["input"]["request"].get("externalID")) and record.get("chosen"):
                    self.decisions[request] = summary(record)

    def decision_of(self, answer: Answer) -> dict | None:
        if answer.decision is None and answer.request_id not in self.decisions:
            self.read_decisions()
        answer.decision = answer.decision or self.decisions.get(answer.request_id)
        return answer.decision

    # What it shows

    def tell(self, answer: Answer) -> None:
        if self.arguments.quiet:
            return
        question = answer.question
        what = f"{answer.number:4d} {question.kind:6s} {'stream' if question.stream else 'whole ':6s}"
        if answer.error:
            print(f"{what} FAILED {answer.error}", flush=True)
            return
        decision = self.decision_of(answer)
        if decision is None:
            print(f"{what} no decision logged", flush=True)
            return
        predicted = decision["ttft"] if question.stream else decision["total"]
        print(
            f"{what} {answer.prompt_tokens:5d} tok  {decision['route']:32s} {'TTFT' if question.stream else 'all '}"
            f" {ms(answer.ttft):>6s} ms (predicted {ms(predicted):>6s}: {decision['why']})",
            flush=True,
        )


def summary(record: dict) -> dict:
    """What the demo needs of one line of the decision log."""
    names = {pod["state"]["id"]: pod["name"] for pod in record["input"]["pods"]}
    request, chosen = record["input"]["request"], record["chosen"]
    (kind, pods), terms = next(iter(chosen["placement"].items())), chosen["terms"]
    ids = [pods["prefill"], pods["decode"]] if kind == "pair" else [pods["_0"]]
    parts = [
        ("queue", "queueing"), ("prefill", "prefill"), ("pull", "pull"), ("KV transfer", "transfer"),
        ("overhead", "overhead"), ("KV room", "admission"), ("step", "firstStep"),
    ]  # fmt: skip
    waited = request["waited"]
    seconds = [("held", waited)] + [(label, terms[key]) for label, key in parts]
    why = " + ".join(f"{label} {ms(value)}" for label, value in seconds if value >= 0.0005)
    if chosen.get("cachedTokens"):
        why += f", {chosen['cachedTokens']} cached"
    ttft = sum(value for _, value in seconds)
    decoder = next(pod["state"] for pod in record["input"]["pods"] if pod["state"]["id"] == ids[-1])
    return {
        "calibrated": decoder["calibration"]["decodeScale"] != 1,
        "kind": kind,
        "route": " → ".join(names[i] for i in ids),
        "destination": names[ids[-1]],
        "ttft": ttft,
        "tpot": terms["tpot"],
        "total": ttft + terms["decode"],
        "dollars": terms["busyPrefill"] + terms["busyDecode"],
        "outputTokens": request["outputTokens"],
        "why": why,
    }


def ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.0f}" if seconds >= 0.02 else f"{seconds * 1000:.1f}"


def quantile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def error(pairs: list[tuple[float, float]]) -> float | None:
    """Median of |observed − predicted| ÷ observed."""
    return quantile([abs(o - p) / o for p, o in pairs if o > 0], 0.5)


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.0f} %"


def report(run: Run) -> dict:
    good = [a for a in run.answers if not a.error and run.decision_of(a)]
    streams = [a for a in good if a.question.stream]
    kinds = {kind: sum(a.decision["kind"] == kind for a in good) for kind in ("pair", "local", "both")}
    ttft = [(a.decision["ttft"], a.ttft) for a in streams]
    tpot = [(a.decision["tpot"], a.tpot) for a in streams if a.tpot]

    def quantiles(pairs, share):
        return quantile([p for p, _ in pairs], share), quantile([o for _, o in pairs], share)

    prompt, cached = sum(a.prompt_tokens for a in good), sum(a.cached_tokens for a in good)
    dollars = sum(a.decision["dollars"] for a in good)
    print()
    print(f"  requests {len(run.answers)}   succeeded {len(good)}   time scale {run.scale:g}: all times are model time")
    print()
    print(f"  {'':22s}{'predicted':>12s}{'observed':>12s}")
    for label, pairs in (("TTFT", ttft), ("TPOT", tpot)):
        for name, share in (("p50", 0.5), ("p90", 0.9)):
            predicted, observed = quantiles(pairs, share)
            print(f"  {label} {name:17s}{ms(predicted):>9s} ms{ms(observed):>9s} ms")
    print()
    print(f"  pairs {kinds['pair']}   local prefills {kinds['local']}   pods of both roles {kinds['both']}")
    print(f"  prompt tokens {prompt}, of them cached {cached} ({percent(cached / prompt if prompt else None)})")
    knowledge = cache_knowledge(run)
    print(
        f"  KV events: {knowledge['publishers']} of {sum(e.get('count', 1) for e in run.fleet['endpoints'])} pods publish, "
        f"{knowledge['stored_blocks']} blocks stored, {knowledge['removed_blocks']} removed, {knowledge['gaps']} gaps"
    )
    keys = ", ".join(f"{name} {count}" for name, count in knowledge["keys"].items() if count)
    print(f"  keys of prompts by source: {keys};  of hits expected, found: {percent(knowledge['found'])}")
    print(f"  estimated cost ${dollars:.4f} ({dollars / max(len(good), 1) * 1000:.3f} per 1,000 requests)")
    print()
    learned = step_scales(run)
    report_calibration(good, learned)

    def times(pairs):
        values = {}
        for name, share in (("p50", 0.5), ("p90", 0.9)):
            predicted, observed = quantiles(pairs, share)
            values[f"predicted_{name}"] = round((predicted or 0) * 1000, 2)
            values[f"observed_{name}"] = round((observed or 0) * 1000, 2)
        return values

    return {
        "requests": len(run.answers),
        "succeeded": len(good),
        "pairs": kinds["pair"],
        "local": kinds["local"],
        "both": kinds["both"],
        "ttft_ms": times(ttft),
        "tpot_ms": times(tpot),
        "prefix_hit_ratio": round(cached / prompt, 4) if prompt else 0,
        "dollars": round(dollars, 6),
        "kv_events": knowledge,
        "step_scales": {name: round(scale, 3) for name, scale in learned.items()},
    }


def cache_knowledge(run: Run) -> dict:
    """What the picker was told by the engines, from its metrics."""
    page = run.picker.metrics()
    blocks = lambda result: int(page.sum("epp_pd_kv_event_blocks_total", result=result))  # noqa: E731
    predicted = page.sum("epp_pd_prefix_hit_tokens", source="predicted")
    return {
        "publishers": int(page.sum("epp_pd_kv_event_publishers", state="subscribed")),
        "stored_blocks": blocks("stored"),
        "removed_blocks": blocks("removed"),
        "gaps": int(page.sum("epp_pd_kv_event_gaps_total")),
        "keys": {
            source: int(page.sum("epp_pd_prefix_keys_total", source=source))
            for source in ("request", "engine", "cache", "late", "text")
        },
        "found": page.sum("epp_pd_prefix_hit_tokens", source="found") / predicted if predicted else None,
    }


def step_scales(run: Run) -> dict[str, float]:
    """How much longer than its profile says each pod's decode steps take, as the picker has learned by now."""
    pods = json.loads(rig.http_get(run.picker.metrics_port, "/debug/calibration")[1])["endpoints"]
    steps = {pod["endpoint"]: pod["calibrator"]["decode"] for pod in pods}
    return {name: step["scale"] for name, step in steps.items() if step["samples"]}


def report_calibration(good: list[Answer], learned: dict[str, float]) -> None:
    """The error of predictions by the profile alone, and after the pod that decodes was calibrated."""
    streams = sorted((a for a in good if a.question.stream and a.tpot), key=lambda a: a.number)
    print("  median prediction error, before and after the decoding pod was calibrated from what was observed")
    print(f"  {'':22s}{'streams':>13s}{'TTFT':>18s}{'TPOT':>18s}{'steps learned':>16s}")
    rows = [("all pods", streams)]
    for name in sorted({a.decision["destination"] for a in streams}):
        note = " (slow)" if name == SLOW_POD else " (late)" if name == LATE_POD else ""
        rows.append((name + note, [a for a in streams if a.decision["destination"] == name]))
    for name, answers in rows:
        parts = [[a for a in answers if a.decision["calibrated"] == after] for after in (False, True)]
        ttft = [percent(error([(a.decision["ttft"], a.ttft) for a in part])) for part in parts]
        tpot = [percent(error([(a.decision["tpot"], a.tpot) for a in part])) for part in parts]
        counts = f"{len(parts[0])}, {len(parts[1])}"
        scale = learned.get(name.split()[0])
        steps = f"× {scale:.2f}" if scale else ""
        print(f"  {name:22s}{counts:>13s}{ttft[0]:>10s}, {ttft[1]:>6s}{tpot[0]:>10s}, {tpot[1]:>6s}{steps:>16s}")
    print()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=200, metavar="N", help="how many to send (default 200)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
    parser.add_argument("--keep", action="store_true", help="leave everything running, and say how to reach it")
    parser.add_argument("--quiet", action="store_true", help="no line per request")
    parser.add_argument("--time-scale", type=float, default=2.0, help="how much faster than the profiles (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="of the requests' texts and times")
    arguments = parser.parse_args()
    if arguments.requests < 1 or not 0.1 <= arguments.time_scale <= 100:
        parser.error("--requests must be at least 1, --time-scale from 0.1 to 100")
    return arguments


def keep(run: Run) -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8})
    print("Everything is left running. Ask through Envoy:")
    print(f"  curl {run.envoy.url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'")
    print(f"  picker metrics   http://{HOST}:{run.picker.metrics_port}/metrics")
    print(f"  Envoy admin      http://{HOST}:{run.envoy.admin_port}/")
    pids = [run.envoy.process, run.picker.process, run.mock]
    print(f"End it with: kill {' '.join(str(p.child.pid) for p in pids)}")


def main() -> int:
    arguments = options()
    run = Run(arguments, Path(tempfile.mkdtemp(prefix="epp-pd-demo-")), fleet_file())
    try:
        run.start()
        print(f"demo: Envoy {run.envoy.url}, picker gRPC :{run.picker.port}, metrics :{run.picker.metrics_port}, pods:")
        for entry in run.fleet["endpoints"]:
            first, count = entry["port"], entry.get("count", 1)
            ports = str(first) if count == 1 else f"{first}-{first + count - 1}"
            print(f"  {entry['name']:14s} {entry['role']:8s} {entry['accelerator']} × {entry['tensorParallel']}, port {ports}")
        print(f"demo: {SLOW_POD} is {SLOWNESS} times slower than its profile; {LATE_POD} reports metrics {LATENESS} late")
        print(f"demo: time scale {arguments.time_scale:g} (serve and mock-server), logs in {run.folder}")
        asyncio.run(run.drive(questions(arguments.requests, random.Random(arguments.seed))))
        run.picker.wait_idle()
        time.sleep(0.2)
        run.read_decisions()
        result = report(run)
        print(f"  decision log: {run.log}")
        print(f"  explain it:   {rig.binary()} explain {run.log} | less -S")
        if arguments.keep:
            keep(run)
        if arguments.json:
            print(json.dumps(result), flush=True)
        return 0 if result["succeeded"] == result["requests"] == arguments.requests else 1
    finally:
        if not arguments.keep:
            run.stop()


if __name__ == "__main__":
    sys.exit(main())
