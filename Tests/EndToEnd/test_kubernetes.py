# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""The picker in a cluster: a fake API server, pods on loopback addresses, the real Envoy."""

import json
import subprocess
import time

import httpx
import pytest
import rig
from fake_api_server import CUSTOM, INFERENCE_X, LLM_D
from pods import NODES, POOLS, Cluster, ClusterPicker, Load
from rig import Envoy, wait_until
from upstream import MODEL


@pytest.fixture
def cluster():
    cluster = Cluster(token="secret")
    yield cluster
    cluster.stop()


@pytest.fixture
def start(tmp_path):
    """Starts pickers and Envoys, and ends them."""
    running = []

    def begin(cluster, *flags, gateway=True, **more):
        picker = ClusterPicker(tmp_path, cluster, *flags, **more)
        running.append(picker.process)
        if not gateway:
            return picker
        envoy = Envoy(tmp_path, "full-duplex", picker.port, edit=rig.for_tests)
        running.append(envoy.process)
        return picker, envoy

    yield begin
    for process in running:
        process.kill()


def ask(envoy, timeout=20, fields=None, **headers) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]} | (fields or {})
    return httpx.post(f"{envoy.url}/v1/chat/completions", json=body, headers=headers, timeout=timeout)


def test_pods_come_go_and_change_under_load(cluster, start):
    cluster.pool("decode")
    for name in ("a", "b", "c"):
        cluster.pod(name)
    cluster.api.faults.cut = 7
    cluster.api.faults.bookmark_interval = 0.3
    picker, envoy = start(cluster, "--pool-name=decode")
    wait_until(lambda: picker.serving() == {"a", "b", "c"}, "three pods")
    load = Load(envoy.port)
    received = cluster.servers.received

    def is_idle(name, quiet=0.7):
        """No request reaches the pod any more."""
        before = len(received)
        time.sleep(quiet)
        return cluster.address(name) not in [r.port for r in received[before:]]

    def is_used(name):
        before = len(received)
        wait_until(lambda: cluster.address(name) in [r.port for r in received[before:]], f"{name} to be used")

    # One comes.
    cluster.pod("d")
    wait_until(lambda: "d" in picker.serving(), "d")
    is_used("d")
    # One turns unready: its server still answers, but must not be asked.
    cluster.set_ready("b", False)
    wait_until(lambda: "b" not in picker.serving(), "b unready")
    assert is_idle("b")
    assert picker.pods()["b"]["state"] == "notReady"
    cluster.set_ready("b", True)
    wait_until(lambda: "b" in picker.serving(), "b ready")
    is_used("b")
    # One is terminated: drained at once, gone later, its server last.
    cluster.terminate("a")
    wait_until(lambda: "a" not in picker.serving(), "a drained")
    assert picker.pods()["a"]["state"] == "draining"
    assert is_idle("a")
    cluster.api.delete(("", "v1", "pods"), "a")
    wait_until(lambda: "a" not in picker.endpoints(), "a gone")
    cluster.servers.close(cluster.address("a"))
    # One leaves the pool by its labels, and comes back.
    cluster.relabel("c", app="other")
    wait_until(lambda: "c" not in picker.endpoints(), "c out of the pool")
    assert is_idle("c")
    cluster.relabel("c", app="decode")
    wait_until(lambda: "c" in picker.serving(), "c back")
    # One changes its role: prefill pods are no destinations.
    cluster.relabel("d", role="prefill")
    wait_until(lambda: picker.endpoints()["d"]["endpoint"]["role"] == "prefill", "d prefills")
    assert is_idle("d")
    cluster.relabel("d", role="encode")
    wait_until(lambda: "d" not in picker.endpoints(), "d is not used")
    assert picker.pods()["d"]["state"] == "unused"
    cluster.relabel("d", role=None)
    wait_until(lambda: "d" in picker.serving(), "d does everything")
    is_used("d")
    # The pool's selector changes: other pods, no gap.
    cluster.pod("e", app="next")
    cluster.pool("decode", app="next")
    wait_until(lambda: picker.serving() == {"e"}, "the new selector")
    is_used("e")
    load.stop()
    assert len(load.results) > 100
    assert load.failures() == []


@pytest.mark.parametrize("fault", ["stopped", "reset", "hang", "garbage", "500", "404", "slow", "410"])
def test_losing_the_api_server_loses_nothing(cluster, start, fault):
    cluster.pool("decode")
    cluster.pod("a")
    cluster.pod("b")
    picker, envoy = start(cluster, "--pool-name=decode")
    wait_until(lambda: picker.serving() == {"a", "b"}, "two pods")
    load = Load(envoy.port, clients=2)
    faults = cluster.api.faults
    port = cluster.api.port
    if fault == "stopped":
        cluster.api.stop()
    elif fault == "reset":
        faults.status = 503
        for _ in range(5):
            cluster.api.reset_connections()
            time.sleep(0.2)
    elif fault == "hang":
        faults.hang = True
    elif fault == "garbage":
        faults.garbage = True
        cluster.pod("c", ready=False)
        cluster.api.reset_connections()
    elif fault == "500":
        faults.status = 500
        cluster.api.reset_connections()
    elif fault == "404":
        faults.foreign_404 = True
        cluster.api.reset_connections()
    elif fault == "slow":
        faults.delay = 1.5
    elif fault == "410":
        for _ in range(10):
            cluster.api.forget_past()
            cluster.api.reset_connections()
            time.sleep(0.1)
    if fault not in ("slow", "410"):
        text = wait_until(lambda: "Kubernetes API" in picker.readiness()[1] and picker.readiness(), "the trouble told", 60)
        assert text[0] == 200, text
        assert "what was known before still counts" in text[1]
        # Readiness may speak of another resource first: each watch notices by itself.
        standing = lambda: picker.metrics().sum("epp_pd_kubernetes_watch_standing", resource="pods", standing="failing")
        wait_until(lambda: standing() == 1, "the pods' watch to be told as failing", 30)
        time.sleep(3)
        # Once for what is needed and once for the rest, however often and in whatever way they failed.
        assert len(picker.troubles("the Kubernetes API ")) == 1, picker.log()
        assert len(picker.troubles("")) <= 2, picker.log()
    assert picker.serving() == {"a", "b"}
    # It comes back, with another pod.
    if fault == "stopped":
        old = cluster.api
        cluster.api = type(old)(token="secret", port=port)
        cluster.api.version = old.version + 10
        cluster.api.objects, cluster.api.events = old.objects, old.events
    faults = cluster.api.faults
    faults.hang, faults.garbage, faults.foreign_404, faults.status, faults.delay = False, False, False, None, 0.0
    cluster.pod("n")
    wait_until(lambda: "n" in picker.serving(), "the new pod after the trouble", 60)
    wait_until(lambda: picker.readiness() == (200, "ok\n"), "readiness without trouble", 60)
    load.stop()
    assert load.failures() == []


def test_a_pool_that_does_not_exist_yet(cluster, start):
    picker = start(cluster, "--pool-name=decode", wait=False, gateway=False)
    told = wait_until(lambda: "no InferencePool default/decode" in picker.readiness()[1] and picker.readiness(), "the reason")
    assert told[0] == 503
    trouble = lambda: picker.metrics().sum("epp_pd_kubernetes_pool_trouble", pool="decode")
    assert trouble() == 1 and picker.metrics().sum("epp_pd_ready") == 0
    # Longer than a watch lives here: what is asked again is not told again.
    time.sleep(5)
    assert len(picker.troubles("pool decode")) == 1, picker.log()
    cluster.pool("decode")
    cluster.pod("a")
    wait_until(lambda: picker.readiness() == (200, "ok\n"), "readiness")
    wait_until(lambda: picker.serving() == {"a"}, "the pod")
    wait_until(lambda: trouble() == 0, "the metric")
    assert "trouble is over" in picker.log()


def test_crds_that_are_missing_are_noticed_when_they_come(tmp_path, start):
    cluster = Cluster(token="secret", crds=[POOLS])
    try:
        cluster.pool("decode")
        cluster.pod("a")
        picker = start(cluster, "--pool-name=decode", gateway=False)
        wait_until(lambda: picker.serving() == {"a"}, "the pod")
        standing = {w["kind"]: w["standing"] for w in picker.fleet()["cluster"]["watches"]}
        assert standing["inferenceobjectives.llm-d.ai"] == "not installed"
        assert picker.readiness() == (200, "ok\n")
        cluster.api.install(*CUSTOM)
        wait_until(
            lambda: {w["standing"] for w in picker.fleet()["cluster"]["watches"]} == {"live"}, "the CRDs to be noticed", 45
        )
    finally:
        cluster.stop()


def test_the_older_pool(cluster, start):
    cluster.api.apply(
        (INFERENCE_X, "v1alpha2", "inferencepools"),
        {
            "metadata": {"name": "old"},
            "spec": {
                "selector": {"app": "decode"},
                "targetPortNumber": cluster.servers.port,
                "extensionRef": {"name": "epp"},
            },
        },
    )
    cluster.pod("a")
    picker, envoy = start(cluster, "--pool-name=old")
    wait_until(lambda: picker.serving() == {"a"}, "the pod")
    assert ask(envoy).status_code == 200


def test_an_invalid_field_keeps_the_last_good_pool(cluster, start):
    cluster.pool("decode")
    cluster.pod("a")
    picker, envoy = start(cluster, "--pool-name=decode")
    wait_until(lambda: picker.serving() == {"a"}, "the pod")
    cluster.api.patch(POOLS, "decode", lambda p: p["spec"].update(targetPorts=[{"number": 700000}]))
    told = wait_until(lambda: "cannot be read" in picker.readiness()[1] and picker.readiness(), "the reason")
    assert told[0] == 200 and "700000 is no port" in told[1]
    assert picker.metrics().sum("epp_pd_kubernetes_invalid_objects") == 1
    assert picker.metrics().sum("epp_pd_kubernetes_pool_trouble", pool="decode") == 1
    # It is written again and again, as controllers do, and read anew: said once.
    for turn in range(10):
        cluster.api.patch(POOLS, "decode", lambda p: p["metadata"].setdefault("labels", {}).update(turn=str(turn)))
        time.sleep(0.1)
    cluster.api.reset_connections()
    time.sleep(2)
    assert len(picker.troubles("pool decode")) == 1, picker.log()
    assert len(picker.troubles("inferencepools.inference.networking.k8s.io default/decode")) == 1, picker.log()
    assert picker.serving() == {"a"}
    assert ask(envoy).status_code == 200
    cluster.pool("decode")
    wait_until(lambda: picker.readiness() == (200, "ok\n"), "readiness")


def test_what_rbac_denies_is_said(cluster, start):
    cluster.pool("decode")
    cluster.pod("a")
    cluster.api.faults.status, cluster.api.faults.only = 403, "/pods"
    picker = start(cluster, "--pool-name=decode", wait=False, gateway=False)
    told = wait_until(lambda: "forbidden" in picker.readiness()[1] and picker.readiness(), "the reason")
    assert told[0] == 503
    cluster.api.faults.status = None
    wait_until(lambda: picker.readiness() == (200, "ok\n"), "readiness", 40)


def test_rights_that_are_taken_away_take_no_pod_away(cluster, start):
    cluster.pool("decode")
    cluster.pod("a")
    picker, envoy = start(cluster, "--pool-name=decode")
    wait_until(lambda: picker.serving() == {"a"}, "the pod")
    cluster.api.faults.status = 403
    cluster.api.reset_connections()
    denied = lambda: picker.metrics().sum("epp_pd_kubernetes_watch_standing", resource="pods", standing="denied")
    wait_until(lambda: denied() == 1, "the metric", 30)
    told = picker.readiness()
    assert told[0] == 200 and "denied" in told[1] and "what was known before still counts" in told[1]
    time.sleep(4)
    assert picker.serving() == {"a"} and ask(envoy).status_code == 200
    # Said when it became so, and not with each of the attempts since.
    assert len([line for line in picker.troubles("pods") if "denied" in line]) == 1, picker.log()
    cluster.api.faults.status = None
    cluster.pod("b")
    wait_until(lambda: picker.serving() == {"a", "b"}, "the rights to be noticed", 40)


def test_the_service_that_a_gateway_asks_tells_the_pool_of_its_route(cluster, start, tmp_path):
    for name in ("small", "large"):
        cluster.pool(name)
        cluster.pod(f"{name}-pod", app=name)
        cluster.api.patch(POOLS, name, lambda p: p["spec"].update(endpointPickerRef={"name": f"epp-{name}", "port": {"number": 9002}}))
    authorities = {
        # Istio's name of the cluster; a host as others write it; a Service that no pool names.
        "small": "outbound|9002||epp-small.default.svc.cluster.local", "large": "epp-large.default.svc:9002",
        "unknown": "epp-pd.default.svc:9002", "elsewhere": "epp-large.other.svc:9002",
    }  # fmt: skip

    def asking(authority):
        def change(manager):
            rig.ext_proc(manager)["grpc_service"]["envoy_grpc"]["authority"] = authority

        return change

    def envoy_of(picker, name):
        variants = {name: asking(authority) for name, authority in authorities.items()}
        return Envoy(tmp_path, "full-duplex", picker.port, edit=rig.for_tests, variants=variants, name=name)

    def served(envoy, listener) -> set[str]:
        before = len(cluster.servers.received)
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
        for _ in range(12):
            url = f"http://{rig.HOST}:{envoy.ports[listener]}/v1/chat/completions"
            assert httpx.post(url, json=body, timeout=20).status_code == 200
        addresses = {cluster.address(f"{name}-pod"): name for name in ("small", "large")}
        return {addresses[r.port] for r in cluster.servers.received[before:]}

    pools = ("--pool-name=small", "--pool-name=large")
    picker = start(cluster, *pools, gateway=False)
    wait_until(lambda: picker.serving() == {"small-pod", "large-pod"}, "both pods")
    envoy = envoy_of(picker, "routed")
    try:
        assert {name: served(envoy, name) for name in authorities} == {
            "small": {"small"}, "large": {"large"}, "unknown": {"small"}, "elsewhere": {"small"},
        }  # fmt: skip
        # One Service for all of them tells nothing: the first pool counts.
        cluster.api.patch(POOLS, "large", lambda p: p["spec"]["endpointPickerRef"].update(name="epp-small"))
        wait_until(lambda: served(envoy, "large") == {"small"}, "the change of the pool")
    finally:
        envoy.stop()
    # What the command line says holds for every route.
    cluster.api.patch(POOLS, "large", lambda p: p["spec"]["endpointPickerRef"].update(name="epp-large"))
    fixed = start(cluster, *pools, "--route-pool=large", gateway=False, name="fixed")
    wait_until(lambda: fixed.serving() == {"small-pod", "large-pod"}, "both pods")
    envoy = envoy_of(fixed, "fixed-envoy")
    try:
        assert served(envoy, "small") == {"large"}
    finally:
        envoy.stop()


def test_nodes_are_not_needed(cluster, start):
    cluster.pool("decode")
    cluster.pod("a")
    cluster.api.faults.status, cluster.api.faults.only = 403, "/nodes"
    picker = start(cluster, "--pool-name=decode", gateway=False)
    assert picker.readiness() == (200, "ok\n")
    assert "accelerator" in picker.pods()["a"]["missing"]
    assert picker.metrics().sum("epp_pd_pods_without_profile") == 1


def test_destinations_lie_in_the_routes_pool_and_prefill_anywhere(cluster, start):
    cluster.pool("decode")
    cluster.pool("prefill")
    nixl = ("--kv-transfer-config", '{"kv_connector":"NixlConnector","kv_role":"kv_both"}')
    args = ("meta-llama/Llama-3.1-8B-Instruct", f"--served-model-name={MODEL}", *nixl)
    cluster.pod("d", role="decode", args=args)
    # Would do for a destination, were it not in the other pool.
    cluster.pod("p", role="both", args=args, app="prefill")
    picker, envoy = start(cluster, "--pool-name=decode", "--pool-name=prefill")
    wait_until(lambda: picker.serving() == {"d", "p"}, "both pods")
    for number in range(20):
        assert ask(envoy).status_code == 200
    assert {r.port for r in cluster.servers.received} == {cluster.address("d")}
    prefillers = {r.header("x-prefiller-host-port") for r in cluster.servers.received}
    assert prefillers <= {None, f"{cluster.address('p')}:{cluster.servers.port}"}
    endpoint = picker.endpoints()["p"]["endpoint"]
    assert endpoint["pool"] == "prefill" and endpoint["kv"]["connector"] == "nixl"


def test_kv_goes_over_the_link_between_the_nodes(cluster, start, tmp_path):
    cluster.pool("decode")
    for name, zone in (("gpu-1", "a"), ("gpu-2", "b")):
        labels = {
            "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
            "topology.kubernetes.io/zone": zone,
            "kubernetes.io/hostname": name,
        }
        cluster.api.apply(NODES, {"metadata": {"name": name, "labels": labels}})
    nixl = ("--kv-transfer-config", '{"kv_connector":"NixlConnector","kv_role":"kv_both"}')
    args = ("meta-llama/Llama-3.1-8B-Instruct", f"--served-model-name={MODEL}", *nixl)
    cluster.pod("p", role="prefill", args=args)
    cluster.pod("near", role="decode", args=args)
    cluster.pod("far", role="decode", args=args, node="gpu-2")
    config, decisions = tmp_path / "config.yaml", tmp_path / "decisions.jsonl"
    config.write_text("network: {betweenZones: {gbps: 1, latency: 50ms}}")
    picker, envoy = start(cluster, "--pool-name=decode", f"--config={config}", f"--decision-log={decisions}")
    wait_until(lambda: picker.serving() == {"p", "near", "far"}, "three pods")
    network = picker.fleet()["network"]
    assert {p["endpoint"]: p["zone"] for p in network["places"]} == {"p": "a", "near": "a", "far": "b"}
    links = {link["span"]: link for link in network["links"]}
    assert links["together"]["pairs"] == 1 and links["between zones"]["pairs"] == 1
    assert (links["between zones"]["gbps"], links["between zones"]["latencyMilliseconds"]) == (1, 50)
    assert ask(envoy).status_code == 200
    wait_until(lambda: decisions.exists() and decisions.read_text(), "the decision")
    text = run("explain", decisions).stdout
    assert "p → near" in text and "p → far (between zones)" in text, text
    assert run("explain", decisions, "--check").returncode == 0


def test_model_rewrites_split_traffic_and_sessions_stay(cluster, start):
    cluster.servers.models = [MODEL, "v1", "v2"]
    cluster.pool("decode")
    cluster.pod("a", args=("m", "--served-model-name", MODEL, "v1", "v2"))
    rule = {
        "matches": [{"model": {"type": "Exact", "value": MODEL}}],
        "targets": [{"modelRewrite": "v1", "weight": 70}, {"modelRewrite": "v2", "weight": 30}],
    }
    picker, envoy = start(cluster, "--pool-name=decode")
    wait_until(lambda: picker.serving() == {"a"}, "the pod")
    assert ask(envoy).status_code == 200
    assert json.loads(cluster.servers.last().body)["model"] == MODEL
    spec = {"poolRef": {"name": "decode"}, "rules": [rule]}
    cluster.api.apply((LLM_D, "v1alpha2", "inferencemodelrewrites"), {"metadata": {"name": "ab"}, "spec": spec})

    def served(fields=None, **headers):
        assert ask(envoy, fields=fields, **headers).status_code == 200
        return json.loads(cluster.servers.last().body)["model"]

    wait_until(lambda: served() != MODEL, "the rewrite")
    models = [served() for _ in range(200)]
    assert 110 < models.count("v1") < 170 and models.count("v1") + models.count("v2") == 200
    # The client sees the model that it asked for.
    answer = ask(envoy, **{"x-session-id": "s1"})
    assert answer.json()["model"] == MODEL
    stream = ask(envoy, **{"x-answer": "kind=sse&count=3"})
    assert stream.text.rstrip().endswith("data: [DONE]")
    by_session = {s: {served(**{"x-session-id": f"s{s}"}) for _ in range(4)} for s in range(20)}
    assert all(len(found) == 1 for found in by_session.values())
    assert {next(iter(found)) for found in by_session.values()} == {"v1", "v2"}
    # So are those of one cache key and of one user, by the body.
    for field in ("prompt_cache_key", "user"):
        by_key = [{served({field: f"name {n}"}) for _ in range(4)} for n in range(20)]
        assert all(len(found) == 1 for found in by_key), field
        assert set().union(*by_key) == {"v1", "v2"}, field
    # Rewrites of other pools are none of ours.
    spec["poolRef"]["name"] = "other"
    cluster.api.apply((LLM_D, "v1alpha2", "inferencemodelrewrites"), {"metadata": {"name": "ab"}, "spec": spec})
    wait_until(lambda: served() == MODEL, "the rewrite's end")


def test_objectives_and_older_models_give_priorities(cluster, start, tmp_path):
    cluster.pool("decode")
    cluster.pod("a")
    decisions = tmp_path / "decisions.jsonl"
    picker, envoy = start(cluster, "--pool-name=decode", f"--decision-log={decisions}")
    wait_until(lambda: picker.serving() == {"a"}, "the pod")
    pool = {"name": "decode"}
    cluster.api.apply(
        (LLM_D, "v1alpha2", "inferenceobjectives"),
        {"metadata": {"name": "urgent"}, "spec": {"priority": 7, "poolRef": pool}},
    )
    cluster.api.apply(
        (INFERENCE_X, "v1alpha2", "inferencemodels"),
        {"metadata": {"name": "m"}, "spec": {"modelName": MODEL, "criticality": "Sheddable", "poolRef": pool}},
    )

    def priority(**headers):
        assert ask(envoy, **headers).status_code == 200
        time.sleep(0.1)
        return json.loads(decisions.read_text().splitlines()[-1])["input"]["request"]["priority"]

    wait_until(lambda: priority() == -1, "the criticality")
    wait_until(lambda: priority(**{"x-llm-d-inference-objective": "urgent"}) == 7, "the objective")
    assert priority(**{"x-gateway-inference-objective": "urgent"}) == 7


def test_a_selector_without_a_pool_and_ranks_on_several_ports(cluster, start):
    other = rig.free_port()
    cluster.pod("a", args=("Qwen/Qwen3-8B", f"--served-model-name={MODEL}", "--data-parallel-size=2", "--kv-cache-dtype=fp8"))
    ports = f"{cluster.servers.port},{other}"
    picker = start(cluster, "--endpoint-selector=app in (decode)", f"--endpoint-target-ports={ports}", gateway=False)
    wait_until(lambda: set(picker.endpoints()) == {"a-rank-0", "a-rank-1"}, "two ranks")
    facts = {f["field"]: (f["value"], f["from"]) for f in picker.pods()["a"]["facts"]}
    assert facts["model"] == ("Qwen/Qwen3-8B", "arguments")
    assert facts["accelerator"] == ("NVIDIA-H100-80GB-HBM3", "node")
    assert facts["kvDtype"] == ("fp8", "arguments")
    assert picker.endpoints()["a-rank-0"]["endpoint"]["accelerator"] == "h100-sxm"


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([rig.binary(), *map(str, arguments)], capture_output=True, text=True, timeout=40)


def test_the_fleet_is_shown_with_sources(cluster, tmp_path):
    cluster.pool("decode")
    cluster.pod("a", annotations={"epp-pd.io/profile": "{tensorParallel: 8, model: x, blocksize: 3}"})
    cluster.pod("b", role="encode", node="nowhere")
    flags = ("--pool-name=decode", f"--kubeconfig={cluster.kubeconfig(tmp_path)}")
    done = run("fleet", *flags, "--json")
    assert done.returncode == 0, done.stderr
    pods = {p["name"]: p for p in json.loads(done.stdout)["pods"]}
    assert pods["b"]["state"] == "unused"
    # A misspelt key: the annotation says nothing, and why is told.
    assert "blocksize" in pods["a"]["problems"][0]
    facts = {f["field"]: (f["value"], f["from"]) for f in pods["a"]["facts"]}
    assert facts["model"] == ("meta-llama/Llama-3.1-8B-Instruct", "arguments")
    assert facts["tensorParallel"] == ("1", "resources")
    text = run("fleet", *flags).stdout
    assert "NVIDIA-H100-80GB-HBM3" in text and "problem:" in text
    cluster.api.faults.status = 500
    failed = run("fleet", *flags, "--timeout=1s")
    assert failed.returncode == 1 and "500" in failed.stderr


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--pool-name=a", "--endpoint-selector=x=y", "--endpoint-target-ports=1"],
        ["--pool-name=a", "--fleet=x.yaml"],
        ["--endpoint-selector=x=y"],
        ["--endpoint-selector=x=y", "--endpoint-target-ports=0"],
        ["--pool-name=a", "--pool-name=a"],
        ["--pool-name=a", "--route-pool=b"],
        ["--pool-name=a", "--kubeconfig=/nowhere"],
    ],
)
def test_wrong_usage(flags):
    done = subprocess.run([rig.binary(), "serve", *flags], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2, done.stderr
    assert done.stderr


def test_in_a_cluster_metrics_are_guarded_unless_one_says_no(cluster, start):
    cluster.pool("decode")
    cluster.pod("a")
    default = start(cluster, "--pool-name=decode", gateway=False, name="default", guarded=True)
    assert rig.http_get(default.metrics_port, "/metrics")[0] == 401
    assert rig.http_get(default.metrics_port, "/readyz")[0] == 200
    open_to_all = start(cluster, "--pool-name=decode", "--metrics-endpoint-auth=false", gateway=False, name="open", guarded=True)
    assert rig.http_get(open_to_all.metrics_port, "/metrics")[0] == 200


def test_the_lease_bears_the_name_of_the_pool(cluster, start):
    cluster.pool("decode")
    cluster.pod("a")
    start(cluster, "--pool-name=decode", "--ha-enable-leader-election", gateway=False)
    leases = f"{cluster.api.url}/apis/coordination.k8s.io/v1/namespaces/default/leases"
    found = httpx.get(leases, headers={"authorization": "Bearer secret"}).json()
    assert [lease["metadata"]["name"] for lease in found["items"]] == ["epp-default-decode.epp-pd.io"]
