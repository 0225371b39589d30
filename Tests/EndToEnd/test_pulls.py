# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Prefixes that a third pod holds: the header that names it, and what pods make of it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import rig
import wire
import yaml
from conftest import Gateway, fleet_of
from rig import HOST, Envoy, Picker

HEADER = "x-kv-cache-source-host-port"
MODEL = "llama-3.1-8b"
SYSTEM = "the same long system prompt, word by word, " * 2_000


@pytest.mark.parametrize("template, pulls", [("full-duplex", True), ("override-host", True), ("full-duplex", False)])
def test_the_header_names_who_holds_the_prefix(tmp_path, template, pulls):
    gateway = Gateway(tmp_path, template, fleet=lambda ports: fleet_of(ports, accelerator="l40s", kvPull=pulls))
    try:
        assert wire.post(gateway.port, wire.body(SYSTEM + "first"), {HEADER: "10.9.9.9:1"})[0] == 200
        holder = gateway.upstream.last()
        # Nobody else holds anything, and a client has no say in it.
        assert holder.header(HEADER) is None
        # The pod that holds the prefix now computes a prompt of its own for seconds. The gateway lets it go nowhere else.
        busy = wire.Raw(gateway.port)
        data = wire.body(SYSTEM + "and then quite another document, " * 10_000, stream=True)
        busy.head("POST", "/v1/chat/completions", {
            "content-length": str(len(data)), "x-answer": "kind=hang", "x-test-subset": f"{HOST}:{holder.port}",
        })  # fmt: skip
        busy.send(data)
        gateway.upstream.wait_for(lambda: len(gateway.upstream.received) == 2)
        assert gateway.upstream.last().port == holder.port
        assert wire.post(gateway.port, wire.body(SYSTEM + "second"))[0] == 200
        second = gateway.upstream.last()
        if pulls:
            assert second.port != holder.port
            assert second.header(HEADER) == f"{HOST}:{holder.port}"
        else:
            assert second.header(HEADER) is None
        busy.close()
        gateway.assert_clean()
    finally:
        gateway.stop()


class PullingFleet:
    """Two prefill pods that can fetch from each other, and a decode pod that is no match for them, played by mock servers."""

    def __init__(self, folder):
        first = rig.free_ports(3)
        common = {"model": MODEL, "address": HOST, "kvPull": True, "blockSize": 16}
        fleet = {
            "endpoints": [
                common | {"name": "prefill", "role": "prefill", "accelerator": "h100-sxm", "port": first, "count": 2},
                common | {"name": "decode", "role": "decode", "accelerator": "l40s", "port": first + 2, "kvPull": False},
            ]
        }
        path = folder / "fleet.yaml"
        path.write_text(yaml.safe_dump(fleet))
        self.ports = {"prefill-0": first, "prefill-1": first + 1, "decode": first + 2}
        self.servers = rig.Process("servers", [rig.binary(), "mock-server", "--fleet", path], folder)
        self.servers.ready(lambda: rig.http_get(first + 2, "/health")[0] == 200)
        self.log = folder / "decisions.jsonl"
        # By objective, requests can be kept off one of the two.
        rules = {"objectives": {"pinned": -1}, "constraints": [{"maximumPriority": -1, "excludedPods": ["prefill-1"]}]}
        configuration = folder / "config.yaml"
        configuration.write_text(yaml.safe_dump(rules))
        flags = ("--decision-header", f"--decision-log={self.log}", f"--config={configuration}")
        self.picker = Picker(folder, fleet, *flags)
        self.envoy = Envoy(folder, "full-duplex", self.picker.port)

    def ask(self, text: str, **headers: str) -> tuple[dict[str, str], dict]:
        body = json.dumps({"model": MODEL, "prompt": text, "max_tokens": 2}).encode()
        status, got, answer = wire.post(self.envoy.port, body, headers, path="/v1/completions", timeout=60)
        assert status == 200, answer
        decision = dict(part.split("=", 1) for part in got["x-epp-pd-decision"].split(";"))
        return decision, json.loads(answer)["usage"]

    def stop(self):
        self.envoy.stop()
        self.picker.process.kill()
        self.servers.stop()


def test_a_pair_computes_only_what_was_not_pulled(tmp_path):
    fleet = PullingFleet(tmp_path)
    aside = ThreadPoolExecutor(1)
    try:
        pinned = {"x-llm-d-inference-objective": "pinned"}
        first, usage = fleet.ask(SYSTEM + "first", **pinned)
        holder = first["prefill"]
        assert holder == "prefill-0"
        tokens = usage["prompt_tokens"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == 0 and "pull" not in first
        long = SYSTEM + "and then quite another document, " * 8_000
        busy = aside.submit(fleet.ask, long, **pinned)
        rig.wait_until(lambda: fleet.picker.in_flight()[0] == 1, "the long one to be in flight")
        # More than the decode pod, which holds the prefix by now too, would compute in that time.
        second, usage = fleet.ask(SYSTEM + "second, which is long as well, " * 2_500)
        assert second["prefill"] != holder and second["pull"] == holder
        # All of the prefix but its last block came from the other pod, before the prompt was computed.
        assert 0.95 * tokens < usage["prompt_tokens_details"]["cached_tokens"] <= tokens
        busy.result(60)
        fleet.picker.wait_idle()
        assert fleet.picker.stop() == 0
        check = rig.Process("explain", [rig.binary(), "explain", fleet.log], tmp_path)
        assert check.child.wait(30) == 0
        assert f"pulling from {holder}" in check.log.read_text()
        check = rig.Process("check", [rig.binary(), "explain", fleet.log, "--check"], tmp_path)
        assert check.child.wait(30) == 0, check.tail()
    finally:
        fleet.stop()
