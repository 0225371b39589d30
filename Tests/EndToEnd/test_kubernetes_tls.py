# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""TLS to the API server: whom the picker trusts, how it proves who it is, and credentials that change under it."""

import os
import shutil
import subprocess

import pytest
import rig
from certificates import certificate
from pods import Cluster, ClusterPicker
from rig import wait_until

HOSTS = "IP:127.0.0.1,DNS:kubernetes.default.svc"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two authorities with a server each; of the first one also a server of another name, and two clients."""
    folder = tmp_path_factory.mktemp("keys")
    for ca in ("ca", "other-ca"):
        certificate(folder, ca, ca)
        certificate(folder, f"{ca}-server", "kube-apiserver", ca, HOSTS)
    certificate(folder, "named", "kube-apiserver", "ca", "DNS:kubernetes.default.svc")
    certificate(folder, "client", "epp-pd", "ca")
    certificate(folder, "renewed", "epp-pd", "ca")
    certificate(folder, "alien", "epp-pd", "other-ca")
    return folder


def pair(keys, name: str) -> tuple[str, str]:
    return str(keys / f"{name}.crt"), str(keys / f"{name}.key")


def replace(source, target) -> None:
    """As clusters do: the name changes from one whole file to the other."""
    fresh = f"{target}.new"
    shutil.copy(source, fresh)
    os.replace(fresh, target)


def secured(keys, server="ca-server", **more) -> Cluster:
    cluster = Cluster(certificate=pair(keys, server), **more)
    cluster.pool("decode")
    cluster.pod("a")
    return cluster


def fleet(cluster, folder) -> subprocess.CompletedProcess:
    flags = ["--pool-name=decode", f"--kubeconfig={cluster.kubeconfig(folder)}", "--timeout=3s"]
    return subprocess.run([rig.binary(), "fleet", *flags], capture_output=True, text=True, timeout=40)


def test_whom_the_picker_trusts(keys, tmp_path):
    cluster = secured(keys, token="secret")
    try:
        cases = [
            ({"certificate-authority": str(keys / "ca.crt")}, None),
            ({"certificate-authority": str(keys / "other-ca.crt")}, "TLS failed"),
            # The system's authorities know nothing of it.
            ({}, "TLS failed"),
            ({"certificate-authority": str(keys / "ca.crt"), "tls-server-name": "kubernetes.default.svc"}, None),
            ({"certificate-authority": str(keys / "ca.crt"), "tls-server-name": "elsewhere"}, "TLS failed"),
            ({"insecure-skip-tls-verify": True}, None),
            ({"certificate-authority": str(keys / "nothing.crt")}, "nothing.crt"),
        ]
        for fields, complaint in cases:
            cluster.server_fields = fields
            before = len(cluster.api.requests)
            done = fleet(cluster, tmp_path)
            if complaint is None:
                assert done.returncode == 0, (fields, done.stderr)
            else:
                assert done.returncode == 1 and complaint in done.stderr, (fields, done.stderr)
                # Whom one does not trust, one tells nothing.
                assert len(cluster.api.requests) == before, fields
    finally:
        cluster.stop()


def test_a_server_of_another_name(keys, tmp_path):
    cluster = secured(keys, "named", token="secret")
    try:
        cluster.server_fields = {"certificate-authority": str(keys / "ca.crt")}
        done = fleet(cluster, tmp_path)
        assert done.returncode == 1 and "TLS failed" in done.stderr
        cluster.server_fields["tls-server-name"] = "kubernetes.default.svc"
        assert fleet(cluster, tmp_path).returncode == 0
    finally:
        cluster.stop()


def test_client_certificates(keys, tmp_path):
    cluster = secured(keys, client_authority=str(keys / "ca.crt"))
    cluster.server_fields = {"certificate-authority": str(keys / "ca.crt")}
    try:
        for name, succeeds in (("client", True), ("alien", False), (None, False)):
            chain, key = pair(keys, name) if name else (None, None)
            cluster.user_fields = {"client-certificate": chain, "client-key": key} if name else {"token": "x"}
            done = fleet(cluster, tmp_path)
            assert (done.returncode == 0) == succeeds, (name, done.stderr)
        # A key that is another certificate's.
        cluster.user_fields = {"client-certificate": str(keys / "client.crt"), "client-key": str(keys / "renewed.key")}
        done = fleet(cluster, tmp_path)
        assert done.returncode == 1 and "TLS failed" in done.stderr, done.stderr
    finally:
        cluster.stop()


@pytest.fixture
def follow(tmp_path):
    running = []

    def begin(cluster):
        picker = ClusterPicker(tmp_path, cluster, "--pool-name=decode")
        running.append((picker, cluster))
        wait_until(lambda: picker.serving() == {"a"}, "the pod")
        return picker

    yield begin
    for picker, cluster in running:
        picker.process.kill()
        cluster.stop()


def notices(picker, cluster, name: str) -> None:
    """A pod that comes is seen, and nothing is complained of."""
    cluster.pod(name)
    wait_until(lambda: name in picker.serving(), f"{name} to be noticed", 60)
    wait_until(lambda: picker.readiness() == (200, "ok\n"), "readiness without trouble", 60)


def test_a_token_and_an_authority_that_are_renewed(keys, tmp_path, follow):
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first\n")
    shutil.copy(keys / "ca.crt", authority)
    cluster = secured(keys, token="first")
    cluster.server_fields = {"certificate-authority": str(authority)}
    cluster.user_fields = {"tokenFile": str(token)}
    picker = follow(cluster)
    # Before the server asks for the new token: nobody notices, and the old one is no longer sent.
    (tmp_path / "fresh").write_text("second\n")
    replace(tmp_path / "fresh", token)
    cluster.api.token = "second"
    cluster.api.reset_connections()
    notices(picker, cluster, "b")
    # The server is first: the picker says what is wrong, serves on, and finds the file when it comes.
    cluster.api.token = "third"
    cluster.api.reset_connections()
    told = wait_until(lambda: "401" in picker.readiness()[1] and picker.readiness(), "the refusal told", 30)
    assert told[0] == 200 and "what was known before still counts" in told[1]
    (tmp_path / "fresh").write_text("third\n")
    replace(tmp_path / "fresh", token)
    notices(picker, cluster, "c")
    # A file that is being written, badly.
    token.write_text("")
    cluster.api.reset_connections()
    wait_until(lambda: "it is empty" in picker.readiness()[1], "the empty file told", 30)
    token.write_text("third\n")
    notices(picker, cluster, "d")
    # The server's certificate is another authority's, which the file does not know yet.
    cluster.api.renew(pair(keys, "other-ca-server"))
    told = wait_until(lambda: "TLS failed" in picker.readiness()[1] and picker.readiness(), "the stranger told", 30)
    assert told[0] == 200
    assert picker.serving() == {"a", "b", "c", "d"}
    replace(keys / "other-ca.crt", authority)
    notices(picker, cluster, "e")
    # During a change of authorities, clusters name both.
    authority.write_text((keys / "ca.crt").read_text() + (keys / "other-ca.crt").read_text())
    cluster.api.renew(pair(keys, "ca-server"))
    notices(picker, cluster, "f")


def test_a_client_certificate_that_is_renewed(keys, tmp_path, follow):
    chain, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    shutil.copy(keys / "client.crt", chain)
    shutil.copy(keys / "client.key", key)
    cluster = secured(keys, client_authority=str(keys / "ca.crt"))
    cluster.server_fields = {"certificate-authority": str(keys / "ca.crt")}
    cluster.user_fields = {"client-certificate": str(chain), "client-key": str(key)}
    picker = follow(cluster)
    # The files change one after the other: for a moment they are no pair.
    replace(keys / "renewed.crt", chain)
    cluster.api.reset_connections()
    wait_until(lambda: "TLS failed" in picker.readiness()[1], "the trouble told", 30)
    replace(keys / "renewed.key", key)
    notices(picker, cluster, "b")
