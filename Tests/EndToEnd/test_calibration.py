# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""What a picker has learned: inspected, kept over a restart, and set aside when it cannot be used."""

import json

import rig
import wire
from conftest import Gateway, fleet_of
from rig import Picker


def learned(picker):
    status, page = rig.http_get(picker.metrics_port, "/debug/calibration")
    assert status == 200
    return json.loads(page)


def test_what_was_learned_is_kept(tmp_path):
    file = tmp_path / "calibration.json"
    gateway = Gateway(tmp_path, pods=1, flags=("--calibration-file", str(file)))
    ports = gateway.upstream.ports
    try:
        for index in range(25):
            body = wire.body(f"{index} " + "word " * 400, stream=True)
            assert wire.post(gateway.port, body, {"x-answer": "kind=sse&count=30&gap=0.001"})[0] == 200
        gateway.picker.wait_idle()
        page = learned(gateway.picker)
        assert len(page["endpoints"]) == 1 and len(page["shared"]) == 1 and page["transfers"] == []
        seen = page["endpoints"][0]["calibrator"]
        assert seen["prefill"]["samples"] + seen["decode"]["samples"] + seen["ignored"] > 0
        gateway.picker.stop()
    finally:
        gateway.stop()
    kept = json.loads(file.read_text())
    assert kept["version"] == 3 and list(kept["pods"]) == [page["endpoints"][0]["endpoint"]]
    assert list(kept["shared"]) == [page["shared"][0]["configuration"]]

    picker = Picker(tmp_path, fleet_of(ports), "--calibration-file", str(file), name="second")
    try:
        again = learned(picker)
        calibrator, saved = again["endpoints"][0]["calibrator"], kept["pods"][page["endpoints"][0]["endpoint"]]
        # All but the recent outliers, whose times are of the first picker's clock.
        assert calibrator | {"window": 0} == saved | {"window": 0}
        assert [s["configuration"] for s in again["shared"]] == list(kept["shared"])
    finally:
        picker.stop()


def test_a_corrupt_state_is_set_aside(tmp_path):
    file = tmp_path / "calibration.json"
    file.write_text('{"version": 2, "pods": {"x": 5}}')
    picker = Picker(tmp_path, fleet_of([rig.free_port()]), "--calibration-file", str(file))
    try:
        assert "calibration begins anew" in picker.process.tail(200)
        assert (tmp_path / "calibration.json.corrupt").exists() and not file.exists()
        assert learned(picker)["endpoints"][0]["calibration"]["prefillScale"] == 1
    finally:
        picker.stop()
    assert json.loads(file.read_text())["version"] == 3


def test_an_unknown_accelerator_is_warned_of_once(tmp_path):
    fleet = fleet_of([rig.free_port(), rig.free_port()])
    for pod in fleet["endpoints"]:
        pod["accelerator"] = "quantum-9"
    picker = Picker(tmp_path, fleet)
    try:
        assert picker.process.tail(500).count("no profile knows the accelerator") == 1
        assert picker.metrics().sum("epp_pd_endpoint_profiles", source="unknown") == 2
    finally:
        picker.stop()
