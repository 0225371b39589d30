# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""x-epp-pd-decision: by option, what was decided, on the answer."""

import pytest
import rig
import wire
from conftest import Gateway

HEADER = "x-epp-pd-decision"


def answer_headers(port, data=None, path="/v1/chat/completions"):
    connection = wire.Raw(port)
    try:
        if data is None:
            connection.head("GET", path, {})
        else:
            connection.head("POST", path, {"content-type": "application/json", "content-length": str(len(data))})
            connection.send(data)
        answer = connection.answer("GET" if data is None else "POST")
        answer.read()
        assert answer.status == 200
        return answer
    finally:
        connection.close()


@pytest.mark.parametrize("template", ["full-duplex", "lean"])
def test_answers_tell_the_decision(tmp_path, template):
    gateway = Gateway(tmp_path, template, flags=("--decision-header",))
    try:
        value = answer_headers(gateway.port, wire.body("question " * 100)).getheader(HEADER)
        fields = dict(part.split("=", 1) for part in value.split(";"))
        served = gateway.upstream.received[-1].port
        assert fields["decode"] == f"both-{served}"
        assert float(fields["ttft"]) > 0 and float(fields["tpot"]) > 0 and float(fields["usd"]) > 0
        assert int(fields["cached"]) == 0 and "prefill" not in fields
        # Without an inference nothing was predicted.
        value = answer_headers(gateway.port, path="/v1/models").getheader(HEADER)
        assert value.startswith("decode=both-") and ";" not in value
        gateway.assert_clean()
    finally:
        gateway.stop()


def test_it_is_off_by_default(gateway):
    assert answer_headers(gateway.port, wire.body()).getheader(HEADER) is None
