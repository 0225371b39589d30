# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""The demo keeps its promises, and its decisions replay."""

import json
import os
import re
import subprocess
import sys

import rig


def test_demo(tmp_path):
    outcome = subprocess.run(
        [sys.executable, rig.ROOT / "scripts" / "demo.py", "--requests", "40", "--json"],
        capture_output=True, text=True, timeout=110, stdin=subprocess.DEVNULL,
        env=os.environ | {"EPP_PD_BIN": str(rig.binary()), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stdout[-3000:] + outcome.stderr[-3000:]
    lines = outcome.stdout.splitlines()
    result = json.loads(lines[-1])
    assert result["requests"] == result["succeeded"] == 40
    assert result["pairs"] + result["local"] + result["both"] == 40
    assert result["pairs"] > 0
    for name in ("predicted_p50", "observed_p50", "predicted_p90", "observed_p90"):
        assert result["ttft_ms"][name] > 0
    assert result["prefix_hit_ratio"] > 0
    events = result["kv_events"]
    assert events["publishers"] == 4 and events["stored_blocks"] > 0 and events["gaps"] == 0
    assert events["keys"]["engine"] + events["keys"]["cache"] > 0
    # Forty requests teach at least one pod, and nothing absurd.
    assert result["step_scales"] and all(0.3 < scale < 3 for scale in result["step_scales"].values())
    assert sum(bool(re.match(r" +\d+ (short|long|shared) ", line)) for line in lines) == 40

    log = re.search(r"decision log: (\S+)", outcome.stdout)[1]
    check = subprocess.run([rig.binary(), "explain", log, "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr
    # Nothing is left running.
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True).returncode == 1
