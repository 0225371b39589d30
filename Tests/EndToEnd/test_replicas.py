# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Two replicas of the picker, of which a Lease makes one the leader, behind a real Envoy; and who may read metrics."""

import copy
import signal
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest
import rig
import wire
import yaml
from conftest import fleet_of
from fake_api_server import FakeAPIServer
from rig import HOST, Envoy, Picker
from upstream import Upstream

LEASES = ("coordination.k8s.io", "v1", "leases")
LEASE = "epp-default-test.epp-pd.io"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    server = FakeAPIServer()
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server.url}}],
        "users": [{"name": "test", "user": {"token": "picker"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
    }  # fmt: skip
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    yield server
    server.stop()


class Replicas:
    def __init__(self, folder, pods=2, later=0):
        """`later`: replicas that are to come; Envoy looks for them from the start."""
        self.folder = folder
        self.upstream = Upstream(pods)
        self.pickers = []
        self.later_ports = [rig.free_port() for _ in range(later)]
        for _ in range(2):
            self.add()

        def edit(config):
            rig.for_tests(config)
            epp = rig.cluster(config, "epp")
            hosts = epp["load_assignment"]["endpoints"][0]["lb_endpoints"]
            for port in [self.pickers[1].port, *self.later_ports]:
                hosts.append(copy.deepcopy(hosts[0]))
                hosts[-1]["endpoint"]["address"]["socket_address"]["port_value"] = port

        self.envoy = Envoy(folder, "full-duplex", self.pickers[0].port, self.upstream.ports, edit)

    def add(self, port: int | None = None) -> None:
        self.pickers.append(
            Picker(
                self.folder, fleet_of(self.upstream.ports), "--ha-enable-leader-election",
                f"--leader-election-name={LEASE}", "--drain-timeout=12s", name=f"picker-{len(self.pickers)}",
                wait_for="/healthz", port=port,
            )
        )  # fmt: skip

    def leaders(self) -> list[int]:
        found = []
        for index, picker in enumerate(self.pickers):
            try:
                if rig.http_get(picker.metrics_port, "/readyz", 1)[0] == 200:
                    found.append(index)
            except OSError:
                pass
        return found

    def wait_for_leader(self, timeout=5.0) -> int:
        return rig.wait_until(lambda: [i + 1 for i in self.leaders()], "a leader", timeout, every=0.02)[0] - 1

    def stop(self):
        self.envoy.stop()
        for picker in self.pickers:
            picker.process.kill()
        self.upstream.stop()


@pytest.fixture
def replicas(tmp_path, cluster):
    both = Replicas(tmp_path)
    yield both
    both.stop()


class Load:
    """Requests one after the other on some threads; when each began, how it ended."""

    def __init__(self, port, threads=8):
        self.answers: list[tuple[float, int]] = []
        self.port, self.going = port, True
        self.threads = [threading.Thread(target=self.drive) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def drive(self):
        while self.going:
            began = time.monotonic()
            try:
                status = wire.post(self.port, wire.body(), timeout=10)[0]
            except (OSError, ValueError):
                status = 0
            self.answers.append((began, status))
            time.sleep(0.002)

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join()


EXT_PROC = "envoy.service.ext_proc.v3.ExternalProcessor"


def health(port: int, service: str) -> int:
    """grpc.health.v1: 1 is SERVING, 2 NOT_SERVING."""
    name = service.encode()
    message = bytes([0x0A, len(name)]) + name if name else b""
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        answer = channel.unary_unary("/grpc.health.v1.Health/Check")(message, timeout=5)
    assert answer[0] == 0x08
    return answer[1]


def reaches(envoy) -> None:
    rig.wait_until(lambda: wire.post(envoy.port, wire.body())[0] == 200, "Envoy to find the leader", 10)


def test_one_leads_and_the_other_follows(replicas, cluster):
    leader = replicas.wait_for_leader()
    follower = replicas.pickers[1 - leader]
    assert rig.http_get(follower.metrics_port, "/readyz")[1].startswith("following")
    assert rig.http_get(follower.metrics_port, "/healthz")[0] == 200
    assert follower.metrics().sum("epp_pd_leader") == 0
    assert replicas.pickers[leader].metrics().sum("epp_pd_leader") == 1
    # As kubelet and gateways ask: on the health port, and on the ext_proc port.
    for port in (follower.health_port, follower.port):
        assert health(port, "liveness") == 1
        assert {health(port, name) for name in ("", "readiness", EXT_PROC)} == {2}
        assert health(replicas.pickers[leader].port, "readiness") == 1
    # It is warm: it knows the fleet.
    assert follower.metrics().sum("epp_pd_pool_endpoints") == 2
    reaches(replicas.envoy)
    # The API server may go: the leader serves on.
    cluster.token = "another"
    end = time.monotonic() + 4
    while time.monotonic() < end:
        assert replicas.leaders() == [leader]
        assert wire.post(replicas.envoy.port, wire.body())[0] == 200
        time.sleep(0.1)
    cluster.token = None


def test_a_leader_that_is_killed_under_load_is_replaced_within_three_seconds(replicas):
    leader = replicas.wait_for_leader()
    reaches(replicas.envoy)
    load = Load(replicas.envoy.port)
    time.sleep(2)
    killed = time.monotonic()
    replicas.pickers[leader].process.child.send_signal(signal.SIGKILL)
    other = 1 - leader
    rig.wait_until(lambda: replicas.leaders() == [other], "the other to lead", 5, every=0.02)
    taken = time.monotonic() - killed
    time.sleep(3)
    load.stop()
    before = [status for began, status in load.answers if began < killed - 0.1]
    failed = [(began, status) for began, status in load.answers if status != 200]
    last = max((began for began, _ in failed), default=killed) - killed
    print(f"taken over after {taken:.2f} s; {len(failed)} of {len(load.answers)} failed, the last after {last:.2f} s")
    assert set(before) == {200}
    assert taken <= 3
    # Envoy's next health check finds the new leader: it looks every half second.
    assert last <= taken + 1
    assert {status for _, status in failed} <= {0, 500, 503}


def test_a_leader_that_is_told_to_end_hands_over_at_once(replicas, cluster):
    leader = replicas.wait_for_leader()
    reaches(replicas.envoy)
    load = Load(replicas.envoy.port)
    time.sleep(1)
    told = time.monotonic()
    replicas.pickers[leader].process.child.send_signal(signal.SIGTERM)
    other = 1 - leader
    rig.wait_until(lambda: other in replicas.leaders(), "the other to lead", 5, every=0.02)
    taken = time.monotonic() - told
    time.sleep(2)
    load.stop()
    failed = [status for _, status in load.answers if status != 200]
    print(f"handed over after {taken:.2f} s; {len(failed)} of {len(load.answers)} failed")
    assert taken <= 1
    assert len(load.answers) > 200 and failed == []
    assert cluster.objects[LEASES][("default", LEASE)]["spec"]["leaseTransitions"] == 1


def test_a_roll_out_that_ends_all_replicas_at_once_fails_no_request(tmp_path, cluster):
    """As the chart's Deployment does it: both old pods are told to end together, and the new ones start after that."""
    replicas = Replicas(tmp_path, later=2)
    try:
        leader = replicas.wait_for_leader()
        reaches(replicas.envoy)
        load = Load(replicas.envoy.port)
        time.sleep(1)
        told = time.monotonic()
        for picker in replicas.pickers[:2]:
            picker.process.child.send_signal(signal.SIGTERM)
        # An image that is pulled, a process that starts: nobody else is there, so the old leader goes on.
        time.sleep(2)
        assert replicas.leaders() == [leader]
        assert cluster.objects[LEASES][("default", LEASE)]["spec"].get("holderIdentity") is None
        for port in replicas.later_ports:
            replicas.add(port)
        rig.wait_until(lambda: [i for i in replicas.leaders() if i >= 2], "a new replica to lead", 8, every=0.05)
        taken = time.monotonic() - told
        rig.wait_until(lambda: leader not in replicas.leaders(), "the old leader to leave", 4, every=0.05)
        time.sleep(2)
        load.stop()
        failed = [(began - told, status) for began, status in load.answers if status != 200]
        print(f"a new one leads after {taken:.2f} s; {len(failed)} of {len(load.answers)} failed")
        assert len(load.answers) > 200 and failed == []
        assert len(replicas.leaders()) == 1
        for picker in replicas.pickers[:2]:
            rig.wait_until(lambda: picker.process.child.poll() is not None, "the old replicas to end", 15)
    finally:
        replicas.stop()


def test_a_last_replica_ends_within_its_time(tmp_path, cluster):
    """Nobody takes over: half of the drain time is waited for that, and no more."""
    replicas = Replicas(tmp_path)
    try:
        leader = replicas.wait_for_leader()
        replicas.pickers[1 - leader].process.kill()
        told = time.monotonic()
        replicas.pickers[leader].process.child.send_signal(signal.SIGTERM)
        rig.wait_until(lambda: replicas.leaders() == [], "the last one to leave", 10, every=0.05)
        assert 5 < time.monotonic() - told < 8
        rig.wait_until(lambda: replicas.pickers[leader].process.child.poll() is not None, "its end", 15)
        assert time.monotonic() - told < 14
        assert "no other replica has taken the lease" in replicas.pickers[leader].process.log.read_text()
    finally:
        replicas.stop()


def test_a_leader_that_hangs_is_replaced_and_nothing_waits_for_ever(replicas):
    """As when its node dies: connections stay open, and nothing answers on them."""
    leader = replicas.wait_for_leader()
    reaches(replicas.envoy)
    load = Load(replicas.envoy.port)
    time.sleep(1)
    child = replicas.pickers[leader].process.child
    stopped = time.monotonic()
    child.send_signal(signal.SIGSTOP)
    other = replicas.pickers[1 - leader]
    rig.wait_until(lambda: rig.http_get(other.metrics_port, "/readyz", 1)[0] == 200, "the other to lead", 5, every=0.02)
    taken = time.monotonic() - stopped
    # Envoy's ping of five seconds, and three until it gives the connection up.
    time.sleep(11)
    done = time.monotonic()
    load.stop()
    assert time.monotonic() - done < 2, "requests still waited for the picker that hangs"
    failed = [(began, status) for began, status in load.answers if status != 200]
    last = max((began for began, _ in failed), default=stopped) - stopped
    print(f"taken over after {taken:.2f} s; {len(failed)} of {len(load.answers)} failed, the last of them sent after {last:.2f} s")
    assert taken <= 3
    assert last <= taken + 1
    child.send_signal(signal.SIGCONT)
    rig.wait_until(lambda: replicas.leaders() == [1 - leader], "the old leader to follow", 5)


def get(port: int, token: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"http://{HOST}:{port}/metrics")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_are_for_those_whom_the_cluster_allows(tmp_path, cluster):
    cluster.users = {"good": "system:serviceaccount:monitoring:prometheus", "weak": "system:serviceaccount:x:y"}
    cluster.allowed = {("system:serviceaccount:monitoring:prometheus", "/metrics", "get")}
    upstream = Upstream(1)
    picker = Picker(tmp_path, fleet_of(upstream.ports), "--metrics-endpoint-auth")
    try:
        status, why = get(picker.metrics_port)
        assert status == 401 and "bearer" in why
        assert get(picker.metrics_port, "unknown")[0] == 401
        status, why = get(picker.metrics_port, "weak")
        assert status == 403 and "system:serviceaccount:x:y" in why
        status, page = get(picker.metrics_port, "good")
        assert status == 200 and "epp_pd_ready 1" in page
        # Probes need no token.
        assert rig.http_get(picker.metrics_port, "/readyz")[0] == 200
        # What was said is remembered, and what cannot be asked is no permission.
        asked = len(cluster.requests)
        cluster.token = "another"
        assert get(picker.metrics_port, "good")[0] == 200
        assert len(cluster.requests) == asked
        status, why = get(picker.metrics_port, "new")
        assert status == 503 and "API server" in why
    finally:
        picker.process.kill()
        upstream.stop()
