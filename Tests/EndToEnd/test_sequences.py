# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Every sequence of messages that Envoy sends in full duplex mode, from the outside: the client gets the model server's
answer byte for byte, the model server gets the client's body byte for byte and at a pod of the fleet, Envoy has nothing to
complain of, and the picker's ledger returns to zero (checked by the `gateway` fixture)."""

import http.client
import json
import os
import signal
import time

import pytest
import wire

MEGABYTE = 1 << 20


def assert_routed(gateway, request=None):
    request = request or gateway.upstream.last()
    assert request.header("x-gateway-destination-endpoint") == f"127.0.0.1:{request.port}"
    return request


# Headers only


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_request_without_body(gateway, method):
    status, _, body = wire.get(gateway.port, "/v1/models", method)
    assert status == 200
    assert (body == b"") == (method == "HEAD")
    assert assert_routed(gateway).method == method


def test_post_of_length_zero(gateway):
    status, _, _ = wire.post(gateway.port, b"", path="/reset")
    assert status == 200
    assert assert_routed(gateway).body == b""


def test_post_of_length_zero_to_an_api(gateway):
    """Envoy says with the headers that no body comes: as wrong as an empty one."""
    status, headers, answer = wire.post(gateway.port, b"")
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(answer)["error"]["type"] == "BadRequestError"
    assert gateway.upstream.received == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answer_without_body(gateway, method):
    status, headers, body = wire.get(gateway.port, "/health", method, {"x-answer": "kind=empty"})
    assert (status, body) == (200, b"")
    assert_routed(gateway)


# Request bodies


def test_small_post(gateway):
    data = wire.body()
    status, _, answer = wire.post(gateway.port, data)
    assert status == 200
    assert json.loads(answer)["object"] == "chat.completion"
    assert assert_routed(gateway).body == data


def test_small_post_in_chunks(gateway):
    data = wire.body()
    raw = wire.Raw(gateway.port)
    raw.head("POST", "/v1/chat/completions", {"content-type": "application/json", "transfer-encoding": "chunked"})
    for start in range(0, len(data), 10):
        raw.chunk(data[start : start + 10])
    raw.chunk(b"")
    assert raw.answer().status == 200
    assert assert_routed(gateway).body == data
    raw.close()


def test_small_post_that_expects_100_continue(gateway):
    data = wire.body()
    raw = wire.Raw(gateway.port)
    raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data)), "expect": "100-continue"})
    time.sleep(0.05)
    raw.send(data)
    answer = raw.answer()  # http.client skips the interim answer
    assert answer.status == 200
    assert assert_routed(gateway).body == data
    raw.close()


def test_body_that_comes_slowly(gateway):
    data = wire.body("slow " * 50)
    raw = wire.Raw(gateway.port)
    raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data))})
    for start in range(0, len(data), 60):
        raw.send(data[start : start + 60])
        time.sleep(0.03)
    assert raw.answer().status == 200
    assert assert_routed(gateway).body == data
    raw.close()


def test_http2_post_in_one_message(gateway):
    data = wire.body()
    assert wire.post_http2(gateway.port, [data])[0] == 200
    assert assert_routed(gateway).body == data


def test_http2_post_whose_end_is_a_message_of_its_own(gateway):
    data = wire.body()
    assert wire.post_http2(gateway.port, [data[:20], data[20:], b""])[0] == 200
    assert assert_routed(gateway).body == data


@pytest.mark.parametrize("size", [MEGABYTE, 8 * MEGABYTE])
@pytest.mark.parametrize("chunked", [False, True])
def test_large_post(gateway, size, chunked):
    data = wire.body("long words " * (size // 11))
    raw = wire.Raw(gateway.port, timeout=60)
    head = {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(data))}
    raw.head("POST", "/v1/chat/completions", {"content-type": "application/json", **head})
    if chunked:
        for start in range(0, len(data), 100_000):
            raw.chunk(data[start : start + 100_000])
        raw.chunk(b"")
    else:
        raw.send(data)
    assert raw.answer().status == 200
    assert assert_routed(gateway).body == data
    raw.close()


def test_client_trailers_over_http1(gateway):
    data = wire.body()
    raw = wire.Raw(gateway.port)
    raw.head("POST", "/v1/chat/completions", {"transfer-encoding": "chunked", "trailer": "x-checksum"})
    raw.chunk(data)
    raw.send(b"0\r\nx-checksum: abc\r\n\r\n")
    assert raw.answer().status == 200
    assert assert_routed(gateway).body == data
    raw.close()


def test_client_trailers_over_http2(gateway):
    data = wire.body()
    assert wire.post_http2(gateway.port, [data], trailers={"x-checksum": "abc"})[0] == 200
    assert assert_routed(gateway).body == data


# Answers


def test_server_sent_events(gateway):
    status, headers, answer = wire.post(
        gateway.port, wire.body(stream=True), {"x-answer": "kind=sse&count=20&gap=0.005"}
    )
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    events = [line for line in answer.decode().split("\n\n") if line]
    assert len(events) == 22
    assert events[-1] == "data: [DONE]"
    assert_routed(gateway)


def test_first_event_does_not_wait_for_the_last(gateway):
    raw = wire.Raw(gateway.port)
    data = wire.body(stream=True)
    raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data)), "x-answer": "kind=sse&count=4&gap=0.25"})
    start = time.monotonic()
    raw.send(data)
    answer = raw.answer()
    assert answer.readline().startswith(b"data: ")
    assert time.monotonic() - start < 0.5
    answer.read()
    assert time.monotonic() - start > 0.9
    raw.close()


def test_large_json_answer(gateway):
    status, _, answer = wire.post(gateway.port, wire.body(), {"x-answer": f"size={MEGABYTE}"})
    assert status == 200
    assert len(json.loads(answer)["padding"]) == MEGABYTE


@pytest.mark.parametrize("code", [400, 404, 429, 500, 503])
def test_errors_of_the_model_server_pass_through(gateway, code):
    status, _, answer = wire.post(gateway.port, wire.body(), {"x-answer": f"status={code}"})
    assert status == code
    assert json.loads(answer)["error"]["code"] == code


def test_model_server_closes_without_an_answer(gateway):
    status, _, answer = wire.post(gateway.port, wire.body(), {"x-answer": "kind=close"})
    assert status == 503
    assert b"upstream connect error" in answer


@pytest.mark.parametrize("kind", ["json", "sse"])
def test_answer_before_the_body_was_read(gateway, kind):
    """The model server answers while the body is still on its way to it: the picker must not wait for what never comes."""
    status, _, answer = wire.post(gateway.port, wire.body("x" * 8 * MEGABYTE), {"x-answer": f"kind={kind}&early=1"})
    assert status == 200
    assert answer.endswith(b"data: [DONE]\n\n") if kind == "sse" else json.loads(answer)["usage"]
    assert assert_routed(gateway).body == b""


def test_model_server_dies_in_mid_stream(gateway):
    before = gateway.picker.metrics().sum("epp_pd_requests_total", outcome="completed")
    raw = wire.Raw(gateway.port)
    data = wire.body(stream=True)
    raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data)), "x-answer": "kind=cut&count=3"})
    raw.send(data)
    answer = raw.answer()
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()
    assert cut.value.partial.count(b"\n\n") == 3
    raw.close()
    gateway.picker.wait_idle()
    assert gateway.picker.metrics().sum("epp_pd_requests_total", outcome="completed") == before


# Clients that leave


def leave(gateway, how: str, after: float, arrives: bool = True):
    data = wire.body(stream=True)
    raw = wire.Raw(gateway.port)
    raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data)), "x-answer": how})
    raw.send(data)
    if arrives:
        gateway.upstream.wait_for(lambda: gateway.upstream.received)
    time.sleep(after)
    raw.close()


def test_client_leaves_in_mid_stream(gateway):
    leave(gateway, "kind=sse&count=200&gap=0.02", 0.3)
    gateway.upstream.wait_for(lambda: gateway.upstream.received and gateway.upstream.last().left_early)


def test_client_leaves_before_the_response_headers(gateway):
    leave(gateway, "kind=hang", 0.3)
    gateway.upstream.wait_for(lambda: gateway.upstream.received and gateway.upstream.last().left_early)


def test_client_leaves_in_mid_body(gateway):
    raw = wire.Raw(gateway.port)
    raw.head("POST", "/v1/chat/completions", {"content-length": "100000"})
    raw.send(wire.body()[:40])
    time.sleep(0.1)
    raw.close()
    time.sleep(0.2)
    assert gateway.upstream.received == []


def test_client_leaves_while_the_picker_thinks(gateway):
    pid = gateway.picker.process.child.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        leave(gateway, "kind=json", 0.2, arrives=False)
    finally:
        os.kill(pid, signal.SIGCONT)


# Time


def test_a_slow_picker_is_waited_for(gateway):
    pid = gateway.picker.process.child.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        data = wire.body()
        raw = wire.Raw(gateway.port)
        raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data))})
        raw.send(data)
        time.sleep(1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert raw.answer().status == 200
    raw.close()


# Many on one connection


def test_requests_follow_each_other_on_one_connection(gateway):
    raw = wire.Raw(gateway.port)
    for index in range(30):
        data = wire.body(f"turn {index}")
        raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data))})
        raw.send(data)
        answer = raw.answer()
        assert answer.status == 200
        answer.read()
        assert gateway.upstream.last().body == data
    raw.close()
