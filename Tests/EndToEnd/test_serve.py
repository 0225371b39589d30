# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""`epp-pd serve` as an operator meets it: ports, health, metrics, TLS, reload, wrong configuration."""

import subprocess

import pytest
import rig
import wire
import yaml
from conftest import Gateway, fleet_of
from rig import Envoy, Picker
from upstream import Upstream


def test_health_ready_and_metrics_pages(gateway):
    port = gateway.picker.metrics_port
    assert rig.http_get(port, "/healthz")[0] == 200
    assert rig.http_get(port, "/readyz")[0] == 200
    page = rig.http_get(port, "/metrics")[1]
    assert all(line.startswith(("#", "epp_pd_", "inference_pool_")) for line in page.splitlines())


def test_metrics_page_is_clean(gateway):
    promtool = rig.ROOT / ".tools" / "promtool"
    if not promtool.exists():
        pytest.skip("promtool could not be had: see scripts/setup")
    wire.post(gateway.port, wire.body())
    page = rig.http_get(gateway.picker.metrics_port, "/metrics")[1]
    outcome = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True)
    assert (outcome.returncode, outcome.stdout + outcome.stderr) == (0, "")


def test_envoys_health_check_passes(gateway):
    def healthy():
        stats = gateway.envoy.stats("cluster.epp.health_check")
        return stats.get("success", 0) > 0 and stats

    assert rig.wait_until(healthy, "a health check", 15)["failure"] == 0


def test_equal_idle_pods_share(tmp_path):
    """Of 100 requests of equal length with different prompts, one after another on 4 equal pods, none gets over 40."""
    gateway = Gateway(tmp_path, pods=4)
    try:
        for index in range(100):
            assert wire.post(gateway.port, wire.body(f"{index:03} is the question"))[0] == 200
        shares = [sum(r.port == p for r in gateway.upstream.received) for p in gateway.upstream.ports]
        assert sum(shares) == 100
        assert max(shares) <= 40
    finally:
        gateway.stop()


def test_tls_with_a_certificate_of_its_own(tmp_path):
    upstream = Upstream(1)
    picker = Picker(tmp_path, fleet_of(upstream.ports), secure=True)
    envoy = Envoy(tmp_path, "full-duplex-tls", picker.port, edit=rig.for_tests)
    try:
        assert wire.post(envoy.port, wire.body())[0] == 200
        assert wire.post(envoy.port, wire.body("x" * 1_000_000))[0] == 200
        assert wire.post(envoy.port, wire.body(stream=True), {"x-answer": "kind=sse&count=50&gap=0.002"})[0] == 200
        picker.wait_idle()
    finally:
        envoy.stop()
        picker.process.kill()
        upstream.stop()


ISTIO_CLUSTER = "outbound|9002||epp-pd.inference.svc.cluster.local"


def as_istio_does(config):
    """Istio's configuration for an InferencePool: a filter that does nothing, switched on by the route. It names no
    authority, so that Envoy takes the cluster's name for one, and no mode for trailers."""
    filters = rig.ext_proc(rig.connection_manager(config))
    route = rig.connection_manager(config)["route_config"]["virtual_hosts"][0]["routes"][0]
    service = {"envoy_grpc": {"cluster_name": ISTIO_CLUSTER}}
    filters["grpc_service"] = service
    filters["processing_mode"] = {"request_header_mode": "SKIP", "response_header_mode": "SKIP"}
    route["typed_per_filter_config"] = {
        "envoy.filters.http.ext_proc": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
            "overrides": {
                "grpc_service": service,
                "failure_mode_allow": False,
                "processing_mode": {
                    "request_header_mode": "SEND", "request_body_mode": "FULL_DUPLEX_STREAMED",
                    "response_header_mode": "SEND", "response_body_mode": "FULL_DUPLEX_STREAMED",
                },
            },
        }
    }  # fmt: skip
    rig.cluster(config, "epp")["name"] = ISTIO_CLUSTER


def test_a_gateway_as_istio_makes_it(tmp_path):
    gateway = Gateway(tmp_path, edit=as_istio_does)
    try:
        checks = lambda: gateway.envoy.stats("health_check").get("success", 0)
        rig.wait_until(checks, "a health check that passes", 10)
        assert wire.post(gateway.port, wire.body())[0] == 200
        assert wire.post(gateway.port, wire.body("x" * 1_000_000))[0] == 200
        status, _, answer = wire.post(gateway.port, wire.body(stream=True), {"x-answer": "kind=sse&count=50&gap=0.002"})
        assert status == 200 and b"[DONE]" in answer
        gateway.assert_clean()
        assert gateway.picker.metrics().sum("epp_pd_requests_total", outcome="completed") == 3
        # The picker's word counts, not the client's.
        assert {received.port for received in gateway.upstream.received} <= set(gateway.upstream.ports)
    finally:
        gateway.stop()


def test_fleet_file_is_read_again(tmp_path):
    gateway = Gateway(tmp_path, pods=2, fleet=lambda ports: fleet_of(ports[:1]))
    first, second = gateway.upstream.ports
    try:
        assert wire.post(gateway.port, wire.body())[0] == 200
        assert gateway.upstream.last().port == first
        gateway.picker.write_fleet(fleet_of([second]))

        def moved():
            wire.post(gateway.port, wire.body())
            return gateway.upstream.last().port == second

        rig.wait_until(moved, "the new fleet", 10)
        # A bad file changes nothing.
        gateway.picker.fleet_file.write_text("endpoints: [{role: nothing}]")
        failed = lambda: gateway.picker.metrics().sum("epp_pd_fleet_reloads_total", result="failed") > 0
        rig.wait_until(failed, "the bad file to be noticed", 10)
        assert wire.post(gateway.port, wire.body())[0] == 200
        assert gateway.upstream.last().port == second
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    "fleet, says",
    [
        ("endpoints: [{name: x}]", "endpoints[0]"),
        ("endpoints: [{role: both, accelerator: h100, model: m, address: 10.0.0.1, port: 99999}]", "port"),
        ("endpoints: {", "fleet.yaml:2:1"),
    ],
)
def test_wrong_fleet_file_exits_2(tmp_path, fleet, says):
    path = tmp_path / "fleet.yaml"
    path.write_text(fleet)
    outcome = subprocess.run(
        [rig.binary(), "serve", "--fleet", path, "--grpc-port", str(rig.free_port())], capture_output=True, text=True
    )
    assert outcome.returncode == 2
    assert says in outcome.stderr
    assert str(path) in outcome.stderr


@pytest.mark.parametrize("flags", [["--no-such-flag"], ["--grpc-port=x"], ["--drain-timeout=forever"]])
def test_wrong_usage_exits_2(tmp_path, flags):
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet_of([rig.free_port()])))
    outcome = subprocess.run([rig.binary(), "serve", "--fleet", path, *flags], capture_output=True, text=True)
    assert outcome.returncode == 2


def test_flags_of_the_reference_picker_without_effect_are_accepted(tmp_path):
    upstream = Upstream(1)
    picker = Picker(tmp_path, fleet_of(upstream.ports), "--tracing=false", "--enable-pprof", "--v=3")
    try:
        assert rig.http_get(picker.metrics_port, "/healthz")[0] == 200
    finally:
        picker.process.kill()
        upstream.stop()
