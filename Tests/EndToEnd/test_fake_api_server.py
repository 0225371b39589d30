# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Keeps the fake API server honest: the official Python client works against it, and its answers are those of the
transcripts of a real server."""

import json
import threading
import urllib.request

import pytest
from fake_api_server import CUSTOM, INFERENCE, FakeAPIServer
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from rig import ROOT, wait_until

PODS = ("", "v1", "pods")
POOLS = (INFERENCE, "v1", "inferencepools")
LEASES = ("coordination.k8s.io", "v1", "leases")
TRANSCRIPTS = ROOT / "Tests" / "Fixtures" / "Kubernetes"


def pod(name: str, **labels: str) -> dict:
    return {
        "metadata": {"name": name, "labels": {"app": "vllm"} | labels},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }


@pytest.fixture
def server():
    server = FakeAPIServer(token="secret")
    yield server
    server.stop()


@pytest.fixture
def api(server):
    configuration = client.Configuration(host=server.url)
    configuration.api_key = {"authorization": "Bearer secret"}
    with client.ApiClient(configuration) as api:
        yield api


def body_of(name: str) -> str:
    text = (TRANSCRIPTS / f"{name}.txt").read_text()
    return text.split("\n\n", 1)[1] if text.startswith("HTTP/") else text


def test_pages_and_selectors(server, api):
    for index in range(7):
        server.apply(PODS, pod(f"p{index}", parity=str(index % 2)))
    core = client.CoreV1Api(api)
    page = core.list_namespaced_pod("default", limit=3)
    names = [p.metadata.name for p in page.items]
    while page.metadata._continue:
        page = core.list_namespaced_pod("default", limit=3, _continue=page.metadata._continue)
        names += [p.metadata.name for p in page.items]
    assert names == [f"p{i}" for i in range(7)]
    odd = core.list_namespaced_pod("default", label_selector="app=vllm,parity in (1)").items
    assert [p.metadata.name for p in odd] == ["p1", "p3", "p5"]
    with pytest.raises(ApiException) as error:
        core.list_namespaced_pod("default", _continue="forgotten")
    assert error.value.status == 410


def test_watch_follows_changes_cut_anywhere(server, api):
    server.faults.cut = 1
    server.faults.bookmark_interval = 0.1
    core = client.CoreV1Api(api)
    version = core.list_namespaced_pod("default").metadata.resource_version
    seen, watcher = [], watch.Watch()

    def follow():
        stream = watcher.stream(
            core.list_namespaced_pod, "default", resource_version=version, timeout_seconds=10, label_selector="app=vllm"
        )
        for event in stream:
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                watcher.stop()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    wait_until(lambda: server.watches == 1, "the watch")
    server.apply(PODS, pod("a"))
    server.patch(PODS, "a", lambda p: p["metadata"]["labels"].update(role="decode"))
    # Leaving the selection is being deleted, as far as the watcher sees.
    server.patch(PODS, "a", lambda p: p["metadata"]["labels"].update(app="other"))
    thread.join(10)
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_a_version_of_the_past_is_gone(server, api):
    server.apply(PODS, pod("a"))
    server.forget_past()
    request = urllib.request.Request(
        f"{server.url}/api/v1/pods?watch=1&resourceVersion=1", headers={"Authorization": "Bearer secret"}
    )
    with urllib.request.urlopen(request) as answer:
        assert json.loads(answer.read()) == json.loads(body_of("watch_410"))
    with pytest.raises(ApiException) as error:
        core = client.CoreV1Api(api)
        for _ in watch.Watch().stream(core.list_namespaced_pod, "default", resource_version="1", timeout_seconds=1):
            pass
    assert error.value.status == 410


def test_leases_conflict_as_the_real_server_says(server, api):
    leases = client.CoordinationV1Api(api)
    lease = client.V1Lease(metadata=client.V1ObjectMeta(name="epp"), spec=client.V1LeaseSpec(holder_identity="x"))
    first = leases.create_namespaced_lease("default", lease)
    with pytest.raises(ApiException) as error:
        leases.create_namespaced_lease("default", lease)
    assert json.loads(error.value.body) == json.loads(body_of("lease_conflict"))
    first.spec.holder_identity = "y"
    leases.replace_namespaced_lease("epp", "default", first)
    first.spec.holder_identity = "z"
    with pytest.raises(ApiException) as error:
        leases.replace_namespaced_lease("epp", "default", first)
    assert json.loads(error.value.body) == json.loads(body_of("lease_put_z"))
    assert leases.read_namespaced_lease("epp", "default").spec.holder_identity == "y"


def test_pools_as_the_real_server_lists_them(server, api):
    real = json.loads(body_of("list_pools"))
    server.apply(POOLS, {"metadata": {"name": "p"}, "spec": real["items"][0]["spec"]})
    listed = client.CustomObjectsApi(api).list_namespaced_custom_object(INFERENCE, "v1", "default", "inferencepools")
    assert listed.keys() == real.keys()
    assert listed["kind"] == real["kind"] and listed["apiVersion"] == real["apiVersion"]
    assert listed["metadata"].keys() == real["metadata"].keys()
    assert listed["items"][0]["spec"] == real["items"][0]["spec"]
    assert listed["items"][0].keys() == real["items"][0].keys()


def test_what_is_not_installed_is_not_found(api):
    server = FakeAPIServer(crds=())
    configuration = client.Configuration(host=server.url)
    with client.ApiClient(configuration) as api, pytest.raises(ApiException) as error:
        client.CustomObjectsApi(api).list_namespaced_custom_object(INFERENCE, "v1", "default", "inferencepools")
    assert error.value.status == 404
    server.install(*CUSTOM)
    with client.ApiClient(configuration) as api:
        assert (
            client.CustomObjectsApi(api).list_namespaced_custom_object(INFERENCE, "v1", "default", "inferencepools")["items"]
            == []
        )
    server.stop()


def test_reviews(server, api):
    server.users["good"] = "system:serviceaccount:monitoring:prometheus"
    server.allowed.add(("system:serviceaccount:monitoring:prometheus", "/metrics", "get"))
    tokens = client.AuthenticationV1Api(api)
    for token, expected in (("good", True), ("bad", False)):
        review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token))
        assert bool(tokens.create_token_review(review).status.authenticated) == expected
    access = client.AuthorizationV1Api(api)
    for path, expected in (("/metrics", True), ("/debug/fleet", False)):
        spec = client.V1SubjectAccessReviewSpec(
            user="system:serviceaccount:monitoring:prometheus",
            non_resource_attributes=client.V1NonResourceAttributes(path=path, verb="get"),
        )
        review = client.V1SubjectAccessReview(spec=spec)
        assert access.create_subject_access_review(review).status.allowed == expected


def test_strangers_are_not_let_in(server):
    with client.ApiClient(client.Configuration(host=server.url)) as api, pytest.raises(ApiException) as error:
        client.CoreV1Api(api).list_namespaced_pod("default")
    assert error.value.status == 401
