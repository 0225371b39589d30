# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""What the documentation shows is taken by the commands that it is for."""

import re
import subprocess

import pytest

import rig
import wire


def blocks(name: str) -> list[str]:
    found = re.findall(r"```yaml\n(.*?)```", (rig.ROOT / "docs" / name).read_text(), re.DOTALL)
    assert found, f"docs/{name} shows no YAML"
    return found


@pytest.mark.parametrize("flag, name", [("--config", "configuration.md"), ("--fleet", "fleet-file.md")])
def test_examples_are_valid(tmp_path, flag, name):
    for index, text in enumerate(blocks(name)):
        file = tmp_path / f"{index}.yaml"
        file.write_text(text)
        outcome = subprocess.run([rig.binary(), "validate", flag, file], capture_output=True, text=True, cwd=rig.ROOT)
        assert outcome.returncode == 0, outcome.stderr


def test_a_fleet_of_an_engine_of_ones_own_is_played(tmp_path):
    """serve takes the engine's name from its configuration; a mock server plays the pod whatever it is called."""
    port = rig.free_port()
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(
        f"endpoints: [{{role: both, accelerator: l40s, model: llama-3.1-8b, address: {rig.HOST}, port: {port}, engine: tgi}}]"
    )
    server = rig.Process("mock", [rig.binary(), "mock-server", "--fleet", fleet], tmp_path)
    try:
        server.ready(lambda: rig.http_get(port, "/health")[0] == 200)
        huge = '{"model": "llama-3.1-8b", "prompt": "hello", "max_tokens": 9223372036854775807}'
        assert wire.post(port, huge.encode(), path="/v1/completions")[0] == 400
        assert rig.http_get(port, "/health")[0] == 200
    finally:
        server.kill()
