# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Instructions per exchange, counted by callgrind: the same on a busy machine as on an idle one.

A change that costs the data path more than a tenth fails here. Where the cost is meant, raise the budget in the same commit
and say why. Measure with `scripts/bench` what it is in time.
"""

import re
import shutil
import subprocess
import sys
import time

import pytest
import rig
import yaml
from conftest import fleet_of
from upstream import Upstream

sys.path.insert(0, str(rig.ROOT / "scripts"))

import bench  # noqa: E402

pytestmark = pytest.mark.skipif(
    shutil.which("valgrind") is None or shutil.which("h2load") is None, reason="needs valgrind and h2load"
)

EXCHANGES = 200
# Thousands of instructions, debug build: what was counted, and a tenth. Of a body, 300 are its keys, whose vector code an unoptimised
# build carries out call by call; a release build takes 40.
BUDGETS = {"exchange": 1_175, "chunk": 48, "64 KB of body": 2_300}


class Counted:
    """The picker under callgrind, which counts from `counting` on."""

    def __init__(self, folder, ports):
        plain = folder / "epp-pd"
        # valgrind does not read Swift's debug information.
        subprocess.run(["strip", "-g", "-o", plain, rig.binary()], check=True)
        fleet = folder / "fleet.yaml"
        fleet.write_text(yaml.safe_dump(fleet_of(ports, servedModels=[bench.MODEL])))
        self.folder, self.port, self.metrics_port = folder, rig.free_port(), rig.free_port()
        self.process = rig.Process(
            "counted",
            ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts",
             plain, "serve", "--profiles", rig.ROOT / "profiles", "--fleet", fleet, "--seed=1", "--loops=1",
             "--grpc-port", self.port, "--grpc-health-port", rig.free_port(), "--metrics-port", self.metrics_port,
             "--secure-serving=false", "--refresh-metrics-interval=1500ms"],
            folder,
        )  # fmt: skip
        self.process.ready(lambda: rig.http_get(self.metrics_port, "/readyz")[0] == 200, 120)
        time.sleep(3)

    def routed(self) -> float:
        return rig.MetricsPage(rig.http_get(self.metrics_port, "/metrics")[1]).sum("epp_pd_placements_total")

    def control(self, *words) -> None:
        subprocess.run(
            ["callgrind_control", *words, str(self.process.child.pid)], check=True, capture_output=True, timeout=60
        )

    def per_exchange(self, name: str, frames: bytes) -> float:
        """Thousands of instructions."""
        path = self.folder / f"{name}.bin"
        path.write_bytes(frames)
        bench.h2load(self.port, 20, path)
        routed = self.routed()
        self.control("-i", "on")
        self.control("-z")
        bench.h2load(self.port, EXCHANGES, path)
        self.control("-i", "off")
        # A refused request costs less, and its answer nothing.
        assert self.routed() - routed == EXCHANGES
        before = set(self.folder.glob("counts.*"))
        self.control(f"--dump={name}")
        (dump,) = set(self.folder.glob("counts.*")) - before
        total = re.search(r"^totals: (\d+)", dump.read_text(), re.M)
        return int(total[1]) / EXCHANGES / 1000


def test_instructions_stay_within_their_budgets(tmp_path):
    upstream = Upstream(4, [bench.MODEL])
    counted = Counted(tmp_path, upstream.ports)
    try:
        exchange = counted.per_exchange("exchange", bench.exchange_frames(2_048))
        chunks = counted.per_exchange("chunks", bench.exchange_frames(2_048, chunks=20))
        body = counted.per_exchange("body", bench.exchange_frames(66 << 10))
    finally:
        counted.process.kill()
        upstream.stop()
    found = {"exchange": exchange, "chunk": (chunks - exchange) / 20, "64 KB of body": body - exchange}
    print(found)
    over = {name: round(found[name]) for name, budget in BUDGETS.items() if found[name] > budget}
    assert not over, f"over budget, in thousands of instructions: {over} > {BUDGETS}"
