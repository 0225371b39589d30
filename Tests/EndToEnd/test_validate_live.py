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
from pods import Cluster
from rig import HOST, Envoy
from upstream import MODEL as UPSTREAM_MODEL
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


API_SERVICE = ("apiregistration.k8s.io", "v1", "apiservices")
EXTERNAL_METRICS = "v1beta1.external.metrics.k8s.io"


@pytest.fixture
def cluster():
    cluster = Cluster(token="secret")
    yield cluster
    cluster.stop()


def of_subject(findings, subject):
    return [(f["grade"], f["text"]) for f in findings if f["subject"] == subject]


def test_pods_of_a_cluster_with_their_events(tmp_path, cluster):
    port, events = rig.free_port(), rig.free_port()
    cluster.pool("decode", port)
    config = json.dumps({"enable_kv_cache_events": True, "endpoint": f"tcp://*:{events}"})
    args = ("meta-llama/Llama-3.1-8B-Instruct", f"--served-model-name={MODEL}", "--kv-events-config", config)
    address = cluster.pod("a", args=args, opens=False)
    fleet = {
        "endpoints": [
            {
                "name": "a", "role": "both", "accelerator": "h100-sxm", "model": MODEL, "address": address, "port": port,
                "kvEvents": {"endpoint": f"tcp://{address}:{events}"},
            }
        ]
    }  # fmt: skip
    mock = rig.Process("mock", [rig.binary(), "mock-server", "--fleet", write(tmp_path, fleet)], tmp_path)
    try:
        mock.ready(lambda: rig.http_get(port, "/health", host=address)[0] == 200)
        flags = ("--pool-name=decode", f"--kubeconfig={cluster.kubeconfig(tmp_path)}", "--event-wait=2s", "--probe")
        code, findings, output = validate(*flags)
        assert code == 0, output
        good = [text for grade, text in of_subject(findings, "a") if grade == "ok"]
        assert "has the profile h100-sxm/llama-3.1-8b/tp1/bfloat16" in good, output
        assert f"serves {MODEL}" in good, output
        assert any(text.startswith("KV events: ") and text.endswith(" messages") for text in good), output
        assert of_subject(findings, EXTERNAL_METRICS) == [("ok", "does not exist: epp-pd may serve it")]
    finally:
        mock.stop()


def test_what_is_wrong_in_a_cluster_is_named(tmp_path, cluster):
    cluster.pool("decode")
    cluster.pod("good", args=("meta-llama/Llama-3.1-8B-Instruct", f"--served-model-name={UPSTREAM_MODEL}"))
    cluster.pod("starting", ready=False)
    cluster.pod("encoder", role="encode")
    cluster.pod("strange", args=("acme/unheard-of-3b", f"--served-model-name={UPSTREAM_MODEL}"))
    cluster.pod("nowhere", node="not-there")
    cluster.pod("misspelt", annotations={"epp-pd.io/profile": "{modle: x}"})
    cluster.pod("gone", opens=False)
    # Its server is the only one that names a model.
    cluster.pod("asked", args=("--port", "8000"))
    cluster.api.apply(
        API_SERVICE,
        {"metadata": {"name": EXTERNAL_METRICS}, "spec": {"service": {"namespace": "keda", "name": "keda-metrics"}}},
    )
    flags = ("--pool-name=decode", f"--kubeconfig={cluster.kubeconfig(tmp_path)}", "--live-timeout=3s")
    code, findings, output = validate(*flags)
    assert code == 2
    assert [grade for grade, _ in of_subject(findings, "good")].count("error") == 0, output
    assert of_subject(findings, "starting")[0] == ("warning", "is not ready, and so not asked")
    assert of_subject(findings, "encoder") == [("ok", "is not used: role encode")]
    assert "no profile knows the model acme/unheard-of-3b" in str(of_subject(findings, "strange")), output
    assert "nobody says its accelerator" in str(of_subject(findings, "nowhere")), output
    assert ("error", "modle") in [(g, "modle") for g, t in of_subject(findings, "misspelt") if "modle" in t], output
    assert any(g == "error" and "refused" in t for g, t in of_subject(findings, "gone")), output
    assert "nobody says its model" not in str(of_subject(findings, "asked")), output
    # Somebody else's place: a word in passing, and refused where ours is to be there.
    assert of_subject(findings, EXTERNAL_METRICS)[0][0] == "warning"
    code, findings, output = validate(*flags, "--external-metrics-service=default/epp-pd-external-metrics")
    assert of_subject(findings, EXTERNAL_METRICS)[0][0] == "error", output


@pytest.mark.parametrize("case", ["no pool", "only prefill", "server away"])
def test_a_cluster_that_could_not_serve(tmp_path, cluster, case):
    if case != "no pool":
        cluster.pool("decode")
        cluster.pod("p", role="prefill")
    flags = ["--pool-name=decode", f"--kubeconfig={cluster.kubeconfig(tmp_path)}", "--live-timeout=2s"]
    if case == "server away":
        cluster.api.stop()
    code, findings, output = validate(*flags)
    assert code == 2
    expected = {
        "no pool": "there is no InferencePool default/decode",
        "only prefill": "is ready and can decode",
        "server away": "was not read within 2.0 s",
    }[case]
    assert any(grade == "error" and expected in text for grade, text in of_subject(findings, "cluster")), output


@pytest.mark.parametrize("flags", [["--pool-name=a"], ["--live", "--pool-name=a", "--fleet=x.yaml"]])
def test_wrong_usage(flags):
    outcome = subprocess.run([rig.binary(), "validate", *flags], capture_output=True, text=True)
    assert outcome.returncode == 64 or outcome.returncode == 2
    assert "--pool-name" in outcome.stderr


def test_live_needs_something_to_ask():
    outcome = subprocess.run([rig.binary(), "validate", "--live"], capture_output=True, text=True)
    assert outcome.returncode != 0 and "--fleet" in outcome.stderr
