# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Instructions per exchange on the loop, counted by callgrind: the same on a busy machine as on an idle one.

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
# Thousands of instructions: what was counted, and a tenth. The tests make a debug build, which carries out call by call what an
# optimised one does not call at all: of a body, 300 are its keys, whose vector code takes 40 of a release build. What a change
# of the data path is worth, `EPP_PD_BIN=.build/release/epp-pd` tells. simdjson and memcpy are optimised in every build: before long
# strings were read where they lie and bodies sent from there, they took 31 and 440. A copy takes up to an instruction a byte.
BUDGETS = {
    "debug": {"exchange": 935, "chunk": 43, "64 KB of body": 1_985},
    "release": {"exchange": 92, "chunk": 3.5, "64 KB of body": 332},
}
LIBRARY_BUDGETS = {"64 KB through simdjson's second stage": 3, "64 KB copied": 250}
OPTIMISED = ("stage2", "memcpy|memmove")


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
            ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes",
             f"--callgrind-out-file={folder}/counts",
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
        # One for each thread: the loop's is the largest. What the control plane does goes by time, not by exchanges.
        dumps = [file.read_text() for file in set(self.folder.glob("counts.*")) - before]
        total, self.dump = max((int(found[1]), dump) for dump in dumps if (found := re.search(r"^totals: (\d+)", dump, re.M)))
        return total / EXCHANGES / 1000

    def within(self, pattern: str) -> float:
        """Of the last count, thousands of instructions an exchange in the functions of that name, without what they call."""
        found, names, inside, skip = 0, {}, False, False
        for line in self.dump.splitlines():
            if name := re.match(r"fn=\((\d+)\)(?: (.*))?", line):
                names.setdefault(name[1], name[2])
                inside = re.search(pattern, names[name[1]] or "") is not None
            elif called := re.match(r"cfn=\((\d+)\) (.*)", line):
                names.setdefault(called[1], called[2])
            elif line.startswith("calls="):
                # The next line is what the called function took.
                skip = True
            elif cost := re.match(r"[+*\-\d]\S* (\d+)$", line):
                if inside and not skip:
                    found += int(cost[1])
                skip = False
        return found / EXCHANGES / 1000


def test_instructions_stay_within_their_budgets(tmp_path):
    upstream = Upstream(4, [bench.MODEL])
    counted = Counted(tmp_path, upstream.ports)
    try:
        exchange = counted.per_exchange("exchange", bench.exchange_frames(2_048))
        short = [counted.within(name) for name in OPTIMISED]
        chunks = counted.per_exchange("chunks", bench.exchange_frames(2_048, chunks=20))
        body = counted.per_exchange("body", bench.exchange_frames(66 << 10))
        long = [counted.within(name) for name in OPTIMISED]
    finally:
        counted.process.kill()
        upstream.stop()
    found = {
        "exchange": exchange, "chunk": (chunks - exchange) / 20, "64 KB of body": body - exchange,
        "64 KB through simdjson's second stage": long[0] - short[0], "64 KB copied": long[1] - short[1],
    }  # fmt: skip
    assert long[0] > 0 and long[1] > 0, "the functions have other names"
    print(found)
    budgets = BUDGETS["release" if rig.binary().resolve().parent.name == "release" else "debug"] | LIBRARY_BUDGETS
    over = {name: round(found[name], 1) for name, budget in budgets.items() if found[name] > budget}
    assert not over, f"over budget, in thousands of instructions: {over} > {budgets}"
