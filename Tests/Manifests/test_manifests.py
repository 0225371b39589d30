# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Gateways, examples and the demo: they parse, follow the CRDs' schemas, and trust no client."""

import copy
import re
import subprocess
from pathlib import Path

import jsonschema
import manifests
import pytest
import rig
import yaml
from kubernetes import client
from manifests import DEPLOY, ROOT

GATEWAYS = ("standalone", "envoy-gateway", "kgateway", "istio", "gke")
SHADOWS = ("shadow-istio", "shadow-envoy-gateway", "shadow-gke")
FOLDERS = [f"gateways/{name}" for name in GATEWAYS + SHADOWS] + ["examples/mixed-h100-l40s", "demo"]


def schemas() -> dict[tuple[str, str], dict]:
    """The structural schema of each version of each CRD, closed: unknown fields are errors, as `kubectl` says."""

    def close(schema):
        if isinstance(schema, dict):
            if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
                schema["additionalProperties"] = False
            for inner in schema.values():
                close(inner)
        if isinstance(schema, list):
            for inner in schema:
                close(inner)

    found = {}
    for path in (ROOT / "Tests" / "Fixtures" / "crds").glob("*.yaml"):
        definition = yaml.safe_load(path.read_text())["spec"]
        for version in definition["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            close(schema)
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{definition['group']}/{version['name']}", definition["names"]["kind"]] = schema
    return found


SCHEMAS = schemas()


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_expands(folder):
    for document in manifests.kustomize(folder):
        assert document["apiVersion"] and document["kind"] and document["metadata"]["name"]
        assert "status" not in document


@pytest.mark.parametrize("path", manifests.plain_manifests(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_custom_resources_follow_their_schemas(path):
    for document in manifests.documents(path):
        schema = SCHEMAS.get((document["apiVersion"], document["kind"]))
        if schema:
            jsonschema.validate(document, schema)


def test_the_schemas_are_used_and_can_fail():
    kinds = {
        (d["apiVersion"], d["kind"]) for path in manifests.plain_manifests() for d in manifests.documents(path)
    } & set(SCHEMAS)
    assert {kind for _, kind in kinds} == {"InferencePool", "InferenceObjective"}
    pool = next(d for d in manifests.documents(DEPLOY / "examples/mixed-h100-l40s/pools.yaml"))
    schema = SCHEMAS[pool["apiVersion"], pool["kind"]]
    pool["spec"]["targetPorts"] = [{"number": 70000}]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(pool, schema)


def steering_headers() -> list[str]:
    """As the picker removes them itself."""
    source = (ROOT / "Sources/Gateway/Exchange/HeaderNames.swift").read_text()
    block = re.search(r"steering = \[(.*?)\]", source, re.DOTALL).group(1)
    return re.findall(r'"([^"]+)"', block)


@pytest.mark.parametrize("gateway", [name for name in GATEWAYS if name != "gke"])
def test_gateways_strip_what_clients_must_not_say(gateway):
    text = "\n".join(path.read_text() for path in (DEPLOY / "gateways" / gateway).glob("*.yaml"))
    assert len(steering_headers()) > 5
    for header in steering_headers():
        assert re.search(rf"-( remove:)? {header}$", text, re.MULTILINE), header


def test_no_route_removes_headers_after_the_picker_set_them():
    for path in manifests.plain_manifests():
        for document in manifests.documents(path):
            if document["kind"] == "HTTPRoute":
                assert "RequestHeaderModifier" not in str(document), path


def test_routes_lead_to_the_pool_of_decode_pods_and_the_pools_select_the_pods():
    example = manifests.kustomize("examples/mixed-h100-l40s")
    pods = [d["spec"]["template"]["metadata"]["labels"] for d in example if d["kind"] == "Deployment"]
    pools = {d["metadata"]["name"]: d["spec"] for d in example if d["kind"] == "InferencePool"}
    selected = {
        name: [labels for labels in pods if pool["selector"]["matchLabels"].items() <= labels.items()]
        for name, pool in pools.items()
    }
    for name, role in (("llama-70b-decode", "decode"), ("llama-70b-prefill", "prefill")):
        assert {labels["llm-d.ai/role"] for labels in selected[name]} == {role}
        assert {labels["epp-pd.io/accelerator"] for labels in selected[name]} == {"h100-sxm", "l40s"}
    picker = yaml.safe_load((manifests.CHART / "values.yaml").read_text())
    assert set(picker["pools"]) == set(pools)
    # What the autoscalers of the chart scale is what the example has.
    scaled = {target["deployment"]: target for target in picker["autoscaling"]["targets"]}
    deployments = {d["metadata"]["name"]: d for d in example if d["kind"] == "Deployment"}
    assert set(scaled) == set(deployments)
    for name, target in scaled.items():
        labels = deployments[name]["spec"]["template"]["metadata"]["labels"]
        assert (target["role"], target["accelerator"]) == (labels["llm-d.ai/role"], labels["epp-pd.io/accelerator"])
        assert labels in selected[target["pool"]]
    for gateway in GATEWAYS[1:]:
        route = next(d for d in manifests.kustomize(f"gateways/{gateway}") if d["kind"] == "HTTPRoute")
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        assert backend["kind"] == "InferencePool" and backend["name"] == "llama-70b-decode"


def standalone_envoy() -> dict:
    (config,) = manifests.documents(DEPLOY / "gateways/standalone/configmap.yaml")
    return yaml.safe_load(config["data"]["envoy.yaml"])


def test_the_standalone_envoy_is_the_tested_configuration():
    """The end-to-end tests run deploy/envoy/full-duplex-tls.yaml: only addresses may differ from it."""
    tested = yaml.safe_load((DEPLOY / "envoy/full-duplex-tls.yaml").read_text())
    ours = standalone_envoy()
    listener = ours["static_resources"]["listeners"][0]["address"]["socket_address"]
    assert listener["address"] == "0.0.0.0"
    listener["address"] = "127.0.0.1"
    endpoint = rig.cluster(ours, "epp")["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"]["address"] == "epp-pd-replicas"
    endpoint["address"]["socket_address"]["address"] = "127.0.0.1"
    assert ours == tested


@pytest.mark.parametrize("picker", ["chart", "demo"])
def test_the_standalone_envoy_sees_every_replica_of_the_picker(picker):
    """Followers are not Ready: a Service that lists Ready pods alone would make each take-over wait for kubelet."""
    services = [d for d in manifests.kustomize("gateways/standalone") if d["kind"] == "Service"]
    service = next(s["spec"] for s in services if s["metadata"]["name"] == "epp-pd-replicas")
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"] is True
    documents = manifests.chart() if picker == "chart" else manifests.kustomize("demo")
    deployment = next(d for d in documents if d["kind"] == "Deployment" and d["metadata"]["name"] == "epp-pd")
    template = deployment["spec"]["template"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    assert [(p["port"], ports[p["targetPort"]]) for p in service["ports"]] == [(9002, 9002)]


@pytest.mark.parametrize("path", sorted((DEPLOY / "envoy").glob("*.yaml")), ids=lambda path: path.stem)
def test_envoys_find_a_new_leader_within_the_time_of_a_lease(path):
    """A Lease is taken over within three seconds; Envoy must not add as much again."""
    config = yaml.safe_load(path.read_text())
    for cluster in config["static_resources"]["clusters"]:
        if cluster["name"] == "model_servers":
            continue
        (check,) = cluster["health_checks"]
        assert check["grpc_health_check"]["service_name"] == "envoy.service.ext_proc.v3.ExternalProcessor"
        assert check["interval"] == check["no_traffic_interval"] == check["timeout"] == "1s"
        assert check["unhealthy_interval"] == "0.5s"
        assert check["healthy_threshold"] == 1 and check["unhealthy_threshold"] <= 2
        assert cluster["common_lb_config"] == {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"}


def test_envoy_accepts_the_standalone_configuration(tmp_path):
    path = tmp_path / "envoy.yaml"
    path.write_text(yaml.safe_dump(standalone_envoy()))
    outcome = subprocess.run(
        [rig.envoy_path(), "--mode", "validate", "--disable-hot-restart", "-c", path], capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr


def shadow_service() -> tuple[str, str]:
    """Name and host of the Service that the overlay `shadow` makes, whose ext_proc port is 9002."""
    shadow = next(d for d in manifests.kustomize("kustomize/overlays/shadow") if d["kind"] == "Service")
    assert shadow["spec"]["ports"][0]["port"] == 9002
    name, namespace = shadow["metadata"]["name"], shadow["metadata"]["namespace"]
    return name, f"{name}.{namespace}.svc.cluster.local"


def assert_is_the_tested_filter(ours: dict, cluster_name: str) -> None:
    tested = yaml.safe_load((DEPLOY / "envoy/shadow.yaml").read_text())
    (theirs,) = (f for f in rig.http_filters(tested) if f["name"].endswith("/shadow"))
    ours = copy.deepcopy(ours)
    service = ours["typed_config"]["grpc_service"]
    assert service["envoy_grpc"] == {"cluster_name": cluster_name, "authority": shadow_service()[0]}
    service["envoy_grpc"] = theirs["typed_config"]["grpc_service"]["envoy_grpc"]
    assert ours == theirs


def test_the_shadow_filter_of_istio_is_the_tested_one():
    documents = manifests.kustomize("gateways/shadow-istio")
    (patch,) = next(d for d in documents if d["kind"] == "EnvoyFilter")["spec"]["configPatches"]
    _, host = shadow_service()
    assert_is_the_tested_filter(patch["patch"]["value"], f"outbound|9002||{host}")
    assert next(d for d in documents if d["kind"] == "DestinationRule")["spec"]["host"] == host


def test_the_shadow_filter_of_envoy_gateway_is_the_tested_one():
    (policy,) = manifests.kustomize("gateways/shadow-envoy-gateway")
    listener, cluster = policy["spec"]["jsonPatches"]
    gateway = next(d for d in manifests.kustomize("gateways/envoy-gateway") if d["kind"] == "Gateway")
    names = gateway["metadata"]["namespace"], gateway["metadata"]["name"], gateway["spec"]["listeners"][0]["name"]
    assert listener["name"] == "/".join(names)
    assert policy["spec"]["targetRef"] == {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": names[1]}
    made = cluster["operation"]["value"]
    assert_is_the_tested_filter(listener["operation"]["value"], made["name"])
    address = made["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": shadow_service()[1], "port_value": 9002}
    tested = rig.cluster(yaml.safe_load((DEPLOY / "envoy/full-duplex-tls.yaml").read_text()), "epp")
    assert made["transport_socket"] == tested["transport_socket"]


def test_the_shadow_callout_of_gke_observes_and_nothing_else():
    """What Google's schema of the CRD says in its rules, as far as it concerns this one."""
    extension, health = manifests.kustomize("gateways/shadow-gke")
    (chain,) = extension["spec"]["extensionChains"]
    (callout,) = chain["extensions"]
    name, host = shadow_service()
    assert callout["backendRef"] == {"group": "", "kind": "Service", "name": name, "port": 9002}
    assert callout["authority"] == host
    assert callout["observabilityMode"] and callout["failOpen"]
    # With observability mode bodies may only be streamed, and each streamed one must be among the events.
    assert {callout["requestBodySendMode"], callout["responseBodySendMode"]} == {"Streamed"}
    assert {"RequestBody", "ResponseBody"} <= set(callout["supportedEvents"]) and len(callout["supportedEvents"]) <= 6
    assert health["spec"]["targetRef"] == {"group": "", "kind": "Service", "name": name}
    gateway = next(d for d in manifests.kustomize("gateways/gke") if d["kind"] == "Gateway")
    assert extension["spec"]["targetRefs"][0]["name"] == gateway["metadata"]["name"]
    assert "regional" in gateway["spec"]["gatewayClassName"]


def unknown_fields(document: object, kind: str, path: str = "") -> list[str]:
    """Fields that the API of Kubernetes does not have, by the official client's models; it is generated from the API."""
    listed = re.fullmatch(r"[Ll]ist\[(.+)\]", kind)
    mapped = re.fullmatch(r"[Dd]ict[\[(]str, (.+)[\])]", kind)
    if listed:
        return [e for i, item in enumerate(document) for e in unknown_fields(item, listed[1], f"{path}[{i}]")]
    if mapped:
        return [e for key, item in document.items() for e in unknown_fields(item, mapped[1], f"{path}.{key}")]
    model = getattr(client.models, kind, None)
    if model is None or not isinstance(document, dict):
        expected = {"str": str, "int": int, "bool": bool}.get(kind)
        return [] if expected is None or isinstance(document, expected) else [f"{path} is no {kind}"]
    fields = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    found = [f"{path}.{name}" for name in document if name not in fields]
    for name, value in document.items():
        if name in fields:
            found += unknown_fields(value, fields[name], f"{path}.{name}")
    return found


BUILT_IN = {"v1": "V1", "apps/v1": "V1", "policy/v1": "V1", "networking.k8s.io/v1": "V1", "autoscaling/v2": "V2",
            "rbac.authorization.k8s.io/v1": "V1", "apiregistration.k8s.io/v1": "V1"}  # fmt: skip


def built_in_problems(document: dict) -> list[str]:
    version = BUILT_IN.get(document["apiVersion"])
    if version is None:
        # Custom resources have a group with a dot that is not Kubernetes' own.
        assert re.search(r"^[a-z0-9-]+(\.[a-z0-9-]+)+/", document["apiVersion"]), document["apiVersion"]
        return []
    kind = version + document["kind"]
    if kind == "V1Subject" or not hasattr(client.models, kind):
        return [f"{document['apiVersion']} has no {document['kind']}"]
    return unknown_fields(document, kind, document["kind"])


@pytest.mark.parametrize("path", manifests.plain_manifests(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_objects_of_kubernetes_have_no_field_that_it_does_not_know(path):
    for document in manifests.documents(path):
        if document["kind"] not in ("Kustomization", "Component"):
            assert built_in_problems(document) == []


def test_no_variant_of_the_chart_has_a_field_that_kubernetes_does_not_know():
    from test_chart import VARIANTS

    for name, changes in VARIANTS.items():
        for document in manifests.chart(changes):
            assert built_in_problems(document) == [], name


def test_an_unknown_field_would_be_found():
    deployment = next(d for d in manifests.chart() if d["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["readinesProbe"] = container["readinessProbe"]
    container["ports"][0]["containerPort"] = "9002"
    where = "Deployment.spec.template.spec.containers[0]"
    assert sorted(built_in_problems(deployment)) == [f"{where}.ports[0].containerPort is no int", f"{where}.readinesProbe"]


@pytest.mark.parametrize("folder", ["demo", "gateways/standalone"])
def test_pods_of_ours_are_locked_down(folder):
    for document in manifests.kustomize(folder):
        if document["kind"] != "Deployment":
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_demo_needs_no_custom_resource_and_no_gpu():
    for document in manifests.kustomize("demo"):
        assert "." not in document["apiVersion"].split("/")[0] or document["apiVersion"].startswith("rbac.")
        assert "nvidia.com/gpu" not in str(document)
        assert document["metadata"].get("namespace", document["metadata"]["name"]) == "epp-pd-demo"


def images() -> set[str]:
    return {
        image
        for path in manifests.plain_manifests()
        for image in re.findall(r"image: (\S+)", Path(path).read_text())
    }


def test_images_are_pinned():
    version = re.search(r'version = "([^"]+)"', (ROOT / "Sources/epp-pd/EPPPD.swift").read_text()).group(1)
    for image in images():
        name, _, tag = image.partition(":")
        assert tag and tag != "latest", image
        if name == "epp-pd":
            assert tag == version
    chart = yaml.safe_load((manifests.CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
