# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""`epp-pd validate --live`: what is really there, asked before traffic comes."""

import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import rig
import yaml
from conftest import fleet_of
from rig import HOST, Envoy
from upstream import Upstream

MODEL = "llama-3.1-8b"


def validate(*arguments, **environment):
    """(exit code, findings, the whole output)."""
    outcome = subprocess.run(
        [rig.binary(), "validate", "--live", "--json", *arguments],
        capture_output=True, text=True, env=os.environ | environment,
    )  # fmt: skip
    result = json.loads(outcome.stdout) if outcome.stdout else {}
    return outcome.returncode, result.get("live", []), outcome.stdout + outcome.stderr


def texts(findings, grade):
    return [f"{f['subject']}: {f['text']}" for f in findings if f["grade"] == grade]


def write(folder, fleet):
    path = folder / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet))
    return path


def test_pods_of_mock_servers_pass_with_their_events(tmp_path):
    first, events = rig.free_ports(2), rig.free_ports(2)
    fleet = {
        "endpoints": [
            {
                "name": "both", "role": "both", "accelerator": "h100-sxm", "model": MODEL, "address": HOST, "port": first,
                "count": 2, "kvEvents": {"endpoint": f"tcp://{HOST}:{events}"},
            }
        ]
    }  # fmt: skip
    path = write(tmp_path, fleet)
    mock = rig.Process("mock", [rig.binary(), "mock-server", "--fleet", path], tmp_path)
    try:
        mock.ready(lambda: all(rig.http_get(first + i, "/health")[0] == 200 for i in range(2)))
        code, findings, output = validate("--fleet", path, "--event-wait", "1s")
        assert code == 0, output
        assert len([f for f in texts(findings, "warning") if "KV events: none came" in f]) == 2
        code, findings, output = validate("--fleet", path, "--event-wait", "2s", "--probe")
        assert code == 0, output
        good = texts(findings, "ok")
        for name in ("both-0", "both-1"):
            assert any(f.startswith(f"{name}: KV events: ") for f in good), output
            assert f"{name}: serves {MODEL}" in good
    finally:
        mock.stop()


def test_what_is_wrong_is_named(tmp_path):
    upstream = Upstream(2)
    fleet = fleet_of(upstream.ports)
    fleet["endpoints"][0]["servedModels"] = ["another-model"]
    fleet["endpoints"][1]["engine"] = "sglang"
    gone = fleet["endpoints"][0] | {"name": "gone", "port": rig.free_port()}
    fleet["endpoints"].append(gone)
    try:
        code, findings, output = validate("--fleet", write(tmp_path, fleet), "--live-timeout", "2s")
        assert code == 2
        errors = texts(findings, "error")
        assert any(e.startswith("gone: ") and "refused" in e for e in errors), output
        assert any("none of sglang's metrics" in e for e in errors), output
        assert any("not another-model" in w for w in texts(findings, "warning")), output
    finally:
        upstream.stop()


@pytest.mark.parametrize("template", ["full-duplex", "full-duplex-tls", "lean", "override-host", "shadow"])
def test_our_own_envoy_configurations_pass(tmp_path, template):
    envoy = Envoy(tmp_path, template, rig.free_port(), [rig.free_port()])
    try:
        code, findings, output = validate("--envoy-admin", f"http://{HOST}:{envoy.admin_port}")
        assert (code, texts(findings, "error"), texts(findings, "warning")) == (0, [], []), output
        assert len(texts(findings, "ok")) == 1
    finally:
        envoy.stop()


def test_limits_of_an_envoy_are_named(tmp_path):
    def edit(config):
        manager = rig.connection_manager(config)
        del manager["early_header_mutation_extensions"]
        del manager["stream_idle_timeout"]
        del manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["timeout"]
        rig.set_modes(manager, request_body_mode="BUFFERED", response_body_mode="NONE")
        rig.ext_proc(manager)["message_timeout"] = "0.5s"
        del rig.ext_proc(manager)["status_on_error"]
        epp = rig.cluster(config, "epp")
        del epp["circuit_breakers"]
        del epp["health_checks"]

    envoy = Envoy(tmp_path, "full-duplex", rig.free_port(), edit=edit)
    try:
        code, findings, output = validate("--envoy-admin", f"http://{HOST}:{envoy.admin_port}")
        assert code == 2
        errors, warnings = "\n".join(texts(findings, "error")), "\n".join(texts(findings, "warning"))
        for part in ("max_requests 1024", "route's timeout is 15.0 s", "message_timeout 0.5 s"):
            assert part in errors, output
        for part in ("BUFFERED", "status_on_error", "no health check", "stream_idle_timeout 300.0", "routing headers"):
            assert part in warnings, output
        code, findings, _ = validate("--envoy-admin", f"http://{HOST}:{envoy.admin_port}", "--streams", "100")
        assert "max_requests" not in str(findings)
    finally:
        envoy.stop()


def api_server(status, body):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = HTTPServer((HOST, rig.free_port()), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.mark.parametrize(
    ("status", "service", "code", "text"),
    [
        (404, None, 0, "does not exist"),
        (200, {"namespace": "inference", "name": "epp-pd-external-metrics"}, 0, "is ours"),
        (200, {"namespace": "keda", "name": "keda-operator-metrics-apiserver"}, 2, "belongs to keda/keda-operator"),
        (403, None, 2, "answers 403"),
    ],
)
def test_the_place_of_external_metrics_must_be_free_or_ours(tmp_path, status, service, code, text):
    body = {"spec": {"service": service}} if status == 200 else {"kind": "Status", "message": "no", "code": status}
    server = api_server(status, body)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": f"http://{HOST}:{server.server_port}"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )  # fmt: skip
    try:
        result, findings, output = validate(
            "--external-metrics-service", "inference/epp-pd-external-metrics", KUBECONFIG=str(kubeconfig)
        )
        assert result == code, output
        assert text in str(findings)
    finally:
        server.shutdown()


def test_live_needs_something_to_ask():
    outcome = subprocess.run([rig.binary(), "validate", "--live"], capture_output=True, text=True)
    assert outcome.returncode != 0 and "--fleet" in outcome.stderr
