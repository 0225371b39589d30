# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors

import sys
from pathlib import Path

# rig.py: the binary under test, Envoy, free ports.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "EndToEnd"))
