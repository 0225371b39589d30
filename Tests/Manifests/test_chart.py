# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""The chart and the kustomizations: they render, say the same, and say what the picker and Prometheus understand."""

import copy
import json
import math
import re
import subprocess
from pathlib import Path

import kustomize_layout
import manifests
import pytest
import yaml
from manifests import CHART, NAMESPACE, ROOT

VARIANTS = {
    "default": {},
    "prometheus": {"autoscaling": {"way": "prometheus"}},
    "keda": {"autoscaling": {"way": "keda"}},
    "external-metrics": {"autoscaling": {"way": "external-metrics"}},
    "active-active": {"leaderElection": False, "replicas": 3, "podAnnotations": {"a/b": "c"}, "nodeSelector": {"x": "y"}},
    "selector": {"endpointSelector": "app=vllm,tier in (a)", "endpointTargetPorts": "8000,8001", "priorityClassName": "high"},
    "external-tls": {
        "autoscaling": {"way": "external-metrics", "externalMetricsSecret": "s", "externalMetricsCABundle": "Zm9v"}
    },
    "load-balancer": {"networkPolicy": {"gatewayCIDRs": ["35.191.0.0/16", "130.211.0.0/22"], "apiServerPorts": [443]}},
    "routes": {"pools": ["small", "large"], "routeServices": ["epp-small", "epp-large"]},
    "tls": {"tls": {"secret": "picker-tls"}, "autoscaling": {"way": "keda"}},
    "numbers": {"resources": {"requests": {"cpu": 2}}, "podAnnotations": {"a": 1}, "nodeSelector": {"gpu": True}},
    "shadow": manifests.shadow_values(),
    "bare": {
        "tls": {"enabled": False}, "metricsAuth": False, "monitoring": {"enabled": False},
        "networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False},
        "decisionLogSample": "0.01", "decisionHeader": True, "autoscaling": {"noEndpointWait": "300s"}, "extraArgs": ["--mode=cost"], "image": {"tag": "edge"},
    },
}  # fmt: skip


def one(documents, kind, name="epp-pd"):
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind}/{name}: {len(found)}"
    return found[0]


def container(documents):
    return one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_renders_to_well_formed_objects(variant):
    documents = manifests.chart(VARIANTS[variant])
    keys = [manifests.key(document) for document in documents]
    assert len(keys) == len(set(keys)), "an object comes twice"
    for document in documents:
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "epp-pd"
    # Every binding names a role that is there, or a well-known one.
    roles = {(d["kind"], d["metadata"]["name"]) for d in documents if d["kind"] in ("Role", "ClusterRole")}
    for document in documents:
        if document["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            reference = document["roleRef"]
            assert (reference["kind"], reference["name"]) in roles
    # Ports, volumes and selectors fit together.
    pod = one(documents, "Deployment")["spec"]["template"]
    ports = {port["name"] for port in container(documents)["ports"]}
    labels = pod["metadata"]["labels"]
    for service in (d for d in documents if d["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    assert {m["name"] for m in container(documents)["volumeMounts"]} == {v["name"] for v in pod["spec"]["volumes"]}
    assert pod["spec"]["terminationGracePeriodSeconds"] > 30


def test_a_value_that_does_not_exist_is_an_error(tmp_path):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    del values["pools"]
    given = {"Values": values, "Release": {"Name": "x", "Namespace": "y"}, "Chart": {"AppVersion": "1"}}
    outcome = subprocess.run(
        [manifests.renderer(), "chart", CHART], input=json.dumps(given), capture_output=True, text=True
    )
    assert outcome.returncode != 0 and "pools" in outcome.stderr


def test_numbers_where_kubernetes_wants_text_become_text():
    pod = one(manifests.chart(VARIANTS["numbers"]), "Deployment")["spec"]["template"]
    assert pod["metadata"]["annotations"] .items() >= {"a": "1"}.items() and pod["spec"]["nodeSelector"] == {"gpu": "true"}
    assert pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "2"


def test_templates_use_plain_functions_only():
    """What Helm adds (Sprig, include, toYaml, lookup, …) is not used: the renderer, which has none of it, parsed all."""
    for path in (CHART / "templates").iterdir():
        for action in re.findall(r"\{\{(.*?)\}\}", path.read_text(), re.DOTALL):
            assert not re.search(r"\b(include|toYaml|nindent|quote|default|required|tpl|lookup)\b", action), path


def test_every_value_is_used():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())

    def check(node, path):
        if f".Values.{path}" in templates and not (isinstance(node, dict) and node):
            return
        assert isinstance(node, dict) and node, f"nothing uses {path}"
        if re.search(rf"range [^}}]*\.Values\.{re.escape(path)} ", templates):
            return
        for key, inner in node.items():
            check(inner, f"{path}.{key}")

    for key, node in values.items():
        check(node, key)


@pytest.mark.parametrize("overlay", kustomize_layout.ALL_OVERLAYS)
def test_chart_and_kustomization_say_the_same(overlay):
    ours = {manifests.key(d): d for d in manifests.chart(*kustomize_layout.given(overlay))}
    theirs = {manifests.key(d): d for d in manifests.kustomize(f"kustomize/overlays/{overlay}")}
    assert sorted(ours) == sorted(theirs)
    for key, document in ours.items():
        assert document == theirs[key], key


def test_the_kustomization_is_what_the_chart_gives():
    expected = kustomize_layout.files()
    present = {path for path in kustomize_layout.KUSTOMIZE.rglob("*") if path.is_file()}
    assert present == set(expected), "run scripts/kustomize-from-chart"
    for path, text in expected.items():
        assert path.read_text() == text, f"{path}: run scripts/kustomize-from-chart"


def test_namespace_and_image_of_a_kustomization_reach_every_object():
    files = copy.deepcopy(manifests._deploy_files())
    overlay = files["kustomize/overlays/keda/kustomization.yaml"][0]
    overlay["namespace"] = "elsewhere"
    overlay["images"] = [{"name": "epp-pd", "newName": "registry.example/epp-pd", "newTag": "1.2.3"}]
    documents = json.loads(manifests._run("kustomize", "kustomize/overlays/keda", files))
    assert container(documents)["image"] == "registry.example/epp-pd:1.2.3"
    for document in documents:
        assert document["metadata"].get("namespace", "elsewhere") == "elsewhere"
        for subject in document.get("subjects", []):
            assert subject["namespace"] == ("elsewhere" if subject["name"] == "epp-pd" else "monitoring")


@pytest.mark.parametrize("field", ["patches", "configMapGenerator", "namePrefix"])
def test_other_fields_of_a_kustomization_are_refused(field):
    files = {"x/kustomization.yaml": [{"kind": "Kustomization", "resources": [], field: []}]}
    outcome = subprocess.run(
        [manifests.renderer(), "kustomize", "x"], input=json.dumps(files), capture_output=True, text=True
    )
    assert outcome.returncode != 0 and field in outcome.stderr


def test_the_pod_is_locked_down():
    documents = manifests.chart()
    pod = one(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    context = container(documents)["securityContext"]
    assert context == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert probe in container(documents)
    assert container(documents)["resources"]["requests"] and container(documents)["resources"]["limits"]["memory"]


def test_roll_outs_with_a_follower_that_is_never_ready_come_to_an_end():
    documents = manifests.chart()
    assert one(documents, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == "100%"
    alone = one(manifests.chart({"leaderElection": False}), "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert alone["maxUnavailable"] == 0


def evictable(budget: dict, replicas: int, ready: int) -> int:
    """How many Ready pods may be evicted now: status.disruptionsAllowed of policy/v1, currentHealthy - desiredHealthy,
    where healthy is Ready, and shares of the expected pods are rounded up."""
    most = str(budget["maxUnavailable"])
    share = math.ceil(replicas * int(most[:-1]) / 100) if most.endswith("%") else int(most)
    return max(ready - max(replicas - share, 0), 0)


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_the_node_of_the_leader_can_be_drained(replicas):
    budget = one(manifests.chart({"replicas": replicas}), "PodDisruptionBudget")["spec"]
    assert evictable(budget, replicas, ready=1) == 1
    # A follower, or a replica that cannot start, holds no node up.
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    # Why it is not 1: the budget would count the follower as away.
    assert evictable({"maxUnavailable": 1}, 2, ready=1) == 0


def test_active_replicas_are_evicted_one_at_a_time():
    budget = one(manifests.chart({"leaderElection": False, "replicas": 3}), "PodDisruptionBudget")["spec"]
    assert [evictable(budget, 3, ready) for ready in (3, 2, 1)] == [1, 0, 0]
    said = one(manifests.chart({"podDisruptionBudget": {"maxUnavailable": 2}}), "PodDisruptionBudget")["spec"]
    assert said["maxUnavailable"] == 2


def test_a_load_balancer_that_is_no_pod_gets_in_where_gateways_do():
    policy = one(manifests.chart(VARIANTS["load-balancer"]), "NetworkPolicy")["spec"]
    gateways, metrics = policy["ingress"]
    assert [f["ipBlock"]["cidr"] for f in gateways["from"] if "ipBlock" in f] == ["35.191.0.0/16", "130.211.0.0/22"]
    assert [p["port"] for p in gateways["ports"]] == [9002, 9003]
    assert not any("ipBlock" in f for f in metrics["from"])


def test_routes_to_several_pools_have_a_service_each_to_the_same_pods():
    services = {d["metadata"]["name"]: d["spec"] for d in manifests.chart(VARIANTS["routes"]) if d["kind"] == "Service"}
    assert set(services) == {"epp-pd", "epp-small", "epp-large"}
    assert all(spec["selector"] == services["epp-pd"]["selector"] for spec in services.values())
    for name in ("epp-small", "epp-large"):
        assert [p["port"] for p in services[name]["ports"]] == [9002, 9003]


def test_a_shadow_stands_beside_a_picker():
    """Nothing that it brings has a name of the picker's, and it writes down every decision."""
    shadow = manifests.chart(*kustomize_layout.given("shadow"))
    assert not {manifests.key(d) for d in shadow} & {manifests.key(d) for d in manifests.chart()}
    arguments = one(shadow, "Deployment", "epp-pd-shadow")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"--decision-log=-", "--decision-log-sample=1", "--ha-enable-leader-election=false"} <= set(arguments)
    kinds = {d["kind"] for d in shadow}
    assert not kinds & {"PrometheusRule", "PodDisruptionBudget", "HorizontalPodAutoscaler", "ScaledObject", "APIService"}
    # Services of the one select no pods of the other.
    for ours, others in ((shadow, manifests.chart()), (manifests.chart(), shadow)):
        pods = next(d for d in others if d["kind"] == "Deployment")["spec"]["template"]["metadata"]["labels"]
        for service in (d for d in ours if d["kind"] == "Service"):
            assert not service["spec"]["selector"].items() <= pods.items()


def test_rights_are_the_least():
    documents = manifests.chart()
    rules = [rule for d in documents if d["kind"] in ("Role", "ClusterRole") for rule in d["rules"]]
    for rule in rules:
        assert "*" not in rule["verbs"]
        writes = set(rule["verbs"]) - {"get", "list", "watch"}
        if writes:
            resources = set(rule.get("resources", []))
            assert resources <= {"leases", "tokenreviews", "subjectaccessreviews"}, rule
        assert "secrets" not in rule.get("resources", [])
    assert not any(
        "leases" in rule.get("resources", [])
        for d in manifests.chart({"leaderElection": False})
        if d["kind"] == "Role"
        for rule in d["rules"]
    )


def test_prefill_and_decode_scale_apart():
    for way, kind in (("prometheus", "HorizontalPodAutoscaler"), ("external-metrics", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")):  # fmt: skip
        scalers = [d for d in manifests.chart({"autoscaling": {"way": way}}) if d["kind"] == kind]
        targets = {d["spec"]["scaleTargetRef"]["name"] for d in scalers}
        assert targets == {"vllm-prefill-h100", "vllm-prefill-l40s", "vllm-decode-h100", "vllm-decode-l40s"}
    assert not [d for d in manifests.chart() if d["kind"] in ("HorizontalPodAutoscaler", "ScaledObject", "APIService")]


# MARK: - What Prometheus and Grafana are told


def documented_metrics() -> set[str]:
    names = set()
    for page in ("metrics.md", "autoscaling.md"):
        path = ROOT / "docs" / page
        if path.exists():
            names |= set(re.findall(r"`((?:epp_pd|inference_pool)_[a-z0-9_]+)`", path.read_text()))
    return names


def used_metrics(text: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bepp_pd_[a-z0-9_]+", text)}


def dashboard() -> dict:
    return json.loads((CHART / "dashboards" / "epp-pd.json").read_text())


def expressions() -> list[str]:
    """Of alerts and panels."""
    rules = one(manifests.chart(), "PrometheusRule")["spec"]
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    for panel in dashboard()["panels"]:
        found += [target["expr"] for target in panel["targets"]]
    return found


def test_expressions_name_metrics_that_exist():
    known = documented_metrics()
    assert len(expressions()) > 30
    for expression in expressions():
        assert used_metrics(expression), expression
        assert used_metrics(expression) <= known, expression


def documented_labels() -> dict[str, set[str]]:
    """The labels of each metric, as docs/metrics.md has them; a test of the server holds that page to what it exports."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| \w+ \| ([^|]*) \|", text, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def test_expressions_ask_for_labels_that_exist():
    labels = documented_labels()
    assert len(labels) > 60
    # What Prometheus adds, and the bounds of histograms.
    added = {"namespace", "pod", "le"}
    for expression in expressions():
        metrics = used_metrics(expression)
        for name, matchers in re.findall(r"\b(epp_pd_[a-z0-9_]+)\{([^}]*)\}", expression):
            (metric,) = used_metrics(name)
            for label in re.findall(r"(\w+)\s*[=!]~?", matchers):
                assert label in labels[metric] | added, f"{label}: {expression}"
        for group in re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", expression):
            for label in filter(None, re.split(r"[,\s]+", group)):
                assert all(label in labels[metric] | added for metric in metrics), f"{label}: {expression}"


def test_the_dashboard_is_in_order():
    board = dashboard()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    cells = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
    assert len(cells) == len(ids), "panels lie over each other"
    config = one(manifests.chart(), "ConfigMap", "epp-pd-dashboard")
    assert json.loads(config["data"]["epp-pd.json"]) == board


def test_promtool_accepts_alerts_and_dashboard_expressions(tmp_path):
    promtool = ROOT / ".tools" / "promtool"
    if not promtool.exists():
        pytest.skip("no promtool: run scripts/setup")
    groups = one(manifests.chart(), "PrometheusRule")["spec"]["groups"]
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    concrete = [e.replace("$__rate_interval", "5m") for e in expressions]
    groups = groups + [
        {"name": "dashboard", "rules": [{"record": f"panel:{i}", "expr": e} for i, e in enumerate(concrete)]}
    ]
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": groups}))
    outcome = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def combination(metric: str) -> str | None:
    """How replicas are combined, as the metric's help text says."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    line = re.search(rf"^\| `{metric}` \|.*$", text, re.MULTILINE).group(0)
    found = re.search(r"Combine replicas by (max|sum)", line)
    return found and found.group(1)


def test_recipes_combine_replicas_as_the_help_texts_say():
    for expression in expressions():
        for function, name in re.findall(r"\b(sum|max|avg|min)(?: by \([^)]*\))? ?\((epp_pd_[a-z0-9_]+)", expression):
            wanted = combination(name)
            assert wanted in (None, function), expression
    rules = one(manifests.chart({"autoscaling": {"way": "prometheus"}}), "ConfigMap", "epp-pd-adapter-rules")
    (rule,) = yaml.safe_load(rules["data"]["config.yaml"])["externalRules"]
    assert rule["metricsQuery"].startswith(f"{combination('epp_pd_autoscaling_desired_replicas')} by ")


def promtool_tests(tmp_path, groups: list, tests: list) -> None:
    promtool = ROOT / ".tools" / "promtool"
    if not promtool.exists():
        pytest.skip("no promtool: run scripts/setup")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": tests}))
    outcome = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def series(name: str, values: str, **labels: str) -> dict:
    inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{inner}}}", "values": values}


def test_the_adapter_gives_an_hpa_what_it_asks_for(tmp_path):
    """The adapter's query over two replicas of the picker that differ by one, with the selector of each HPA."""
    documents = manifests.chart({"autoscaling": {"way": "prometheus"}})
    rules = one(documents, "ConfigMap", "epp-pd-adapter-rules")
    (rule,) = yaml.safe_load(rules["data"]["config.yaml"])["externalRules"]
    hpas = [d for d in documents if d["kind"] == "HorizontalPodAutoscaler"]
    inputs, cases = [], []
    for index, hpa in enumerate(hpas):
        (metric,) = hpa["spec"]["metrics"]
        name, selector = metric["external"]["metric"]["name"], metric["external"]["metric"]["selector"]["matchLabels"]
        assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
        for replica in (0, 1):
            labels = selector | {"model": "m", "namespace": NAMESPACE, "pod": f"epp-pd-{replica}"}
            inputs.append(series(name, f"{index + replica + 2}x20", **labels))
        matchers = ",".join(f'{key}="{value}"' for key, value in (selector | {"namespace": NAMESPACE}).items())
        query = rule["metricsQuery"].replace("<<.Series>>", name).replace("<<.LabelMatchers>>", matchers)
        inner = ", ".join(f'{key}="{value}"' for key, value in sorted((selector | {"model": "m"}).items()))
        cases.append({"expr": query, "eval_time": "1m", "exp_samples": [{"labels": f"{{{inner}}}", "value": index + 3}]})
    assert len(cases) == 4
    promtool_tests(tmp_path, [], [{"interval": "15s", "input_series": inputs, "promql_expr_test": cases}])


def counts(rate: str) -> str:
    return f"0+{rate}x160"


def ratio_buckets(low: str, middle: str, high: str) -> list:
    """Observed to predicted: so many a step up to 0.1, between 0.33 and 3, and up to 8."""
    bounds = [("0.1", low), ("0.25", low), ("0.5", None), ("2", middle), ("4", middle), ("8", high), ("+Inf", high)]
    return [
        ("epp_pd_ttft_observed_to_predicted_ratio_bucket", {"accelerator": "l40s", "le": le}, counts(rate or low))
        for le, rate in bounds
    ]


# Of each alert: what makes it fire, by when, and what is just not enough.
ALERTS = {
    # Both replicas are there, and none leads.
    "EndpointPickerNotReady": (
        [("epp_pd_ready", {"pod": "a"}, "0x160"), ("epp_pd_ready", {"pod": "b"}, "0x160")],
        "1m",
        [("epp_pd_ready", {"pod": "a"}, "0x160"), ("epp_pd_ready", {"pod": "b"}, "1x160")],
    ),
    "NoDecodeEndpoint": (
        [("epp_pd_pool_endpoints_available", {"role": "decode"}, "0x160")],
        "5m",
        [("epp_pd_pool_endpoints_available", {"role": "decode"}, "0x160"), ("epp_pd_pool_endpoints_available", {"role": "both"}, "1x160")],
    ),
    "InferencePoolUnknown": (
        [("epp_pd_kubernetes_pool_trouble", {"pool": "x"}, "1x160")], "5m", [("epp_pd_kubernetes_pool_trouble", {"pool": "x"}, "1 0x160")],
    ),
    "KubernetesUnknown": (
        [("epp_pd_kubernetes_watch_standing", {"resource": "pods", "standing": "failing"}, "1x160")],
        "10m",
        # Rights to nodes may be missing on purpose.
        [("epp_pd_kubernetes_watch_standing", {"resource": "nodes", "standing": "denied"}, "1x160")],
    ),
    "PodsWithoutProfile": (
        [("epp_pd_pods_without_profile", {}, "1x160")], "20m", [("epp_pd_pods_without_profile", {}, "1x20 0x140")],
    ),
    "EndpointsUnavailable": (
        [("epp_pd_pool_endpoints", {"role": "decode"}, "4x160"), ("epp_pd_pool_endpoints_available", {"role": "decode"}, "1x160")],
        "10m",
        [("epp_pd_pool_endpoints", {"role": "decode"}, "4x160"), ("epp_pd_pool_endpoints_available", {"role": "decode"}, "2x160")],
    ),
    "EndpointLoadUnknown": (
        [("epp_pd_pool_endpoints_load_unknown", {"role": "decode"}, "1x160")],
        "10m",
        [("epp_pd_pool_endpoints_load_unknown", {"role": "decode"}, "1x8 0x150")],
    ),
    "RequestsFail": (
        [("epp_pd_requests_total", {"outcome": "completed"}, counts("90")), ("epp_pd_requests_total", {"outcome": "failed"}, counts("10"))],
        "14m",
        [("epp_pd_requests_total", {"outcome": "completed"}, counts("96")), ("epp_pd_requests_total", {"outcome": "failed"}, counts("4"))],
    ),
    "RequestsRefused": (
        [("epp_pd_requests_total", {"outcome": "completed"}, counts("90")), ("epp_pd_refusals_total", {"reason": "queue"}, counts("10"))],
        "20m",
        [("epp_pd_requests_total", {"outcome": "completed"}, counts("96")), ("epp_pd_refusals_total", {"reason": "queue"}, counts("4"))],
    ),
    "ServiceLevelsMissed": (
        [("epp_pd_service_levels_total", {"bound": "ttft", "result": "met"}, counts("80")),
         ("epp_pd_service_levels_total", {"bound": "ttft", "result": "missed"}, counts("20"))],
        "25m",
        [("epp_pd_service_levels_total", {"bound": "ttft", "result": "met"}, counts("92")),
         ("epp_pd_service_levels_total", {"bound": "ttft", "result": "missed"}, counts("8"))],
    ),
    "CapacityExhausted": (
        [("epp_pd_autoscaling_utilization_ratio", {"role": "decode"}, "1.5x160")],
        "25m",
        [("epp_pd_autoscaling_utilization_ratio", {"role": "decode"}, "1.1x160")],
    ),
    # More than half of the requests take more than four times what was predicted.
    "PredictionsOff": (ratio_buckets("0", "4", "10"), "39m", ratio_buckets("1", "8", "10")),
    "ServedElsewhere": ([("epp_pd_served_elsewhere_total", {}, counts("1"))], "14m", [("epp_pd_served_elsewhere_total", {}, "3x160")]),
    "ProtocolViolations": (
        [("epp_pd_protocol_violations_total", {}, counts("1"))], "14m", [("epp_pd_protocol_violations_total", {}, "3x160")],
    ),
    "DecisionLogDropped": (
        [("epp_pd_decision_log_dropped_total", {}, counts("1"))], "20m", [("epp_pd_decision_log_dropped_total", {}, "3x160")],
    ),
}  # fmt: skip


def firing(alert: str, inputs: list, at: str, fires: bool) -> dict:
    rule = next(r for g in one(manifests.chart(), "PrometheusRule")["spec"]["groups"] for r in g["rules"] if r["alert"] == alert)
    # Which labels an alert keeps is of no interest here: whether it fires is.
    return {
        "interval": "15s",
        "input_series": inputs,
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing",severity="{rule["labels"]["severity"]}"}})',
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }


def rule_groups() -> list:
    return one(manifests.chart(), "PrometheusRule")["spec"]["groups"]


def test_every_alert_is_fired_in_a_test():
    assert set(ALERTS) == {rule["alert"] for group in rule_groups() for rule in group["rules"]}


def inputs_of(given: list) -> list:
    return [series(name, values, namespace=NAMESPACE, **labels) for name, labels, values in given]


@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_fire_for_what_they_say_and_for_no_less(tmp_path, alert):
    enough, at, too_little = ALERTS[alert]
    promtool_tests(
        tmp_path, rule_groups(),
        [firing(alert, inputs_of(enough), at, True), firing(alert, inputs_of(too_little), at, False)],
    )  # fmt: skip


def test_predictions_that_are_far_too_high_are_off_too(tmp_path):
    promtool_tests(tmp_path, rule_groups(), [firing("PredictionsOff", inputs_of(ratio_buckets("9", "10", "10")), "39m", True)])


def test_no_picker_at_all_is_no_picker_ready(tmp_path):
    promtool_tests(tmp_path, rule_groups(), [firing("EndpointPickerNotReady", [], "5m", True)])


def test_alerts_are_silent_while_all_is_well(tmp_path):
    """Two replicas, of which one leads."""
    groups = rule_groups()
    where = {"namespace": NAMESPACE}
    inputs = [
        series("epp_pd_ready", "1x120", pod="a", **where),
        series("epp_pd_ready", "0x120", pod="b", **where),
        series("epp_pd_requests_total", "0+100x120", outcome="completed", pod="a", **where),
        series("epp_pd_refusals_total", "0x120", reason="queue", pod="a", **where),
        series("epp_pd_served_elsewhere_total", "0x120", pod="a", **where),
        series("epp_pd_protocol_violations_total", "0x120", pod="a", **where),
    ]
    for name, value in (("available", "4"), ("load_unknown", "0")):
        inputs.append(series(f"epp_pd_pool_endpoints_{name}", f"{value}x120", role="decode", pod="a", **where))
    inputs.append(series("epp_pd_pool_endpoints", "4x120", role="decode", pod="a", **where))
    inputs.append(series("epp_pd_autoscaling_utilization_ratio", "0.8x120", role="decode", pod="a", **where))
    inputs.append(series("epp_pd_kubernetes_pool_trouble", "0x120", pool="x", pod="a", **where))
    inputs.append(series("epp_pd_kubernetes_watch_standing", "1x120", resource="pods", standing="live", pod="a", **where))
    inputs.append(series("epp_pd_pods_without_profile", "0x120", pod="a", **where))
    inputs.append(series("epp_pd_decision_log_dropped_total", "0x120", pod="a", **where))
    inputs.append(series("epp_pd_service_levels_total", "0+9x120", bound="ttft", result="met", pod="a", **where))
    inputs += inputs_of(ratio_buckets("0", "9", "10"))
    promtool_tests(tmp_path, groups, [firing(alert, inputs, "25m", False) for alert in ALERTS])
