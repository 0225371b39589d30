# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Lean observation behind the real Envoy: lean.yaml as it is, overrides per request, and skimming."""

import json
import time

import pytest
import rig
import wire
from conftest import Gateway


def tokens(gateway) -> float:
    """Output tokens that answers reported to the picker: only those whose bodies it saw."""
    return sum(value for name, _, value in gateway.picker.metrics().samples if name == "epp_pd_output_tokens_total")


def first_tokens(gateway) -> float:
    page = gateway.picker.metrics()
    # The histogram of a group appears with its first sample.
    return sum(value for name, _, value in page.samples if name == "epp_pd_ttft_seconds_count")


def exercise(gateway) -> None:
    """Each kind of exchange, checked at both ends."""
    small, large = wire.body(), wire.body("x" * (1 << 20))
    for data in (small, large):
        status, _, answer = wire.post(gateway.port, data, {"x-answer": "size=300000"}, timeout=30)
        assert status == 200 and len(json.loads(answer)["padding"]) == 300_000
        request = gateway.upstream.last()
        assert request.body == data
        assert request.header("x-gateway-destination-endpoint") == f"127.0.0.1:{request.port}"
    status, _, answer = wire.post(gateway.port, wire.body(stream=True), {"x-answer": "kind=sse&count=5"})
    assert status == 200 and answer.count(b"\n\n") == 7 and answer.endswith(b"data: [DONE]\n\n")
    assert wire.get(gateway.port, "/v1/models")[0] == 200
    assert wire.post(gateway.port, small, {"x-answer": "status=500"})[0] == 500
    assert wire.post(gateway.port, b"{")[0] == 400


@pytest.mark.parametrize("case", ["lean", "sampled-0", "sampled-1", "skim", "skim-override-host"])
def test_exchanges(tmp_path, case):
    template, flags = {
        "lean": ("lean", ()),
        "sampled-0": ("sampled", ("--override-modes", "--observe-share=0")),
        "sampled-1": ("sampled", ("--override-modes", "--observe-share=1")),
        "skim": ("full-duplex", ("--skim",)),
        "skim-override-host": ("override-host", ("--skim",)),
    }[case]
    gateway = Gateway(tmp_path, template, flags=flags)
    try:
        for _ in range(3):
            exercise(gateway)
        gateway.assert_clean()
        if case == "sampled-1":
            assert first_tokens(gateway) == 3 and tokens(gateway) > 0
        else:
            assert first_tokens(gateway) == 0 and tokens(gateway) == 0
    finally:
        gateway.stop()


@pytest.mark.parametrize("template, flags", [("lean", ()), ("sampled", ("--override-modes", "--observe-share=0"))])
def test_a_stream_counts_as_in_flight_until_it_ends(tmp_path, template, flags):
    gateway = Gateway(tmp_path, template, flags=flags)
    try:
        raw = wire.Raw(gateway.port)
        data = wire.body(stream=True)
        raw.head("POST", "/v1/chat/completions", {
            "content-length": str(len(data)), "x-answer": "kind=sse&count=20&gap=0.05",
        })  # fmt: skip
        raw.send(data)
        rig.wait_until(lambda: gateway.picker.in_flight()[0] == 1, "the request to be in flight", 5)
        time.sleep(0.5)
        assert gateway.picker.in_flight()[0] == 1
        assert raw.answer().read().endswith(b"data: [DONE]\n\n")
        gateway.assert_clean()
    finally:
        gateway.stop()


@pytest.mark.parametrize("template, flags", [("lean", ()), ("sampled", ("--override-modes", "--observe-share=0"))])
def test_a_client_that_leaves_before_the_answer_is_no_success(tmp_path, template, flags):
    gateway = Gateway(tmp_path, template, flags=flags)
    try:
        assert wire.post(gateway.port, wire.body())[0] == 200
        raw = wire.Raw(gateway.port)
        data = wire.body()
        raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data)), "x-answer": "kind=hang"})
        raw.send(data)
        gateway.upstream.wait_for(lambda: len(gateway.upstream.received) == 2)
        raw.close()
        gateway.upstream.wait_for(lambda: gateway.upstream.last().left_early)
        gateway.assert_clean()
        page = gateway.picker.metrics()
        assert page.sum("epp_pd_requests_total", outcome="completed") == 1
        assert page.sum("epp_pd_requests_total", outcome="cancelled") == 1
    finally:
        gateway.stop()


def test_the_share_that_is_asked_for_is_what_is_seen(tmp_path):
    gateway = Gateway(tmp_path, "sampled", flags=("--override-modes", "--observe-share=0.25"))
    try:
        for _ in range(40):
            assert wire.post(gateway.port, wire.body(stream=True), {"x-answer": "kind=sse&count=3&gap=0"})[0] == 200
        gateway.assert_clean()
        assert first_tokens(gateway) == 10
    finally:
        gateway.stop()


def test_an_override_is_never_sent_to_full_duplex(tmp_path):
    """There it would be an error: --override-modes changes nothing."""
    gateway = Gateway(tmp_path, "full-duplex", flags=("--override-modes", "--observe-share=0"))
    try:
        exercise(gateway)
        gateway.assert_clean()
        assert first_tokens(gateway) == 1
    finally:
        gateway.stop()
