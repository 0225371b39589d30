# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""The exact prefix index in `serve`: KV events over real ZeroMQ, keys cut by engines, and what both do to routing."""

import itertools
import json
import subprocess
import time

import httpx
import msgspec
import pytest
import rig
import wire
import yaml
import zmq
from conftest import fleet_of
from rig import HOST, Envoy, Picker
from upstream import Upstream

MODEL = "llama-3.1-8b"
SCALE = 8
TEXT = "the quick brown fox jumps over the lazy dog and then does it all again, " * 120


def configuration(folder, kv=None, **tokenizer) -> str:
    path = folder / "config.yaml"
    tokenizer = {"source": "tokenize", "deadline": "2s"} | tokenizer
    path.write_text(yaml.safe_dump({"kvCache": {"tokenizer": tokenizer} | (kv or {})}))
    return f"--config={path}"


def chat(text: str, **more) -> bytes:
    message = {"role": "user", "content": text}
    return json.dumps({"model": MODEL, "messages": [message], "max_tokens": 4, **more}).encode()


class Rig:
    """Two mock pods of both roles, of which the first publishes its cache, behind a picker and Envoy."""

    def __init__(self, folder, events, flags=(), **tokenizer):
        first = rig.free_ports(2)
        self.ports = [first, first + 1]
        common = {
            "role": "both", "accelerator": "h100-sxm", "model": MODEL, "address": HOST, "blockSize": 16,
        }  # fmt: skip
        fleet = {"endpoints": [{"name": f"pod-{i}", "port": p} | common for i, p in enumerate(self.ports)]}
        fleet["endpoints"][0]["kvEvents"] = events
        path = folder / "fleet.yaml"
        path.write_text(yaml.safe_dump(fleet))
        self.mock = rig.Process(
            "mock-server", [rig.binary(), "mock-server", "--fleet", path, "--time-scale", SCALE], folder
        )
        self.mock.ready(lambda: rig.http_get(self.ports[1], "/health")[0] == 200)
        self.log = folder / "decisions.jsonl"
        flags = (f"--time-scale={SCALE}", f"--decision-log={self.log}", configuration(folder, **tokenizer), *flags)
        self.begin = lambda name: Picker(folder, fleet, *flags, name=name)
        self.picker = self.begin("picker")
        self.envoy = Envoy(folder, "full-duplex", self.picker.port)

    def stop(self):
        for process in (self.envoy.process, self.picker.process, self.mock):
            process.kill()

    def metric(self, name, **labels):
        return self.picker.metrics().sum(name, **labels)

    def stored(self):
        return self.metric("epp_pd_kv_event_blocks_total", result="stored")

    def decision(self, request: str) -> dict:
        def found():
            for line in self.log.read_text().splitlines():
                record = json.loads(line)
                if record["input"]["request"].get("externalID") == request:
                    return record
            return None

        return rig.wait_until(found, f"the decision of {request}")

    def subscribed(self):
        return self.metric("epp_pd_kv_event_publishers", state="subscribed")


def events_at(port: int) -> dict:
    return {"endpoint": f"tcp://{HOST}:{port}", "replay": f"tcp://{HOST}:{port + 1}"}


@pytest.mark.parametrize(
    ("where", "source"), [("file", "tokenize"), ("discover", "render")], ids=["file-tokenize", "discover-render"]
)
def test_a_prompt_that_the_picker_never_saw_goes_where_it_is_cached(tmp_path, where, source):
    """A pod computes prompts that did not come through the picker. Only its events can tell, and only tokens match them."""
    events = {"discover": True} if where == "discover" else events_at(rig.free_ports(2))
    setup = Rig(tmp_path, events, source=source)
    try:
        rig.wait_until(lambda: setup.subscribed() == 1, "the subscription")
        time.sleep(0.5)  # ZeroMQ's connection; what is published before it is made good by the replay
        for number in range(3):
            text = f"{where} {number} " + TEXT
            assert wire.post(setup.ports[0], chat(text))[0] == 200
            before = setup.stored()
            rig.wait_until(lambda: setup.stored() >= before and setup.stored() > 100 * (number + 1), "the events")
            status, _, answer = wire.post(setup.envoy.port, chat(text))
            assert status == 200
            answer = json.loads(answer)
            usage = answer["usage"]
            decision = setup.decision(answer["id"].removeprefix("chatcmpl-"))
            chosen = next(iter(decision["chosen"]["placement"].values()))["_0"]
            names = {pod["state"]["id"]: pod["name"] for pod in decision["input"]["pods"]}
            assert names[chosen] == "pod-0"
            # Known to the block: what was foretold is what the engine then found.
            assert decision["chosen"]["cachedTokens"] == usage["prompt_tokens_details"]["cached_tokens"] > 1000
            assert decision["input"]["request"]["promptTokens"] == usage["prompt_tokens"]
        assert setup.metric("epp_pd_prefix_keys_total", source="engine") == 3
        assert setup.metric("epp_pd_kv_event_gaps_total") == 0
        rig.wait_until(lambda: setup.metric("epp_pd_prefix_hit_ratio", source="found") == 1, "the comparison")
    finally:
        setup.stop()


def test_starts_of_prompts_are_asked_for_once(tmp_path):
    setup = Rig(tmp_path, events_at(rig.free_ports(2)))
    try:
        rig.wait_until(lambda: setup.subscribed() == 1, "the subscription")
        for number in range(6):
            assert wire.post(setup.envoy.port, chat(TEXT + f"and question {number}"))[0] == 200
        # The first is new, the second shows how far they agree, the rest is known.
        assert setup.metric("epp_pd_prefix_keys_total", source="engine") == 2
        assert setup.metric("epp_pd_prefix_keys_total", source="cache") == 4
        assert wire.post(setup.envoy.port, chat("short"))[0] == 200
        assert setup.metric("epp_pd_prefix_keys_total", source="text") == 1
    finally:
        setup.stop()


class Publisher:
    """What vLLM's publisher sends, number by number."""

    def __init__(self, port: int):
        self.socket = zmq.Context.instance().socket(zmq.PUB)
        self.socket.bind(f"tcp://{HOST}:{port}")

    def send(self, number: int, first: int) -> None:
        event = {
            "type": "BlockStored", "block_hashes": [first], "parent_block_hash": None,
            "token_ids": list(range(first, first + 16)), "block_size": 16, "lora_id": None, "medium": "GPU",
            "lora_name": None,
        }  # fmt: skip
        payload = msgspec.msgpack.encode([time.time(), [event], 0])
        self.socket.send_multipart([b"", number.to_bytes(8, "big"), payload])

    def close(self) -> None:
        self.socket.close(0)


@pytest.fixture
def silent_tokenizer(tmp_path):
    """Pods that answer everything, but know no /tokenize, and a publisher in the test's own hands."""
    port = rig.free_port()
    publisher = Publisher(port)
    upstream = Upstream(2)
    fleet = fleet_of(upstream.ports)
    fleet["endpoints"][0]["kvEvents"] = {"endpoint": f"tcp://{HOST}:{port}"}
    picker = Picker(tmp_path, fleet, configuration(tmp_path, deadline="200ms"))
    envoy = Envoy(tmp_path, "full-duplex", picker.port, edit=rig.for_tests)
    yield publisher, picker, envoy
    envoy.stop()
    picker.process.kill()
    upstream.stop()
    publisher.close()


def test_without_an_engine_that_answers_the_text_has_to_do(silent_tokenizer):
    _, picker, envoy = silent_tokenizer
    rig.wait_until(lambda: picker.metrics().sum("epp_pd_kv_event_publishers", state="subscribed") == 1, "it")
    for _ in range(3):
        begun = time.monotonic()
        assert wire.post(envoy.port, wire.body(TEXT))[0] == 200
        assert time.monotonic() - begun < 3
    assert picker.metrics().sum("epp_pd_prefix_keys_total", source="late") == 3
    picker.wait_idle()


def test_gaps_and_restarts_show(silent_tokenizer):
    publisher, picker, _ = silent_tokenizer

    def metric(name, **labels):
        return picker.metrics().sum(f"epp_pd_{name}", **labels)

    def stored(count):
        return metric("kv_event_blocks_total", result="stored") == count

    # The first messages of a publisher that nobody has connected to yet are lost: that is no gap.
    numbers = itertools.count(5)

    def first():
        publisher.send(next(numbers), 1000)
        return metric("kv_event_batches_total", result="ok") > 0

    rig.wait_until(first, "the connection", every=0.2)
    number = next(numbers)
    publisher.send(number, 2000)
    rig.wait_until(lambda: stored(2), "the next batch")
    assert metric("kv_event_gaps_total") == 0
    publisher.send(number + 3, 3000)
    rig.wait_until(lambda: metric("kv_event_gaps_total") == 1, "the gap")
    assert metric("kv_event_lost_batches_total") == 2
    assert metric("kv_event_publishers", state="doubtful") == 1
    restarts = metric("kv_event_restarts_total")
    publisher.send(0, 4000)
    rig.wait_until(lambda: metric("kv_event_restarts_total") == restarts + 1, "the restart")
    rig.wait_until(lambda: metric("kv_event_publishers", state="doubtful") == 0, "a clean start")
    rig.wait_until(lambda: stored(4), "its batch")
    publisher.socket.send_multipart([b"", (1).to_bytes(8, "big"), b"\xff garbage"])
    rig.wait_until(lambda: metric("kv_event_batches_total", result="malformed") == 1, "the garbage")
    picker.process.check()


def test_a_shared_stores_hits_cost_transfer(tmp_path):
    """A store that belongs to no pod tells by events what it holds; explain shows what loading it costs."""
    port = rig.free_port()
    socket = zmq.Context.instance().socket(zmq.PUB)
    socket.bind(f"tcp://{HOST}:{port}")
    store = {"name": "lmcache", "gbps": 80, "latency": "3ms", "kvEvents": {"endpoint": f"tcp://{HOST}:{port}"}}
    setup = Rig(tmp_path, events_at(rig.free_ports(2)), kv={"stores": [store]})
    try:
        text = "known to the store alone " * 400
        question = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        tokens = httpx.post(f"http://{HOST}:{setup.ports[0]}/tokenize", json=question).json()["tokens"]
        blocks = len(tokens) // 16 // 2
        event = {
            "type": "BlockStored", "block_hashes": list(range(1, blocks + 1)), "parent_block_hash": None,
            "token_ids": tokens[: 16 * blocks], "block_size": 16, "lora_id": None, "medium": "STORAGE",
            "lora_name": None,
        }  # fmt: skip
        numbers = itertools.count()

        def told():
            payload = msgspec.msgpack.encode([time.time(), [event], 0])
            socket.send_multipart([b"kv@lmcache@m", next(numbers).to_bytes(8, "big"), payload])
            return setup.stored() >= blocks

        rig.wait_until(told, "the store's events", every=0.2)
        status, _, answer = wire.post(setup.envoy.port, chat(text))
        assert status == 200
        decision = setup.decision(json.loads(answer)["id"].removeprefix("chatcmpl-"))
        assert decision["chosen"]["cachedTokens"] == 16 * blocks
        # 3 ms and the bytes of that many tokens of Llama-3.1-8B at 10 GB/s.
        assert abs(decision["chosen"]["terms"]["pull"] - (0.003 + 16 * blocks * 131_072 / 10e9)) < 1e-6
        shown = subprocess.run([rig.binary(), "explain", setup.log], capture_output=True, text=True)
        assert "loading from lmcache" in shown.stdout
        assert subprocess.run([rig.binary(), "explain", setup.log, "--check"], capture_output=True).returncode == 0
    finally:
        setup.stop()
        socket.close(0)


def test_what_engines_cache_is_known_after_a_restart(tmp_path):
    """Engines tell once what they cache. The next picker has it from the file, and goes on where the last one stood."""
    file = tmp_path / "index.eppx"
    setup = Rig(tmp_path, events_at(rig.free_ports(2)), flags=(f"--prefix-index-file={file}",))
    try:
        rig.wait_until(lambda: setup.subscribed() == 1, "the subscription")
        time.sleep(0.5)
        assert wire.post(setup.ports[0], chat(TEXT))[0] == 200
        rig.wait_until(lambda: setup.stored() > 100, "the events")
        blocks = setup.stored()
        setup.envoy.process.kill()
        assert setup.picker.stop() == 0
        shown = subprocess.run([rig.binary(), "index", "stats", file, "--json"], capture_output=True, text=True)
        assert json.loads(shown.stdout)["blocks"] == blocks

        setup.picker = setup.begin("second")
        setup.envoy = Envoy(tmp_path, "full-duplex", setup.picker.port, name="second-envoy")
        assert "prefix index restored" in setup.picker.process.tail(200)
        assert setup.stored() == 0
        status, _, answer = wire.post(setup.envoy.port, chat(TEXT))
        assert status == 200
        answer = json.loads(answer)
        cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert setup.decision(answer["id"].removeprefix("chatcmpl-"))["chosen"]["cachedTokens"] == cached > 1000
        # What the pod publishes now follows on what the file says: no gap, no replay, nothing forgotten.
        rig.wait_until(lambda: setup.subscribed() == 1, "the subscription")
        time.sleep(0.5)
        assert wire.post(setup.ports[0], chat("another " + TEXT))[0] == 200
        rig.wait_until(lambda: setup.stored() > 100, "the next events")
        for name in ("gaps", "restarts", "lost_batches"):
            assert setup.metric(f"epp_pd_kv_event_{name}_total") == 0
        status, _, answer = wire.post(setup.envoy.port, chat(TEXT))
        again = json.loads(answer)
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == cached
    finally:
        setup.stop()


@pytest.mark.parametrize("damage", ["garbage", "future"])
def test_an_index_that_cannot_be_used_is_set_aside(tmp_path, damage):
    file = tmp_path / "index.eppx"
    later = b"EPPDPFX\n" + (99).to_bytes(2, "little") + bytes(22)
    file.write_bytes(later if damage == "future" else b"no index at all")
    fleet = fleet_of([rig.free_port()])
    picker = Picker(tmp_path, fleet, f"--prefix-index-file={file}")
    try:
        log = picker.process.tail(200)
        assert "the prefix index begins anew" in log
        assert ("version 99 is later" if damage == "future" else "not a file of the prefix index") in log
        assert (tmp_path / "index.eppx.corrupt").exists() and not file.exists()
    finally:
        assert picker.stop() == 0
    assert file.read_bytes().startswith(b"EPPDPFX\n")
    picker = Picker(tmp_path, fleet, f"--prefix-index-file={file}", name="second")
    try:
        assert "prefix index restored" in picker.process.tail(200)
    finally:
        picker.stop()
