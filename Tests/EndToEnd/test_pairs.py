# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Prefill and decode pods on mixed accelerators, played by `epp-pd mock-server`, behind the real Envoy."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import rig
import wire
import yaml
from rig import HOST, Envoy, Picker

MODEL = "llama-3.1-8b"
SCALE = 4


class MixedFleet:
    def __init__(self, folder):
        first = rig.free_ports(5)
        common = {"model": MODEL, "address": HOST}
        fleet = {
            "endpoints": [
                common | {"name": "prefill", "role": "prefill", "accelerator": "h100-sxm", "port": first, "count": 2},
                common | {"name": "decode", "role": "decode", "accelerator": "a100-sxm", "port": first + 2, "count": 2},
                common | {"name": "both", "role": "both", "accelerator": "l40s", "port": first + 4},
            ]
        }
        self.ports = {f"{HOST}:{first + i}": n for i, n in enumerate(["prefill-0", "prefill-1", "decode-0", "decode-1", "both"])}
        path = folder / "fleet.yaml"
        path.write_text(yaml.safe_dump(fleet))
        self.folder, self.path = folder, path
        self.processes = {
            name: rig.Process(
                name, [rig.binary(), "mock-server", "--fleet", path, "--time-scale", SCALE, "--only", name], folder
            )
            for name in ("prefill", "decode", "both")
        }
        for port, name in ((first, "prefill"), (first + 2, "decode"), (first + 4, "both")):
            self.processes[name].ready(lambda p=port: rig.http_get(p, "/health")[0] == 200)
        self.picker = Picker(folder, fleet, f"--time-scale={SCALE}", f"--decision-log={folder / 'decisions.jsonl'}")
        self.envoy = Envoy(folder, "full-duplex", self.picker.port)
        self.client = openai.OpenAI(base_url=f"{self.envoy.url}/v1", api_key="none", max_retries=0, timeout=60)

    def ask(self, text, tokens=16, **more):
        return self.client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": text}], max_tokens=tokens, **more
        )

    def prefills(self, port) -> float:
        return rig.MetricsPage(rig.http_get(port, "/metrics")[1]).sum("vllm:request_prefill_time_seconds_count")

    def stop(self):
        self.envoy.stop()
        self.picker.process.kill()
        for process in self.processes.values():
            process.stop()


@pytest.fixture
def mixed(tmp_path):
    fleet = MixedFleet(tmp_path)
    yield fleet
    fleet.stop()


def counts(fleet) -> dict[str, float]:
    return {
        name: fleet.prefills(int(place.rsplit(":", 1)[1])) for place, name in fleet.ports.items()
    }


def test_long_prompts_go_to_pairs_and_short_ones_do_not_need_to(mixed):
    """An H100 computes a prompt about three times as fast as an A100 that decodes meanwhile."""

    def ask(index):
        text = f"{index} " + ("a long document " * 3000 if index % 2 else "?")
        return mixed.ask(text, tokens=40).usage.completion_tokens

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(18))) == [40] * 18
    prefills = counts(mixed)
    assert prefills["prefill-0"] + prefills["prefill-1"] >= 4
    assert sum(prefills.values()) >= 18
    mixed.picker.wait_idle()


def test_without_prefill_pods_decode_pods_prefill_themselves(mixed):
    mixed.processes["prefill"].kill()
    outcomes = []
    start = time.monotonic()
    for index in range(20):
        try:
            mixed.ask(f"{index} " + "a long document " * 3000, tokens=4)
            outcomes.append(True)
        except openai.InternalServerError:
            outcomes.append(False)
    # Three failures in a row take a prefill pod out; after pauses that double, from one second of model time on, it is
    # tried again, each time at the cost of one request.
    trials = math.ceil(math.log2((time.monotonic() - start) * SCALE + 2))
    assert outcomes.count(False) <= 2 * (3 + trials)
    assert outcomes[6:].count(True) > outcomes[6:].count(False)
    assert mixed.picker.metrics().sum("epp_pd_local_prefills_forced_total") >= outcomes[6:].count(True) / 2
    mixed.picker.wait_idle()


def test_the_same_prompt_finds_its_prefix(mixed):
    text = "the same system prompt " * 600
    cached = [mixed.ask(text + f" question {i}", tokens=4).usage.prompt_tokens_details.cached_tokens for i in range(4)]
    assert cached[0] == 0
    assert all(c > 1000 for c in cached[1:])


def test_decisions_replay(mixed):
    for index in range(10):
        mixed.ask(f"{index} " + "words " * (10 ** (index % 4)), tokens=4, stream=False)
    mixed.picker.wait_idle()
    mixed.picker.stop()
    check = rig.Process("explain", [rig.binary(), "explain", mixed.folder / "decisions.jsonl", "--check"], mixed.folder)
    assert check.child.wait(30) == 0, check.tail()


@pytest.mark.parametrize("mode, binding, most", [("latency", "late", 4), ("latency", "early", 4), ("cost", "early", 1)])
def test_cold_siblings_do_not_stampede(tmp_path, mode, binding, most):
    """Many requests with the same new prefix at once: the picker knows from the first one's dispatch on where it will be.

    Where time is dear, each idle pod computes it once, since that takes no longer than to wait for another's; where money is,
    one pod does. The siblings of each are sent to where it is being computed."""
    first = rig.free_ports(4)
    common = {"model": MODEL, "address": HOST, "accelerator": "l40s", "role": "both", "blockSize": 16}
    fleet = {"endpoints": [common | {"name": "pod", "port": first, "count": 4}]}
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet))
    servers = rig.Process("servers", [rig.binary(), "mock-server", "--fleet", path], tmp_path)
    picker = envoy = None
    try:
        servers.ready(lambda: rig.http_get(first + 3, "/health")[0] == 200)
        picker = Picker(tmp_path, fleet, "--decision-header", f"--mode={mode}", f"--binding={binding}")
        envoy = Envoy(tmp_path, "full-duplex", picker.port)
        prefix, count = "a long new document that all of them ask about, " * 1_000, 24

        def ask(index):
            body = {"model": MODEL, "prompt": f"{prefix} question {index}", "max_tokens": 4, "stream": True,
                    "stream_options": {"include_usage": True}}  # fmt: skip
            status, headers, answer = wire.post(envoy.port, json.dumps(body).encode(), path="/v1/completions", timeout=60)
            assert status == 200
            decision = dict(part.split("=", 1) for part in headers["x-epp-pd-decision"].split(";"))
            usage = next(json.loads(line[6:])["usage"] for line in reversed(answer.splitlines()) if b'"usage":{' in line)
            return decision, usage

        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(ask, range(count)))
        tokens = sum(usage["prompt_tokens"] for _, usage in answers)
        cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for _, usage in answers)
        cold = [decision["decode"] for decision, _ in answers if decision["cached"] == "0"]
        print(f"{mode} {binding}: {len(cold)} of {count} sent as new, {cached / tokens:.2f} of the tokens found cached")
        assert len(cold) == len(set(cold)) <= most
        # Short of all but the first: what a pod begins before the prefix is complete there, it computes as well.
        assert cached / tokens >= 0.5
        picker.wait_idle()
    finally:
        for thing in (envoy, picker, servers):
            if thing:
                thing.stop()
