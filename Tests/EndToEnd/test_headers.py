# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Nothing that a client sends decides where a request goes."""

import pytest
import wire

SPOOFED = [
    "x-gateway-destination-endpoint",
    "x-gateway-destination-endpoint-subset",
    "x-gateway-destination-endpoint-served",
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-kv-cache-source-host-port",
    "x-data-parallel-host-port",
    "x-data-parallel-rank",
]


def send(gateway, kind, headers):
    if kind == "post":
        return wire.post(gateway.port, wire.body(), headers)[0]
    if kind == "http2":
        return wire.post_http2(gateway.port, [wire.body()], headers)[0]
    return wire.get(gateway.port, "/v1/models", headers=headers)[0]


@pytest.mark.parametrize("kind", ["post", "http2", "get"])
def test_spoofed_headers_do_not_reach_the_pod(gateway, kind):
    assert send(gateway, kind, dict.fromkeys(SPOOFED, "203.0.113.9:80")) == 200
    request = gateway.upstream.last()
    assert request.header("x-gateway-destination-endpoint") == f"127.0.0.1:{request.port}"
    for name in SPOOFED[1:]:
        assert request.header(name) is None, name
    # Nor in other spellings or twice.
    assert all("203.0.113.9" not in value for name, value in request.headers if name.startswith("x-"))


def test_a_header_given_twice_is_overwritten(gateway):
    raw = wire.Raw(gateway.port)
    data = wire.body()
    raw.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n"
        b"X-Gateway-Destination-Endpoint: 203.0.113.9:80\r\nx-gateway-destination-endpoint: 203.0.113.10:80\r\n"
        b"x-prefiller-host-port: 203.0.113.9:80\r\nx-prefiller-host-port: 203.0.113.10:80\r\n\r\n" % len(data)
    )
    raw.send(data)
    assert raw.answer().status == 200
    request = gateway.upstream.last()
    assert request.header("x-gateway-destination-endpoint") == f"127.0.0.1:{request.port}"
    assert request.header("x-prefiller-host-port") is None
    raw.close()


def test_other_headers_pass_untouched(gateway):
    trace = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    given = {"x-mine": "a, b", "authorization": "Bearer s", "traceparent": trace, "x-llm-d-slo-ttft-ms": "900"}
    assert send(gateway, "post", given) == 200
    for name, value in given.items():
        assert gateway.upstream.last().header(name) == value


# The subset hint


@pytest.mark.parametrize("kind", ["post", "http2", "get"])
def test_subset_restricts_the_destination(gateway, kind):
    wanted = gateway.upstream.ports[1]
    for _ in range(6):
        assert send(gateway, kind, {"x-test-subset": f"127.0.0.1:{wanted},203.0.113.9:80"}) == 200
        assert gateway.upstream.last().port == wanted


def test_subset_entry_without_port_matches_by_address(gateway):
    assert send(gateway, "post", {"x-test-subset": "127.0.0.1"}) == 200


@pytest.mark.parametrize("kind", ["post", "http2", "get"])
def test_subset_that_matches_nothing_is_503(gateway, kind):
    headers = {"x-test-subset": "203.0.113.9:80"}
    assert send(gateway, kind, headers) == 503
    assert gateway.upstream.received == []
