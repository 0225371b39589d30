# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Pods, Envoy and the picker die: exactly the requests that were on them fail, and nothing leaks."""

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
import rig
import wire
from conftest import TEMPLATES, Gateway, fleet_of
from upstream import Upstream


@pytest.fixture
def own(tmp_path):
    """A gateway that a test may break."""
    made = []

    def make(**more):
        made.append(Gateway(tmp_path, **more))
        return made[-1]

    yield make
    for gateway in made:
        gateway.stop()


@pytest.fixture(params=TEMPLATES)
def own_of_each(own, request):
    """The same for each kind of cluster."""
    return lambda **more: own(template=TEMPLATES[request.param], **more)


def test_no_pod_at_all(own):
    gateway = own(fleet=lambda ports: {"endpoints": []})
    status, headers, answer = wire.post(gateway.port, wire.body())
    assert status == 503
    assert headers["x-llm-d-request-dropped-reason"]
    assert float(headers["retry-after"]) > 0
    assert json.loads(answer)["error"]["code"] in (503, "503", "service_unavailable")
    assert wire.get(gateway.port, "/v1/models")[0] == 503


def test_no_pod_that_decodes(own):
    gateway = own(fleet=lambda ports: fleet_of(ports, role="prefill"))
    status, headers, _ = wire.post(gateway.port, wire.body())
    assert (status, "x-llm-d-request-dropped-reason" in headers) == (503, True)


def test_a_pod_that_refuses_connections_leaves_the_candidates(own_of_each):
    gateway = own_of_each(pods=2)
    rig.wait_until(lambda: wire.post(gateway.port, wire.body())[0] == 200, "the first answer")
    dead = gateway.upstream.ports[0]
    gateway.upstream.close(dead)
    statuses = [wire.post(gateway.port, wire.body(f"question {i}"))[0] for i in range(60)]
    # Three connect failures in a row, or the failing scrapes, take it out; the requests that met it are lost.
    assert set(statuses) <= {200, 503}
    assert statuses.count(503) <= 5
    assert statuses[-20:] == [200] * 20
    # It comes back.
    gateway.upstream.open(dead)
    gateway.upstream.received.clear()

    def served_again():
        wire.post(gateway.port, wire.body(f"at {time.monotonic()}"))
        return any(r.port == dead for r in gateway.upstream.received)

    rig.wait_until(served_again, "the pod to be tried again", 40)
    gateway.assert_clean()


def test_the_last_pod_stays_a_candidate(own_of_each):
    gateway = own_of_each(pods=1)
    gateway.upstream.close(gateway.upstream.ports[0])
    assert {wire.post(gateway.port, wire.body())[0] for _ in range(8)} == {503}
    gateway.upstream.open(gateway.upstream.ports[0])
    assert wire.post(gateway.port, wire.body())[0] == 200


class HealthWatch:
    """One open grpc.health.v1 Watch, read on a thread of its own."""

    def __init__(self, port: int):
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.socket = socket.create_connection((rig.HOST, port), 5)
        self.data = b""
        self.connection.initiate_connection()
        fields = {
            ":method": "POST", ":scheme": "http", ":authority": "epp", ":path": "/grpc.health.v1.Health/Watch",
            "content-type": "application/grpc", "te": "trailers",
        }  # fmt: skip
        self.connection.send_headers(1, list(fields.items()))
        self.connection.send_data(1, bytes(5), end_stream=True)
        self.socket.sendall(self.connection.data_to_send())
        self.socket.settimeout(30)
        self.thread = threading.Thread(target=self.read)

    def read(self):
        try:
            while received := self.socket.recv(65536):
                for event in self.connection.receive_data(received):
                    if isinstance(event, h2.events.DataReceived):
                        self.data += event.data
                self.socket.sendall(self.connection.data_to_send())
        except (OSError, h2.exceptions.ProtocolError):
            pass  # the picker is gone, or h2 takes its GOAWAY for the end of all streams

    def statuses(self) -> list[int]:
        """Each message is five bytes of prefix, and a HealthCheckResponse: field 1, the status."""
        return [self.data[i + 6] for i in range(0, len(self.data) - 6, 7)]

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.thread.join(40)


class Streams:
    """Long streams through Envoy, each on a thread of its own."""

    def __init__(self, gateway, count: int, how="kind=sse&count=150&gap=0.02"):
        self.gateway = gateway
        self.outcomes: dict[int, bool] = {}
        before = len(gateway.upstream.received)
        self.threads = [threading.Thread(target=self.one, args=(i, how)) for i in range(count)]
        for thread in self.threads:
            thread.start()
        gateway.upstream.wait_for(lambda: len(gateway.upstream.received) == before + count)
        self.requests = gateway.upstream.received[before:]

    def one(self, index, how):
        try:
            headers = {"x-answer": how, "x-index": str(index)}
            status, _, answer = wire.post(self.gateway.port, wire.body(f"stream {index}", stream=True), headers, timeout=60)
            self.outcomes[index] = status == 200 and answer.endswith(b"[DONE]\n\n")
        except (OSError, http.client.HTTPException):
            self.outcomes[index] = False

    def join(self):
        for thread in self.threads:
            thread.join(60)
        return self.outcomes


def test_a_pod_dies_in_mid_stream(own):
    gateway = own(pods=3)
    streams = Streams(gateway, 12)
    dead = gateway.upstream.ports[0]
    on_dead = {int(r.header("x-index")) for r in streams.requests if r.port == dead}
    assert 0 < len(on_dead) < 12
    gateway.upstream.close(dead)
    outcomes = streams.join()
    assert {i for i, ok in outcomes.items() if not ok} == on_dead
    gateway.picker.wait_idle()


def test_envoy_dies_in_mid_stream(own):
    gateway = own()
    streams = Streams(gateway, 8)
    assert gateway.picker.in_flight()[0] == 8
    gateway.envoy.process.kill()
    assert not any(streams.join().values())
    gateway.picker.wait_idle()
    gateway.picker.process.check()


def test_a_client_dies_in_mid_stream(own):
    gateway = own()
    streams = Streams(gateway, 4)
    raw = wire.Raw(gateway.port)
    data = wire.body(stream=True)
    raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data)), "x-answer": "kind=sse&count=500&gap=0.02"})
    raw.send(data)
    gateway.upstream.wait_for(lambda: len(gateway.upstream.received) == 5)
    raw.socket.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER 0: a reset, as when a machine dies
    raw.close()
    assert all(streams.join().values())
    gateway.assert_clean()


@pytest.mark.parametrize("answer, status", [("kind=hang", 504), ("kind=sse&count=1000&gap=0.05", 200)])
def test_a_request_that_never_ends(own_of_each, answer, status):
    """Envoy ends none in full duplex: the picker answers before the first byte, and cuts an answer that has begun."""
    gateway = own_of_each(flags=("--request-timeout=2s",))
    raw = wire.Raw(gateway.port)
    data = wire.body(stream=True)
    raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data)), "x-answer": answer})
    raw.send(data)
    start = time.monotonic()
    reply = raw.answer()
    assert reply.status == status
    try:
        whole = reply.read().endswith(b"[DONE]\n\n")
    except (OSError, http.client.HTTPException):
        whole = False
    assert not whole
    assert 1.5 < time.monotonic() - start < 8
    raw.close()
    gateway.picker.wait_idle()
    assert gateway.picker.metrics().sum("epp_pd_requests_total", outcome="timed_out") == 1
    assert wire.post(gateway.port, wire.body())[0] == 200


def test_the_picker_is_down(own_of_each):
    gateway = own_of_each()
    assert wire.post(gateway.port, wire.body())[0] == 200
    gateway.picker.process.kill()
    # deploy/envoy says 503 by status_on_error, and fails closed: nothing reaches a pod unpicked.
    gateway.upstream.received.clear()
    assert wire.post(gateway.port, wire.body())[0] == 503
    assert wire.get(gateway.port, "/v1/models")[0] == 503
    assert gateway.upstream.received == []


def test_a_picker_whose_health_check_fails_is_not_asked(own):
    """deploy/envoy sets the panic threshold to zero: Envoy would else go on to ask a picker that says NOT_SERVING."""
    gateway = own(flags=("--drain-timeout=20s",))
    assert wire.post(gateway.port, wire.body())[0] == 200
    gateway.upstream.received.clear()
    os.kill(gateway.picker.process.child.pid, signal.SIGTERM)
    rig.wait_until(
        lambda: gateway.envoy.stats("cluster.epp.membership_healthy")["membership_healthy"] == 0,
        "Envoy to see it", 4.5, 0.02,
    )  # fmt: skip
    # It still serves, and is not asked.
    assert rig.http_get(gateway.picker.metrics_port, "/healthz")[0] == 200
    assert wire.post(gateway.port, wire.body())[0] == 503
    assert gateway.upstream.received == []


def test_served_elsewhere_is_counted(own, tmp_path):
    """Envoy's cluster does not know one of the picker's pods and silently serves from another one."""
    stranger = Upstream(1)
    gateway = own(
        template="override-host", pods=1, fleet=lambda ports: fleet_of(ports + stranger.ports)
    )
    for index in range(30):
        assert wire.post(gateway.port, wire.body(f"question {index}"))[0] == 200
    assert stranger.received == []
    assert gateway.picker.metrics().sum("epp_pd_served_elsewhere_total") > 0
    stranger.stop()


# Draining


def test_sigterm_lets_streams_finish(tmp_path):
    gateway = Gateway(tmp_path, flags=("--drain-timeout=20s",))
    try:
        streams = Streams(gateway, 4, "kind=sse&count=100&gap=0.02")
        start = time.monotonic()
        os.kill(gateway.picker.process.child.pid, signal.SIGTERM)
        rig.wait_until(lambda: rig.http_get(gateway.picker.metrics_port, "/readyz")[0] == 503, "readiness to end", 3)
        assert all(streams.join().values())
        code = gateway.picker.process.child.wait(15)
        took = time.monotonic() - start
        assert code == 0
        # min(drain-timeout, 5 s) for clients to notice, and no longer than the last stream.
        assert 4.5 < took < 9
    finally:
        gateway.stop()


def test_drain_ends_at_its_time_out(tmp_path):
    gateway = Gateway(tmp_path, flags=("--drain-timeout=2s",))
    try:
        streams = Streams(gateway, 1, "kind=sse&count=1000&gap=0.02")
        start = time.monotonic()
        os.kill(gateway.picker.process.child.pid, signal.SIGTERM)
        gateway.picker.process.child.wait(10)
        assert 1.5 < time.monotonic() - start < 5
        gateway.upstream.close(streams.requests[0].port)
        streams.join()
    finally:
        gateway.stop()


def test_requests_are_served_while_draining(tmp_path):
    """Envoy needs time to notice: until the picker is gone it serves."""
    gateway = Gateway(tmp_path, flags=("--drain-timeout=20s",))
    try:
        assert wire.post(gateway.port, wire.body())[0] == 200
        os.kill(gateway.picker.process.child.pid, signal.SIGTERM)
        served = 0
        while wire.post(gateway.port, wire.body(f"late {served}"))[0] == 200 and served < 10:
            served += 1
            time.sleep(0.1)
        # Two failed health checks, the second half a second after the first: only then Envoy itself refuses.
        noticed = gateway.envoy.stats("cluster.epp.membership_healthy")["membership_healthy"] == 0
        assert served == 10 or (noticed and served >= 3), served
        assert gateway.picker.process.child.wait(15) == 0
    finally:
        gateway.stop()


def test_sigterm_at_any_moment_of_the_start(tmp_path):
    fleet = fleet_of([rig.free_port()])
    for attempt in range(8):
        path = tmp_path / f"fleet-{attempt}.yaml"
        path.write_text(json.dumps(fleet))
        flags = [f"--{name}={rig.free_port()}" for name in ("grpc-port", "grpc-health-port", "metrics-port")]
        child = subprocess.Popen(
            [rig.binary(), "serve", "--fleet", path, "--secure-serving=false", "--drain-timeout=1s", *flags],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(attempt * 0.05)
        child.terminate()
        # Before the handler stands the kernel ends it.
        assert child.wait(10) in (0, -signal.SIGTERM)


def test_a_health_watch_hears_of_the_drain_and_does_not_hold_it_up(tmp_path):
    gateway = Gateway(tmp_path, flags=("--drain-timeout=20s",))
    try:
        with HealthWatch(gateway.picker.port) as watch:
            rig.wait_until(lambda: watch.statuses() == [1], "the first status", 5)
            start = time.monotonic()
            os.kill(gateway.picker.process.child.pid, signal.SIGTERM)
            rig.wait_until(lambda: watch.statuses() == [1, 2], "NOT_SERVING", 5)
            assert gateway.picker.process.child.wait(15) == 0
            assert time.monotonic() - start < 9
    finally:
        gateway.stop()


@pytest.mark.parametrize("share, least, most", [(1, 60, 60), (0.25, 3, 30), (0, 0, 0)])
def test_the_decision_log_on_standard_output_and_its_sample(tmp_path, share, least, most):
    gateway = Gateway(tmp_path, flags=("--decision-log=-", f"--decision-log-sample={share}"))
    try:
        for index in range(58):
            assert wire.post(gateway.port, wire.body(f"question {index}"))[0] == 200
        # What is no inference and what no pod serves leaves a record too.
        assert wire.get(gateway.port, "/v1/models")[0] == 200
        assert wire.post(gateway.port, wire.body(), {"x-test-subset": "10.9.9.9:1"})[0] == 503
    finally:
        gateway.stop()
    log = tmp_path / "decisions.jsonl"
    lines = [line for line in gateway.picker.process.log.read_text().splitlines() if line.startswith('{"')]
    log.write_text("".join(line + "\n" for line in lines))
    assert least <= len(lines) <= most
    if share == 1:
        records = [json.loads(line) for line in lines]
        assert sum("byLoad" in r for r in records) == 1
        assert sum("refusal" in r for r in records) == 1
        explained = subprocess.run([rig.binary(), "explain", log], capture_output=True, text=True).stdout
        assert "no inference: by load" in explained
        assert "refused, 503: the subset matches no eligible endpoint" in explained
    assert subprocess.run([rig.binary(), "explain", log, "--check"]).returncode == 0
