# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Every processing mode that a gateway may be configured with, lean ones included: same answers, same routing, and the
ledger returns to zero. One Envoy with a listener per mode."""

import json

import pytest
import rig
import wire
from conftest import TEMPLATES, Gateway

REQUEST = ["FULL_DUPLEX_STREAMED", "STREAMED", "BUFFERED", "NONE"]
RESPONSE = ["FULL_DUPLEX_STREAMED", "STREAMED", "BUFFERED", "NONE"]


def mode(request_body: str, response_body: str, response_header: str = "SEND", response_trailer: str = "SEND"):
    def change(manager):
        rig.set_modes(
            manager,
            request_body_mode=request_body,
            request_trailer_mode="SEND",
            response_header_mode=response_header,
            response_body_mode=response_body,
            response_trailer_mode=response_trailer,
        )

    return change


VARIANTS = {f"{r}-{s}": mode(r, s) for r in REQUEST for s in RESPONSE} | {
    # lean.yaml is FULL_DUPLEX_STREAMED-NONE above; here without response headers.
    "trl": mode("FULL_DUPLEX_STREAMED", "NONE", response_header="SKIP"),
    # The gRPC stream ends long before the answer: in-flight counts are then a guess, but all else holds.
    "hdr": mode("FULL_DUPLEX_STREAMED", "NONE", response_trailer="SKIP"),
    "none": mode("FULL_DUPLEX_STREAMED", "NONE", response_header="SKIP", response_trailer="SKIP"),
}


# Modes in which a request is routed by its headers alone.
BY_HEADERS = ("STREAMED", "NONE")

# With override_host the cluster differs, and what Envoy tells of the response: one of each mode is enough.
CASES = [("original_dst", name) for name in VARIANTS] + [
    ("override_host", name) for name in ("STREAMED-STREAMED", "BUFFERED-BUFFERED", "NONE-NONE", "FULL_DUPLEX_STREAMED-NONE", "trl")
]  # fmt: skip


@pytest.fixture(scope="module")
def gateways(tmp_path_factory):
    """A gateway for each kind of cluster, made when first asked for."""
    made = {}

    def get(kind: str) -> Gateway:
        if kind not in made:
            names = [name for k, name in CASES if k == kind]
            variants = {name: VARIANTS[name] for name in names}
            made[kind] = Gateway(tmp_path_factory.mktemp(kind), TEMPLATES[kind], variants=variants)
        return made[kind]

    yield get
    for gateway in made.values():
        gateway.stop()


@pytest.fixture
def case(request, gateways):
    return gateways(request.param[0]), request.param[1]


@pytest.fixture
def modes(case):
    return case[0]


@pytest.fixture
def name(case):
    return case[1]


@pytest.fixture
def port(modes, name):
    modes.upstream.received.clear()
    before = modes.complaints()
    yield modes.envoy.ports[name]
    modes.assert_clean(before)


def pytest_generate_tests(metafunc):
    if "port" in metafunc.fixturenames:
        cases = [c for c in CASES if "early" not in metafunc.function.__name__ or c[1].startswith(BY_HEADERS)]
        metafunc.parametrize("case", cases, indirect=True, ids=["-".join(c) for c in cases])


def test_small_post(modes, port):
    data = wire.body()
    status, _, answer = wire.post(port, data)
    assert status == 200
    assert json.loads(answer)["object"] == "chat.completion"
    assert modes.upstream.last().body == data
    request = modes.upstream.last()
    assert request.header("x-gateway-destination-endpoint") == f"127.0.0.1:{request.port}"


def test_large_post_and_large_answer(modes, port, name):
    # Envoy itself limits what it buffers in BUFFERED mode.
    size = 20_000 if "BUFFERED" in name else 1 << 20
    data = wire.body("x" * size)
    status, _, answer = wire.post(port, data, {"x-answer": f"size={size}"}, timeout=30)
    assert status == 200
    assert len(json.loads(answer)["padding"]) == size
    assert modes.upstream.last().body == data


def test_stream(modes, port):
    status, _, answer = wire.post(port, wire.body(stream=True), {"x-answer": "kind=sse&count=5"})
    assert status == 200
    assert answer.endswith(b"data: [DONE]\n\n")
    assert answer.count(b"\n\n") == 7


def test_get(modes, port):
    assert wire.get(port, "/v1/models")[0] == 200


def test_error_of_the_model_server(modes, port):
    assert wire.post(port, wire.body(), {"x-answer": "status=500"})[0] == 500


def test_bad_body(port, name):
    status, _, _ = wire.post(port, b"{")
    # In NONE and STREAMED the request must be routed before its body is shown.
    assert status == (200 if name.startswith(("NONE", "STREAMED")) else 400)


def test_client_leaves_in_mid_stream(modes, port):
    raw = wire.Raw(port)
    data = wire.body(stream=True)
    raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data)), "x-answer": "kind=sse&count=100&gap=0.02"})
    raw.send(data)
    rig.wait_until(lambda: modes.upstream.received, "the request to arrive", 5)
    raw.close()
    modes.upstream.wait_for(lambda: modes.upstream.last().left_early)


def test_an_early_answer(modes, port):
    """Routed by its headers, a request is at the model server, and answered, before its body is whole."""
    raw = wire.Raw(port)
    raw.head("POST", "/v1/chat/completions", {"content-length": "100000", "x-answer": "early=1"})
    raw.send(b"x" * 1000)
    assert raw.answer().status == 200
    assert modes.upstream.last().unread < 100_000
    raw.close()
