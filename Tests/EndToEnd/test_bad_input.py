# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Bad input is answered as OpenAI's API answers it, at once, and reaches no pod."""

import json

import pytest
import rig
import wire


def error_of(answer: bytes) -> dict:
    error = json.loads(answer)["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    return error


@pytest.mark.parametrize(
    "body",
    [b"{", b"not json", b"[1, 2]", b'"text"', b'{"model": "test-model", "messages": [', b"\xff\xfe{}", b"nul"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_body_that_is_no_json_object(gateway, body, path):
    status, headers, answer = wire.post(gateway.port, body, path=path)
    assert status == 400
    assert headers["content-type"].startswith("application/json")
    assert error_of(answer)["message"]
    assert gateway.upstream.received == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"])
def test_model_missing(gateway, path):
    status, _, answer = wire.post(gateway.port, b'{"messages": [], "prompt": "x", "input": "x"}', path=path)
    assert status == 400
    assert error_of(answer)["param"] == "model"


def test_model_of_the_wrong_type(gateway):
    status, _, answer = wire.post(gateway.port, b'{"model": 7, "prompt": "x"}', path="/v1/completions")
    assert status == 400


def test_model_that_no_pod_serves(gateway):
    # Every pod's model list must have been read first: until then nothing is refused.
    def refused():
        status, _, answer = wire.post(gateway.port, wire.body().replace(b"test-model", b"other-model"))
        return answer if status == 404 else None

    error = error_of(rig.wait_until(refused, "the model lists to be read", 25))
    assert "other-model" in error["message"]
    assert error["param"] == "model"


def test_body_over_the_limit(gateway):
    data = wire.body("x" * (21 << 20))
    raw = wire.Raw(gateway.port, timeout=60)
    raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data))})
    raw.upload(data)
    answer = raw.answer()
    assert answer.status == 413
    error_of(answer.read())
    raw.close()
    assert gateway.upstream.received == []


def test_unknown_paths_are_routed_by_load(gateway):
    status, _, _ = wire.post(gateway.port, b"anything at all \x00\xff", path="/v2/whatever")
    assert status == 200
    assert gateway.upstream.last().body == b"anything at all \x00\xff"


def test_bad_and_good_streams_share_a_connection_to_the_picker(gateway):
    """A bad request ends its own exchange and no other."""
    for _ in range(20):
        assert wire.post(gateway.port, b"{")[0] == 400
        assert wire.post(gateway.port, wire.body())[0] == 200
