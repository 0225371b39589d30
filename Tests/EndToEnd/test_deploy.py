# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""What lies under deploy/envoy is what the real Envoy accepts."""

import subprocess

import pytest
import rig

TEMPLATES = sorted(path.stem for path in (rig.ROOT / "deploy" / "envoy").glob("*.yaml"))


@pytest.mark.parametrize("template", TEMPLATES)
def test_envoy_accepts_the_configuration(template):
    path = rig.ROOT / "deploy" / "envoy" / f"{template}.yaml"
    outcome = subprocess.run(
        [rig.envoy_path(), "--mode", "validate", "--disable-hot-restart", "-c", path], capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "deprecated" not in outcome.stderr.lower()
