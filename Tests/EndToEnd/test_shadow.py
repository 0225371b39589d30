# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Shadow mode: epp-pd watches another picker's requests through the real Envoy, decides, and sends nothing."""

import json
import re
import subprocess

import openai
import pytest
import rig
import wire
import yaml
from conftest import fleet_of
from rig import HOST, Envoy, Picker
from upstream import Upstream


class ShadowedGateway:
    """Envoy asks a present picker; the shadow picker only watches. Each has its own view of the fleet."""

    def __init__(self, folder, present_fleet, shadow_fleet, *flags, edit=None):
        self.folder = folder
        self.log = folder / "decisions.jsonl"
        self.present = Picker(folder, present_fleet, *flags, name="present")
        self.shadow = Picker(folder, shadow_fleet, f"--decision-log={self.log}", *flags, name="shadow")

        def change(config):
            present = rig.cluster(config, "present")
            rig._set_port(present["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"], self.present.port)
            if edit:
                edit(config)

        self.envoy = Envoy(folder, "shadow", self.shadow.port, edit=change)

    def records(self, count):
        def read():
            lines = self.log.read_text().splitlines() if self.log.exists() else []
            return len(lines) >= count and [json.loads(line) for line in lines]

        return rig.wait_until(read, f"{count} lines in the decision log", 15)

    def shadow_stats(self) -> dict:
        return self.envoy.stats("ext_proc.shadow")

    def stop(self):
        self.envoy.stop()
        self.present.process.kill()
        self.shadow.process.kill()


@pytest.fixture
def upstream():
    upstream = Upstream(3)
    yield upstream
    upstream.stop()


def test_it_decides_logs_what_was_served_and_sends_nothing(tmp_path, upstream):
    # The present picker knows one pod, and sends everything there; the shadow knows all three.
    gateway = ShadowedGateway(tmp_path, fleet_of(upstream.ports[:1]), fleet_of(upstream.ports))
    try:
        for index in range(12):
            status, headers, _ = wire.post(gateway.envoy.port, wire.body(f"{index} " + "question " * 200))
            assert status == 200
        assert {received.port for received in upstream.received} == {upstream.ports[0]}
        records = gateway.records(12)
        served = f"{HOST}:{upstream.ports[0]}"
        for record in records:
            assert record["shadow"]["served"] == {"destination": served}
            # Predicted seconds and dollars of both.
            for candidate in (record["chosen"], record["shadow"]["candidate"]):
                assert candidate["terms"]["prefill"] > 0 and candidate["terms"]["busyPrefill"] > 0
        assert any(r["chosen"]["placement"] != r["shadow"]["candidate"]["placement"] for r in records)
        # All that ended, ended; Envoy saw no answer that it had to ignore, and no failure.
        gateway.shadow.wait_idle()
        assert gateway.shadow_stats().get("streams_failed", 0) == 0
        assert gateway.shadow.metrics().sum("epp_pd_requests_total", outcome="completed") == 12
        assert gateway.shadow.metrics().sum("epp_pd_protocol_violations_total") == 0
        text = subprocess.run(
            [rig.binary(), "explain", gateway.log], capture_output=True, text=True, check=True
        ).stdout
        assert "served by" in text and "12 watched requests, 12 compared" in text
        # As `kubectl logs` gives it: the picker's own log lines are in between.
        own = '{"level":"info","logger":"epp-pd","message":"the fleet changed","time":"2026-11-21T00:00:00.000Z"}\n'
        mixed = own + gateway.log.read_text().replace("\n", "\n" + own)
        outcome = subprocess.run([rig.binary(), "explain", "-"], input=mixed, capture_output=True, text=True)
        assert (outcome.returncode, outcome.stderr, outcome.stdout) == (0, "", text)
        outcome = subprocess.run([rig.binary(), "explain", gateway.log, "--check"], capture_output=True, text=True)
        assert outcome.returncode == 0, outcome.stderr
    finally:
        gateway.stop()


def test_the_ledger_follows_what_was_served(tmp_path, upstream):
    gateway = ShadowedGateway(tmp_path, fleet_of(upstream.ports[:1]), fleet_of(upstream.ports))
    try:
        raw = []
        for index in range(6):
            connection = wire.Raw(gateway.envoy.port)
            data = wire.body(f"{index} " + "question " * 500, stream=True)
            connection.head(
                "POST", "/v1/chat/completions",
                {"content-type": "application/json", "content-length": str(len(data)), "x-answer": "kind=sse&count=3&gap=0.2&delay=1.5"},
            )  # fmt: skip
            connection.send(data)
            raw.append(connection)

        def in_flight():
            router = json.loads(rig.http_get(gateway.shadow.metrics_port, "/debug/router")[1])
            return {e["name"]: e["inFlight"] for e in router["endpoints"]}

        busy = f"both-{upstream.ports[0]}"
        rig.wait_until(lambda: in_flight()[busy] == 6, "the ledger to hold six requests")
        assert sum(in_flight().values()) == 6
        for connection in raw:
            assert b"[DONE]" in connection.answer().read()
            connection.close()
        rig.wait_until(lambda: sum(in_flight().values()) == 0, "the ledger to be empty")
        # The first tokens of what was served were seen.
        assert gateway.shadow.metrics().sum("epp_pd_ttft_seconds_count") == 6
    finally:
        gateway.stop()


def check_that_it_shadows(tmp_path, upstream, edit):
    """With the filters of `edit`: all goes where the present picker says, and the shadow says what it would have done."""
    gateway = ShadowedGateway(tmp_path, fleet_of(upstream.ports[:1]), fleet_of(upstream.ports), edit=edit)
    try:
        for index in range(4):
            assert wire.post(gateway.envoy.port, wire.body(f"{index} question"))[0] == 200
        for record in gateway.records(4):
            assert record["shadow"]["served"] == {"destination": f"{HOST}:{upstream.ports[0]}"}
            assert record["shadow"]["candidate"]["terms"]["prefill"] > 0
        gateway.shadow.wait_idle()
    finally:
        gateway.stop()


def test_the_filter_that_istio_inserts(tmp_path, upstream):
    """Istio puts it before the router, behind the present picker's filter, which Envoy knows by another name."""
    path = rig.ROOT / "deploy/gateways/shadow-istio/shadow.yaml"
    ours = next(d for d in yaml.safe_load_all(path.read_text()) if d["kind"] == "EnvoyFilter")
    (change,) = ours["spec"]["configPatches"]

    def edit(config):
        filters = rig.http_filters(config)
        present = [f for f in filters if not f["name"].endswith("/shadow")]
        at = next(i for i, f in enumerate(present) if f["name"] == change["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"])  # fmt: skip
        assert change["patch"]["operation"] == "INSERT_BEFORE"
        present.insert(at, change["patch"]["value"])
        filters[:] = present
        epp = rig.cluster(config, "epp")
        epp["name"] = change["patch"]["value"]["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"]

    check_that_it_shadows(tmp_path, upstream, edit)


def test_the_filter_that_envoy_gateway_inserts(tmp_path, upstream):
    """The patches as Envoy Gateway applies them: the router's place in the list is where the filter is added."""
    path = rig.ROOT / "deploy/gateways/shadow-envoy-gateway/shadow.yaml"
    listener, cluster = yaml.safe_load(path.read_text())["spec"]["jsonPatches"]
    name = re.fullmatch(r"\$\.\.http_filters\[\?\(@\.name=='(.+)'\)\]", listener["operation"]["jsonPath"]).group(1)
    assert listener["operation"]["op"] == cluster["operation"]["op"] == "add"

    def edit(config):
        filters = rig.http_filters(config)
        filters[:] = [f for f in filters if not f["name"].endswith("/shadow")]
        filters.insert(next(i for i, f in enumerate(filters) if f["name"] == name), listener["operation"]["value"])
        made = cluster["operation"]["value"]
        # The shadow speaks cleartext here, on this machine.
        del made["transport_socket"]
        port = gateway_port(config)
        rig._set_port(made["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"], port)
        clusters = config["static_resources"]["clusters"]
        clusters[:] = [c for c in clusters if c["name"] != "epp"] + [made]

    def gateway_port(config):
        epp = rig.cluster(config, "epp")["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        return epp["address"]["socket_address"]["port_value"]

    check_that_it_shadows(tmp_path, upstream, edit)


def test_a_shadow_that_is_down_costs_no_request(tmp_path, upstream):
    gateway = ShadowedGateway(tmp_path, fleet_of(upstream.ports[:1]), fleet_of(upstream.ports))
    try:
        assert wire.post(gateway.envoy.port, wire.body())[0] == 200
        gateway.shadow.process.kill()
        for _ in range(5):
            assert wire.post(gateway.envoy.port, wire.body())[0] == 200
    finally:
        gateway.stop()


def test_it_names_pairs_that_were_served(tmp_path):
    """Prefill and decode pods played by mock servers: the prefill pod is known from its header."""
    first = rig.free_ports(3)
    common = {"model": "llama-3.1-8b", "address": HOST}
    fleet = {
        "endpoints": [
            common | {"name": "prefill", "role": "prefill", "accelerator": "h100-sxm", "port": first},
            common | {"name": "decode", "role": "decode", "accelerator": "a100-sxm", "port": first + 1, "count": 2},
        ]
    }
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet))
    mock = rig.Process("mock", [rig.binary(), "mock-server", "--fleet", path, "--time-scale", 4], tmp_path)
    mock.ready(lambda: all(rig.http_get(first + i, "/health")[0] == 200 for i in range(3)))
    gateway = ShadowedGateway(tmp_path, fleet, fleet, "--time-scale=4")
    try:
        client = openai.OpenAI(base_url=f"{gateway.envoy.url}/v1", api_key="none", max_retries=0, timeout=60)
        for index in range(4):
            client.chat.completions.create(
                model="llama-3.1-8b",
                messages=[{"role": "user", "content": f"{index} " + "long " * 12_000}],
                max_tokens=4,
            )
        pairs = [r for r in gateway.records(4) if "prefiller" in r["shadow"]["served"]]
        assert pairs, "no pair was served"
        for record in pairs:
            assert record["shadow"]["served"]["prefiller"] == f"{HOST}:{first}"
            assert "pair" in record["shadow"]["candidate"]["placement"]
    finally:
        gateway.stop()
        mock.stop()


def test_the_served_endpoint_of_the_answer_is_taken_where_no_header_named_one(tmp_path, upstream):
    """A present picker that says its choice in metadata alone: here a filter that tells the upstream afterwards."""

    def edit(config):
        manager = rig.connection_manager(config)
        filters = manager["http_filters"]
        # The shadow first: it sees no routing header. The answer's metadata says who served.
        shadow = next(f for f in filters if f["name"].endswith("/shadow"))
        filters.remove(shadow)
        filters.insert(0, shadow)
        route = manager["route_config"]["virtual_hosts"][0]["routes"][0]
        route["response_headers_to_add"] = [
            {
                "header": {"key": "x-gateway-destination-endpoint-served", "value": "%UPSTREAM_REMOTE_ADDRESS%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ]
        to_metadata = {
            "name": "envoy.filters.http.header_to_metadata",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
                "response_rules": [
                    {
                        "header": "x-gateway-destination-endpoint-served",
                        "on_header_present": {
                            "metadata_namespace": "envoy.lb",
                            "key": "x-gateway-destination-endpoint-served",
                            "type": "STRING",
                        },
                        "remove": True,
                    }
                ],
            },
        }
        filters.insert(1, to_metadata)

    gateway = ShadowedGateway(tmp_path, fleet_of(upstream.ports[:1]), fleet_of(upstream.ports), edit=edit)
    try:
        for index in range(3):
            assert wire.post(gateway.envoy.port, wire.body(f"{index} question"))[0] == 200
        for record in gateway.records(3):
            assert record["shadow"]["served"] == {"destination": f"{HOST}:{upstream.ports[0]}"}
            assert record["shadow"]["candidate"]["terms"]["prefill"] > 0
        gateway.shadow.wait_idle()
    finally:
        gateway.stop()
