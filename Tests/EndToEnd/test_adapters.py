# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""LoRA adapters: requests go where their adapter is, or where there is room for it."""

import json
import subprocess
import time

import rig
import wire
from conftest import Gateway
from rig import wait_until


def lora(running: str, waiting: str = "", slots: int = 2) -> str:
    labels = f'max_lora="{slots}",running_lora_adapters="{running}",waiting_lora_adapters="{waiting}"'
    return f"vllm:lora_requests_info{{{labels}}} {time.time()}\n"


def test_requests_go_where_their_adapter_is_or_fits(tmp_path):
    decisions = tmp_path / "decisions.jsonl"
    gateway = Gateway(tmp_path, pods=3, flags=(f"--decision-log={decisions}",))
    upstream = gateway.upstream
    here, full, free = upstream.ports
    try:
        upstream.adapters = ["sql"]
        upstream.more_metrics = {here: lora("sql,law"), full: lora("law,chat"), free: lora("")}

        def endpoints():
            page = json.loads(rig.http_get(gateway.picker.metrics_port, "/debug/fleet")[1])
            return {e["endpoint"]["port"]: e for e in page["endpoints"]}

        def running(port):
            return ((endpoints()[port].get("load") or {}).get("adapters") or {}).get("running")

        def known(port, names):
            return running(port) == names and endpoints()[port]["endpoint"].get("adapters") == ["sql"]

        wait_until(lambda: known(here, ["sql", "law"]) and known(full, ["law", "chat"]) and known(free, []), "adapters")

        def served(count=12):
            upstream.received.clear()
            for _ in range(count):
                assert wire.post(gateway.port, wire.body("question", model="sql"))[0] == 200
            return {r.port for r in upstream.received}

        assert served() == {here}
        text = subprocess.run([rig.binary(), "explain", decisions], capture_output=True, text=True).stdout
        assert f"both-{here} loaded" in text and f"both-{full} has all slots in use" in text, text
        # Others take its slots: where one is free is next.
        upstream.more_metrics[here] = lora("law,chat")
        wait_until(lambda: running(here) == ["law", "chat"], "the change")
        assert served() == {free}
        # The base model needs no slot.
        upstream.received.clear()
        for _ in range(40):
            assert wire.post(gateway.port, wire.body("question"))[0] == 200
        assert {r.port for r in upstream.received} == {here, full, free}
        gateway.assert_clean()
    finally:
        gateway.stop()
