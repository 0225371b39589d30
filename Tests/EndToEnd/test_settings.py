# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""What a gateway may have set besides its modes: time-outs, content-length, IPv6."""

import json
import os
import signal
import socket
import time

import pytest
import rig
import wire
import yaml
from conftest import Gateway, fleet_of


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="needs an IPv6 loopback")
def test_a_destination_by_ipv6(tmp_path):
    gateway = Gateway(tmp_path, pods=2, host="::1", fleet=lambda ports: fleet_of(ports, address="::1"))
    try:
        assert wire.post(gateway.port, wire.body())[0] == 200
        request = gateway.upstream.last()
        assert request.header("x-gateway-destination-endpoint") == f"[::1]:{request.port}"
        gateway.assert_clean()
    finally:
        gateway.stop()


def allow_content_length(config):
    rig.ext_proc(rig.connection_manager(config))["allow_content_length_header"] = True


@pytest.mark.parametrize("is_rewritten", [False, True])
def test_content_length_is_that_of_the_body_that_is_sent(tmp_path, is_rewritten):
    """Envoy then keeps the client's header, and the picker must say so when the body is another."""
    pools = {"default": {"enginePriority": "lowestFirst"}} if is_rewritten else {}
    configuration = tmp_path / "epp.yaml"
    configuration.write_text(yaml.safe_dump({"pools": pools}))
    gateway = Gateway(tmp_path, edit=allow_content_length, flags=(f"--config={configuration}",))
    try:
        data = wire.body()
        assert wire.post(gateway.port, data)[0] == 200
        request = gateway.upstream.last()
        assert request.header("transfer-encoding") is None
        assert int(request.header("content-length")) == len(request.body)
        assert ("priority" in json.loads(request.body)) == is_rewritten
        assert (len(request.body) > len(data)) == is_rewritten
        gateway.assert_clean()
    finally:
        gateway.stop()


def impatient(**modes):
    def change(manager):
        rig.ext_proc(manager)["message_timeout"] = "0.3s"
        rig.ext_proc(manager)["grpc_service"]["timeout"] = "0.3s"
        rig.set_modes(manager, **modes)

    return change


def test_time_outs_that_are_too_short(tmp_path):
    """message_timeout never fires in full duplex, and grpc_service.timeout in no mode: a slow picker is waited for, and a
    long answer goes on. In the other modes Envoy answers 504 by itself, and the picker must let go of the request."""
    gateway = Gateway(tmp_path, variants={
        "duplex": impatient(),
        "buffered": impatient(request_body_mode="BUFFERED", response_body_mode="BUFFERED"),
        "none": impatient(request_body_mode="NONE", response_body_mode="NONE"),
    })  # fmt: skip
    pid = gateway.picker.process.child.pid
    try:
        for name, expected in {"duplex": 200, "buffered": 504, "none": 504}.items():
            port = gateway.envoy.ports[name]
            assert wire.post(port, wire.body())[0] == 200
            raw = wire.Raw(port)
            data = wire.body()
            os.kill(pid, signal.SIGSTOP)
            try:
                raw.head("POST", "/v1/chat/completions", {"content-length": str(len(data))})
                raw.send(data)
                time.sleep(0.8)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert raw.answer().status == expected
            raw.close()
            gateway.picker.wait_idle()
            assert wire.post(port, wire.body())[0] == 200
        answer = wire.post(gateway.envoy.ports["duplex"], wire.body(stream=True), {"x-answer": "kind=sse&count=8&gap=0.1"})
        assert answer[0] == 200 and answer[2].endswith(b"data: [DONE]\n\n")
        gateway.picker.wait_idle()
    finally:
        gateway.stop()
