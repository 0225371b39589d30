# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""What the configuration says of a decision, seen in what is served and in what is logged: constraints, service levels,
dials."""

import json

import pytest
import rig
import wire
import yaml
from conftest import Gateway
from rig import HOST
from upstream import MODEL

BATCH = {"x-llm-d-inference-objective": "batch"}
CONFIGURATION = {
    "objectives": {"batch": -1, "vip": 10},
    "priorities": [
        {"minimumPriority": -5, "valueOfTime": 0.001, "sloMissPrice": 0.01},
        {"minimumPriority": 0, "valueOfTime": 0.1, "sloMissPrice": 0.2},
        {"minimumPriority": 10, "valueOfTime": 2, "sloMissPrice": 3},
    ],
    "constraints": [
        {"maximumPriority": -1, "accelerators": ["l40s"]},
        {"excludedPods": ["pod-2"]},
        {"model": "dear", "highestPrice": 1e-9},
    ],
    "serviceLevels": {
        "default": {"ttft": "9s", "tpot": "90ms"},
        "models": {"dear": {"ttft": "100ms", "ttftPerPromptToken": "1ms"}},
    },
    "pools": {"special": {"serviceLevel": {"ttft": "3s", "tpot": "30ms"}}},
}
KINDS = [("h100-sxm", "default"), ("l40s", "default"), ("a100-sxm", "default"), ("h100-sxm", "special")]


def fleet(ports) -> dict:
    common = {"role": "both", "model": "llama-3.1-8b", "address": HOST}
    names = [[MODEL, "dear"]] * 3 + [["special"]]
    return {
        "endpoints": [
            common | {"name": f"pod-{i}", "port": p, "accelerator": kind, "pool": pool, "servedModels": names[i]}
            for i, (p, (kind, pool)) in enumerate(zip(ports, KINDS))
        ]
    }


class Ruled(Gateway):
    def __init__(self, folder):
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(CONFIGURATION))
        self.log = folder / "decisions.jsonl"
        # Each pod's own list would name the upstream's one model.
        flags = (f"--config={path}", f"--decision-log={self.log}")
        super().__init__(folder, pods=4, flags=flags, fleet=fleet)
        self.count = 0

    def ask(self, headers=None, **fields) -> tuple[int, dict, dict]:
        """The status, headers, and the record of the decision."""
        self.count += 1
        data = json.dumps(wire.chat(f"{self.count} words", **fields)).encode()
        status, got, _ = wire.post(self.port, data, headers)
        # One line a request; the last one may be half written.
        rig.wait_until(lambda: self.log.read_text().count("\n") == self.count, "the record")
        return status, got, json.loads(self.log.read_text().splitlines()[-1])

    def served(self) -> str:
        return f"pod-{self.upstream.ports.index(self.upstream.last().port)}"


@pytest.fixture(scope="module")
def ruled(tmp_path_factory):
    gateway = Ruled(tmp_path_factory.mktemp("rules"))
    gateway.upstream.models = [MODEL]
    yield gateway
    gateway.assert_clean()
    assert gateway.picker.stop() == 0
    check = rig.Process("check", [rig.binary(), "explain", gateway.log, "--check"], gateway.folder)
    assert check.child.wait(30) == 0, check.tail()
    gateway.stop()


def reasons(record) -> dict[str, str]:
    return {pod["name"]: pod["ineligible"] for pod in record["input"]["pods"] if pod.get("ineligible")}


def test_accelerators_are_allowed_by_priority(ruled):
    for _ in range(6):
        status, _, record = ruled.ask(BATCH)
        assert status == 200 and ruled.served() == "pod-1"
        # The upstream says of each pod that it serves this model, whatever the fleet file names.
        no = "acceleratorNotAllowed"
        assert reasons(record) == {"pod-0": no, "pod-2": "excluded", "pod-3": no}
    served = set()
    for _ in range(12):
        assert ruled.ask()[0] == 200
        served.add(ruled.served())
    assert "pod-0" in served and "pod-2" not in served


def test_a_highest_price_that_nothing_keeps(ruled):
    status, headers, record = ruled.ask(model="dear")
    assert status == 503 and headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"
    assert record.get("chosen") is None and "price" in json.dumps(record["refusal"])
    assert reasons(record) == {"pod-2": "excluded", "pod-3": "modelNotServed"}
    number = record["input"]["request"]["id"]
    shown = rig.Process(f"explain-{number}", [rig.binary(), "explain", ruled.log, "--request", number], ruled.folder)
    assert shown.child.wait(30) == 0
    text = shown.log.read_text()
    assert text.count("[overPrice]") >= 2 and "pod-2 (excluded)" in text and "$total" in text


@pytest.mark.parametrize(
    "headers, model, ttft, tpot",
    [
        ({}, MODEL, 9, 0.09),
        ({"x-slo-ttft-ms": "700"}, MODEL, 0.7, 0.09),
        ({"x-slo-ttft-ms": "700", "x-llm-d-slo-ttft-ms": "800", "x-slo-tpot-ms": "25"}, MODEL, 0.8, 0.025),
        ({"x-llm-d-slo-tpot-ms": "15"}, MODEL, 9, 0.015),
        ({"x-slo-ttft-ms": "soon"}, MODEL, 9, 0.09),
        ({}, "special", 3, 0.03),
        ({"x-llm-d-slo-ttft-ms": "400"}, "special", 0.4, 0.03),
        ({}, "dear", None, None),
    ],
)
def test_service_levels_come_from_the_request_then_its_model_then_its_pool(ruled, headers, model, ttft, tpot):
    request = ruled.ask(headers, model=model)[2]["input"]["request"]
    level = request["serviceLevel"]
    if ttft is None:
        assert level["ttft"] == pytest.approx(0.1 + 0.001 * request["promptTokens"]) and "tpot" not in level
    else:
        assert (level["ttft"], level["tpot"]) == (pytest.approx(ttft), pytest.approx(tpot))


@pytest.mark.parametrize("objective, time, miss", [("batch", 0.001, 0.01), ("", 0.1, 0.2), ("vip", 2, 3)])
def test_the_dials_are_the_class_s(ruled, objective, time, miss):
    record = ruled.ask({"x-llm-d-inference-objective": objective} if objective else {})[2]
    assert record["input"]["dials"] == {"valueOfTime": time, "sloMissPrice": miss}
    page = ruled.picker.metrics()
    bound = {"batch": "-5", "": "0", "vip": "10"}[objective]
    assert page.sum("epp_pd_value_of_time_dollars", from_priority=bound) == time
    assert page.sum("epp_pd_slo_miss_price_dollars", from_priority=bound) == miss
