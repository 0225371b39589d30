# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Request bodies on their way: large ones in every mode, ones that stall, and more of them than there is room for."""

import json

import pytest
import rig
import wire
from conftest import Gateway

MIB = 1 << 20


def buffers_much(manager):
    rig.set_modes(manager, request_body_mode="BUFFERED")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    def let_envoy_buffer(config):
        for listener in config["static_resources"]["listeners"]:
            listener["per_connection_buffer_limit_bytes"] = 64 * MIB

    gateway = Gateway(
        tmp_path_factory.mktemp("uploads"),
        # A body of 16 MiB, and the message of up to 4 MiB that is on its way to it.
        flags=["--upload-timeout", "2s", "--body-memory-mib", "24"],
        variants={"buffered": buffers_much},
        edit=let_envoy_buffer,
    )
    yield gateway
    gateway.picker.process.check()
    gateway.picker.wait_idle()
    gateway.stop()


def test_a_buffered_body_of_many_megabytes_passes(gateway):
    data = wire.body("x" * (10 * MIB))
    assert wire.post(gateway.envoy.ports["buffered"], data, timeout=60)[0] == 200
    assert gateway.upstream.last().body == data


def test_a_buffered_body_over_the_limit_is_413(gateway):
    """Chunked, so that the size shows in the gRPC message alone."""
    raw = wire.Raw(gateway.envoy.ports["buffered"], timeout=60)
    raw.head("POST", "/v1/chat/completions", {"transfer-encoding": "chunked"})
    raw.upload(b"%x\r\n%s\r\n" % (MIB, b" " * MIB) * 22 + b"0\r\n\r\n")
    answer = raw.answer()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["message"]
    raw.close()


def test_an_upload_that_stalls_is_408(gateway):
    raw = wire.Raw(gateway.port)
    raw.head("POST", "/v1/chat/completions", {"content-length": "1000"})
    raw.send(b"{")
    answer = raw.answer()
    assert answer.status == 408
    assert json.loads(answer.read())["error"]["message"]
    raw.close()


def test_more_bodies_than_there_is_room_for(gateway):
    first = wire.Raw(gateway.port)
    first.head("POST", "/v1/chat/completions", {"content-length": str(16 * MIB)})
    first.send(b" " * (12 * MIB))
    held = lambda: gateway.picker.metrics().sum("epp_pd_request_body_bytes") > 11 * MIB
    rig.wait_until(held, "the first body to be held", 5)
    status, headers, _ = wire.post(gateway.port, wire.body("y" * (9 * MIB)))
    assert status == 503
    assert headers["retry-after"] == "1"
    assert wire.post(gateway.port, wire.body())[0] == 200
    first.close()
    free = lambda: gateway.picker.metrics().sum("epp_pd_request_body_bytes") == 0
    rig.wait_until(free, "the room to come back", 5)
    assert wire.post(gateway.port, wire.body("y" * (9 * MIB)))[0] == 200
    assert gateway.picker.metrics().sum("epp_pd_request_bodies_refused_total") == 1
