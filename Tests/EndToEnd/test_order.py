# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""What the central queue and its rules look like from outside: priorities for engines, waiting, leaving, refusals, and the
return to early binding."""

import json
import threading
import time

import pytest
import rig
import wire
import yaml
from conftest import Gateway
from rig import HOST, Envoy, Picker
from test_modes import mode

VARIANTS = {
    "buffered": mode("BUFFERED", "FULL_DUPLEX_STREAMED"),
    "headers": mode("NONE", "FULL_DUPLEX_STREAMED"),
}


def configuration(folder, **content) -> str:
    path = folder / "epp.yaml"
    path.write_text(yaml.safe_dump(content))
    return f"--config={path}"


@pytest.fixture(scope="module")
def prioritised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prioritised")
    flag = configuration(folder, pools={"default": {"enginePriority": "lowestFirst"}})
    gateway = Gateway(folder, flags=(flag,), variants=VARIANTS)
    yield gateway
    gateway.assert_clean()
    gateway.stop()


@pytest.mark.parametrize("variant", [None, "buffered"])
@pytest.mark.parametrize("own", [None, 5])
def test_engines_are_told_a_priority(prioritised, variant, own):
    port = prioritised.envoy.ports[variant] if variant else prioritised.port
    fields = {"temperature": 0.5} | ({} if own is None else {"priority": own})
    values = []
    for text in ("short", "long " * 5_000):
        # Unlike what any other request began with: nothing of it is cached.
        sent = wire.chat(f"{variant} {own} {text}", **fields)
        before = time.time() * 1000
        status, _, _ = wire.post(port, json.dumps(sent).encode())
        assert status == 200
        received = json.loads(prioritised.upstream.last().body)
        values.append(received["priority"] - before)
        assert {k: v for k, v in received.items() if k != "priority"} == {k: v for k, v in sent.items() if k != "priority"}
    # Milliseconds of Unix time, later the longer the prompt is.
    assert 0 <= values[0] < 10_000
    assert values[1] > values[0] + 100


def test_engines_that_serve_the_highest_first_are_told_the_opposite(tmp_path):
    """SGLang: what came earlier, and is shorter, has the higher number. One class outweighs any length."""
    rules = {"pools": {"default": {"enginePriority": "highestFirst"}}, "objectives": {"urgent": 1}}
    gateway = Gateway(tmp_path, flags=(configuration(tmp_path, **rules),))
    try:
        values = {}
        for name, text, headers in (
            ("short", "short", {}),
            ("long", "long " * 5_000, {}),
            ("urgent", "urgent " * 5_000, {"x-llm-d-inference-objective": "urgent"}),
        ):
            assert wire.post(gateway.port, wire.body(text), headers)[0] == 200
            values[name] = json.loads(gateway.upstream.last().body)["priority"]
        now = time.time() * 1000
        assert -now - 20_000 < values["long"] < values["short"] - 100
        assert values["short"] < -now + 20_000 < values["urgent"]
        gateway.assert_clean()
    finally:
        gateway.stop()


def test_chunked_bodies_get_a_priority_too(prioritised):
    status, _, _ = wire.post_http2(prioritised.port, [wire.body()[:20], wire.body()[20:]])
    assert status == 200
    assert json.loads(prioritised.upstream.last().body)["priority"] > 0


def test_bodies_that_are_not_seen_stay_as_they_are(prioritised):
    data = wire.body()
    assert wire.post(prioritised.envoy.ports["headers"], data)[0] == 200
    assert prioritised.upstream.last().body == data
    assert wire.post(prioritised.port, data, path="/v1/files")[0] == 200
    assert prioritised.upstream.last().body == data


def test_binding_is_early_while_no_first_tokens_are_seen(tmp_path):
    pod = OnePod(tmp_path, scale=4)

    def late() -> bool:
        return pod.picker.metrics().sum("epp_pd_late_binding") == 1

    def send(count: int, stream: bool) -> None:
        for _ in range(count):
            pod.asked += 1
            assert wire.post(pod.envoy.port, pod.body(2_000, stream), path="/v1/completions")[0] == 200

    try:
        assert late()
        send(60, stream=False)
        rig.wait_until(lambda: not late(), "early binding")
        send(90, stream=True)
        rig.wait_until(late, "late binding", timeout=5)
        pod.picker.wait_idle()
    finally:
        pod.stop()


@pytest.mark.parametrize(
    ("target", "ttft", "rises"),
    [
        # Nothing is as cheap; all keep their bound, where nine of ten need to; none can.
        ({"dollarsPerThousand": 0.000_001}, "60s", False),
        ({"attainment": 0.9}, "60s", False),
        ({"attainment": 0.9}, "1ms", True),
    ],
)
def test_the_value_of_time_is_steered_towards_a_target(tmp_path, target, ttft, rises):
    # A minute of the pod's time is a second of the test's.
    pod = OnePod(tmp_path, scale=60, ttft=ttft, control=target)

    def value() -> float:
        return pod.picker.metrics().sum("epp_pd_value_of_time_dollars")

    try:
        first = value()
        assert first > 0
        end = time.monotonic() + 20
        while value() == first and time.monotonic() < end:
            for _ in range(25):
                pod.asked += 1
                assert wire.post(pod.envoy.port, pod.body(100), path="/v1/completions")[0] == 200
        assert value() > first if rises else value() < first, (first, value())
        pod.picker.wait_idle()
    finally:
        pod.stop()


class OnePod:
    """A pod that takes about four seconds for the longest prompt, so that all others wait in the picker."""

    MODEL = "llama-3.1-8b"

    def __init__(self, folder, scale: float = 1, ttft: str = "60s", **rules):
        pod = {
            "name": "both", "role": "both", "accelerator": "l40s", "model": self.MODEL, "address": HOST,
            "port": rig.free_port(),
        }  # fmt: skip
        fleet = {"endpoints": [pod]}
        path = folder / "fleet.yaml"
        path.write_text(yaml.safe_dump(fleet))
        self.server = rig.Process("server", [rig.binary(), "mock-server", "--fleet", path, f"--time-scale={scale}"], folder)
        self.server.ready(lambda: rig.http_get(pod["port"], "/health")[0] == 200)
        flag = configuration(
            folder,
            objectives={"batch": -1, "urgent": 5},
            serviceLevels={"default": {"ttft": ttft}},
            **rules,
        )
        self.decisions = folder / "decisions.jsonl"
        self.picker = Picker(folder, fleet, flag, f"--time-scale={scale}", f"--decision-log={self.decisions}")
        self.envoy = Envoy(folder, "full-duplex", self.picker.port)
        self.ended: list[str] = []
        self.threads: list[threading.Thread] = []
        self.asked = 0

    def body(self, tokens: int, stream: bool = True) -> bytes:
        prompt = f"{self.asked} " + "word" * tokens
        fields = {"model": self.MODEL, "prompt": prompt, "max_tokens": 2, "stream": stream}
        return json.dumps(fields).encode()

    def ask(self, name: str, tokens: int, **headers: str) -> None:
        """Sends one request, and waits until the picker has it."""
        self.asked += 1
        body = self.body(tokens)

        def run():
            outcome = wire.post(self.envoy.port, body, headers, path="/v1/completions", timeout=60)
            self.ended.append(name if outcome[0] == 200 else f"{name} {outcome[0]}")

        arrived = self.arrived() + 1
        thread = threading.Thread(target=run)
        thread.start()
        self.threads.append(thread)
        rig.wait_until(lambda: self.arrived() >= arrived, f"{name} to arrive")

    def arrived(self) -> float:
        page = self.picker.metrics()
        return page.sum("epp_pd_requests_in_flight") + page.sum("epp_pd_requests_total")

    def waiting(self) -> float:
        return self.picker.metrics().sum("epp_pd_requests_waiting")

    def finish(self) -> list[str]:
        for thread in self.threads:
            thread.join(60)
        return self.ended

    def stop(self):
        self.envoy.stop()
        self.picker.process.kill()
        self.server.stop()


@pytest.fixture
def one_pod(tmp_path):
    pod = OnePod(tmp_path)
    yield pod
    pod.stop()


def test_the_queue_serves_in_its_order(one_pod):
    sizes = {"first": 30_000, "long": 20_000, "short": 500, "urgent": 10_000}
    for name in ("first", "long", "short"):
        one_pod.ask(name, sizes[name])
    one_pod.ask("urgent", sizes["urgent"], **{"x-llm-d-inference-objective": "urgent"})
    assert one_pod.waiting() == 3
    assert sorted(one_pod.finish()) == sorted(sizes)
    one_pod.picker.wait_idle()
    # What went together may end together, so the order is read from the decisions.
    assert one_pod.picker.stop() == 0
    log = [json.loads(line)["input"]["request"] for line in one_pod.decisions.read_text().splitlines()]
    by_size = dict(zip(sorted(r["promptTokens"] for r in log), sorted(sizes, key=lambda name: sizes[name])))
    assert [by_size[r["promptTokens"]] for r in log] == ["first", "urgent", "short", "long"]
    assert all(r["waited"] > 0.5 for r in log[1:])


def test_a_client_that_leaves_the_queue_is_forgotten(one_pod):
    one_pod.ask("first", 30_000)
    raw = wire.Raw(one_pod.envoy.port)
    body = one_pod.body(20_000)
    raw.head("POST", "/v1/completions", {"content-type": "application/json", "content-length": str(len(body))})
    raw.send(body)
    rig.wait_until(lambda: one_pod.waiting() == 1, "the second to wait")
    raw.close()
    rig.wait_until(lambda: one_pod.waiting() == 0, "the second to be forgotten", timeout=3)
    assert one_pod.finish() == ["first"]
    one_pod.picker.wait_idle()


def test_what_may_be_refused_is_refused_when_it_cannot_be_in_time(one_pod):
    batch = {"x-llm-d-inference-objective": "batch"}
    one_pod.ask("first", 30_000)
    # Its bound is below what the first one still takes.
    status, headers, body = wire.post(
        one_pod.envoy.port, one_pod.body(500), batch | {"x-slo-ttft-ms": "50"}, path="/v1/completions"
    )
    assert status == 429, body
    assert int(headers["retry-after"]) >= 1
    assert headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
    # One that has time waits, and one that may not be refused waits however late it is.
    one_pod.ask("patient", 400, **batch)
    one_pod.ask("late", 300, **{"x-llm-d-slo-ttft-ms": "50"})
    assert sorted(one_pod.finish()) == ["first", "late", "patient"]
    one_pod.picker.wait_idle()


@pytest.mark.parametrize("bound", [{"maximumRequests": 2}, {"maximumBytes": 3_000}])
def test_a_full_queue_refuses_or_sends_on(tmp_path, bound):
    """Two prompts of about 1,200 bytes fill either queue."""
    pod = OnePod(tmp_path, queue=bound)
    batch = {"x-llm-d-inference-objective": "batch"}
    try:
        pod.ask("first", 30_000)
        for name in ("second", "third"):
            pod.ask(name, 250)
        assert pod.waiting() == 2
        status, headers, _ = wire.post(pod.envoy.port, pod.body(250), batch, path="/v1/completions")
        assert status == 429 and headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
        pod.ask("fourth", 250)
        page = pod.picker.metrics()
        # The first one alone is larger than all that may wait by bytes.
        overflows = 1 if "maximumRequests" in bound else 2
        assert page.sum("epp_pd_queue_overflows_total") == overflows and page.sum("epp_pd_requests_waiting") == 2
        assert sorted(pod.finish()) == ["first", "fourth", "second", "third"]
        pod.picker.wait_idle()
    finally:
        pod.stop()


def test_every_hold_ends(tmp_path):
    """What may be refused is refused at its end, in time as it would still be; anything else goes to the pod that there is."""
    pod = OnePod(tmp_path, queue={"maximumHold": "1s"})
    try:
        pod.ask("first", 30_000)
        pod.ask("patient", 300)
        began = time.monotonic()
        answer = wire.post(
            pod.envoy.port, pod.body(300), {"x-llm-d-inference-objective": "batch"}, path="/v1/completions"
        )
        assert answer[0] == 429 and 0.9 < time.monotonic() - began < 3
        assert pod.waiting() == 0
        assert sorted(pod.finish()) == ["first", "patient"]
        pod.picker.wait_idle()
    finally:
        pod.stop()


def test_those_who_wait_for_pods_that_left_are_told(one_pod):
    one_pod.ask("first", 30_000)
    one_pod.ask("second", 300)
    assert one_pod.waiting() == 1
    one_pod.picker.write_fleet({"endpoints": []})
    rig.wait_until(lambda: "second 503" in one_pod.ended, "the second to be refused", timeout=5)
    assert sorted(one_pod.finish()) == ["first", "second 503"]
    one_pod.picker.wait_idle()


def test_binding_early_refuses_on_arrival(tmp_path):
    pod = OnePod(tmp_path, binding="early")
    batch = {"x-llm-d-inference-objective": "batch"}
    try:
        pod.ask("first", 30_000)
        began = time.monotonic()
        late = wire.post(pod.envoy.port, pod.body(300), batch | {"x-slo-ttft-ms": "500"}, path="/v1/completions")
        assert late[0] == 429 and int(late[1]["retry-after"]) >= 1 and time.monotonic() - began < 1
        pod.ask("patient", 300, **batch)
        pod.ask("late", 300, **{"x-slo-ttft-ms": "500"})
        assert pod.waiting() == 0
        assert sorted(pod.finish()) == ["first", "late", "patient"]
        pod.picker.wait_idle()
    finally:
        pod.stop()
