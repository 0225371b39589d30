# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Desired replicas on their three ways to an HPA, and pickers that see different halves of the traffic."""

import json
import shutil
import ssl
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import rig
import wire
import yaml
from certificates import certificate
from rig import HOST, Envoy, Picker

MODEL = "llama-3.1-8b"
# Ten seconds of the servers' time are one of the test's.
SCALE = 10
DESIRED = "epp_pd_autoscaling_desired_replicas"
SCALER = "/externalscaler.ExternalScaler/"


class Servers:
    """Prefill and decode pods, played by `epp-pd mock-server`."""

    def __init__(self, folder, prefill=2, decode=2, scale=SCALE, tpot="50ms"):
        self.scale = scale
        first = rig.free_ports(prefill + decode)
        common = {"model": MODEL, "address": HOST, "accelerator": "l40s"}
        self.fleet = {
            "endpoints": [
                common | {"name": "prefill", "role": "prefill", "port": first, "count": prefill},
                common | {"name": "decode", "role": "decode", "port": first + prefill, "count": decode},
            ]
        }
        path = folder / "servers.yaml"
        path.write_text(yaml.safe_dump(self.fleet))
        self.config = folder / "levels.yaml"
        self.config.write_text(yaml.safe_dump({"serviceLevels": {"default": {"ttft": "2s", "tpot": tpot}}}))
        self.process = rig.Process(
            "servers", [rig.binary(), "mock-server", "--fleet", path, "--time-scale", scale], folder
        )
        last = first + prefill + decode - 1
        self.process.ready(lambda: rig.http_get(last, "/health")[0] == 200)

    def picker(self, folder, *flags, name="picker"):
        return Picker(
            folder, self.fleet, f"--time-scale={self.scale}", "--config", self.config,
            "--autoscaling-scale-down-window=60s", *flags, name=name,
        )  # fmt: skip


def desired(picker) -> dict[str, float]:
    page = picker.metrics()
    return {labels["role"]: value for name, labels, value in page.samples if name == DESIRED}


def ask(port: int, words: int, tokens: int) -> int:
    body = json.dumps(
        {"model": MODEL, "messages": [{"role": "user", "content": "word " * words}], "max_tokens": tokens}
    ).encode()
    return wire.post(port, body, timeout=60)[0]


def apart(seen: list, index: int, role: str, skew: int = 8) -> float:
    """How far the first picker is from what the second said at about that time: the two look at the fleet at moments of
    their own, a change reaches one of them up to two seconds (eight samples) before the other."""
    near = seen[max(index - skew, 0) : index + skew + 1]
    return min(abs(seen[index][0][role] - second[role]) for _, second in near)


def test_pickers_that_see_different_halves_differ_by_one_at_most(tmp_path):
    # Time runs slowly enough, and the bound is tight enough, that eight clients need more pods than there are.
    servers = Servers(tmp_path, scale=4, tpot="28ms")
    pickers = [servers.picker(tmp_path, name=f"picker-{i}") for i in range(2)]
    envoys = [Envoy(tmp_path, "full-duplex", p.port, name=f"envoy-{i}") for i, p in enumerate(pickers)]
    seen = []
    try:
        # A minute of the servers' time: the younger picker's window is as long as the other's. Where it is shorter it sees
        # a higher rate as soon as load begins, and is right.
        time.sleep(60 / servers.scale + 1)
        # Long prompts all go to one picker, long answers all to the other.
        kinds = [(envoys[0].port, 9000, 8), (envoys[1].port, 50, 120)]
        end = time.monotonic() + 20

        def drive(index):
            port, words, tokens = kinds[index % 2]
            statuses = set()
            while time.monotonic() < end:
                statuses.add(ask(port, words, tokens))
            return statuses

        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(drive, i) for i in range(8)]
            while time.monotonic() < end:
                time.sleep(0.25)
                first, second = (desired(p) for p in pickers)
                seen.append((first, second))
            assert set().union(*(f.result() for f in running)) == {200}
        assert len(seen) > 20
        worst = max(apart(seen, index, role) for index in range(len(seen)) for role in seen[0][0])
        assert worst <= 1, seen
        # Where all ask for one pod they would agree whatever they counted.
        assert max(first["decode"] for first, _ in seen) >= 3
        print(f"desired at the end: {seen[-1]}, worst difference {worst}")
    finally:
        for envoy in envoys:
            envoy.stop()
        for picker in pickers:
            picker.process.kill()
        servers.process.kill()


def field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


def scaled_object(**metadata: str) -> bytes:
    entries = b"".join(field(3, field(1, k.encode()) + field(2, v.encode())) for k, v in metadata.items())
    return field(1, b"prefill") + field(2, b"default") + entries


def test_keda_asks_over_grpc(tmp_path):
    servers = Servers(tmp_path)
    picker = servers.picker(tmp_path, "--external-scaler")
    channel = grpc.insecure_channel(f"{HOST}:{picker.port}")
    try:
        where = {"pool": "default", "role": "prefill"}
        rig.wait_until(lambda: desired(picker), "the first report")

        def call(method, message):
            return channel.unary_unary(SCALER + method)(message, timeout=5)

        spec = call("GetMetricSpec", scaled_object(**where, targetValue="1"))
        name = DESIRED.encode()
        assert spec == field(1, field(1, name) + b"\x10\x01\x19" + struct.pack("<d", 1))
        value = call("GetMetrics", field(1, scaled_object(**where)) + field(2, b"s0-x"))
        wanted = desired(picker)["prefill"]
        assert value == field(1, field(1, b"s0-x") + bytes([0x10, int(wanted), 0x19]) + struct.pack("<d", wanted))
        assert call("IsActive", scaled_object(**where)) == b"\x08\x01"
        assert call("IsActive", scaled_object(pool="elsewhere")) == b""
        with pytest.raises(grpc.RpcError) as refused:
            call("IsActive", scaled_object(role="chef"))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        stream = channel.unary_stream(SCALER + "StreamIsActive")(scaled_object(**where), timeout=10)
        assert next(stream) == b"\x08\x01"
        stream.cancel()
    finally:
        channel.close()
        picker.process.kill()
        servers.process.kill()


@pytest.fixture(scope="module")
def proxies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxies")
    certificate(folder, "ca", "front-proxy-ca")
    certificate(folder, "proxy", "front-proxy-client", "ca")
    certificate(folder, "other", "somebody", "ca")
    certificate(folder, "alien", "front-proxy-client")
    return folder


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_external_metrics_api(tmp_path, proxies):
    servers = Servers(tmp_path)
    port = rig.free_port()
    picker = servers.picker(
        tmp_path, f"--external-metrics-port={port}", f"--external-metrics-client-ca-file={proxies / 'ca.crt'}"
    )
    try:
        rig.wait_until(lambda: desired(picker), "the first report")

        def curl(path, who="proxy", *more):
            identity = ["--cert", proxies / f"{who}.crt", "--key", proxies / f"{who}.key"] if who else []
            done = subprocess.run(
                ["curl", "-sk", "-w", "\n%{http_code} %{http_version}", "--max-time", "5", *identity, *more,
                 f"https://{HOST}:{port}{path}"],
                capture_output=True, text=True,
            )  # fmt: skip
            body, _, last = done.stdout.rpartition("\n")
            return done.returncode, last, json.loads(body) if body else None

        root = "/apis/external.metrics.k8s.io/v1beta1"
        code, status, resources = curl(root)
        assert (code, status) == (0, "200 2")
        assert DESIRED in [r["name"] for r in resources["resources"]]
        selector = "?labelSelector=pool%3Ddefault%2Crole%3Dprefill"
        code, status, values = curl(f"{root}/namespaces/default/{DESIRED}{selector}")
        assert (code, status) == (0, "200 2")
        (item,) = values["items"]
        assert item["metricLabels"]["role"] == "prefill"
        assert float(item["value"]) == desired(picker)["prefill"]
        assert curl(f"{root}/namespaces/default/cpu")[1] == "404 2"
        # Refused by its status, or, while curl is still sending, by the reset that follows.
        assert curl("/apis", "proxy", "-X", "POST", "-d", "x")[1] in ("415 2", "000 0")
        # Without a certificate, with one of another authority, with another name: no answer at all.
        for who in (None, "alien", "other"):
            code, status, _ = curl(root, who)
            assert code != 0 and status.startswith("000"), who
        # TLS only.
        assert subprocess.run(["curl", "-s", "--max-time", "5", f"http://{HOST}:{port}/apis"]).returncode != 0
        # The aggregation layer asks over one connection for many things.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(proxies / "proxy.crt", proxies / "proxy.key")
        import httpx

        with httpx.Client(http2=True, verify=context, base_url=f"https://{HOST}:{port}") as client:
            for _ in range(50):
                answer = client.get(f"{root}/namespaces/default/{DESIRED}")
                assert answer.http_version == "HTTP/2" and len(answer.json()["items"]) == 2
    finally:
        picker.process.kill()
        servers.process.kill()


def test_requests_wait_for_a_first_pod(tmp_path):
    servers = Servers(tmp_path)
    picker = Picker(tmp_path, {"endpoints": []}, f"--time-scale={SCALE}", "--no-endpoint-wait=150s", "--external-scaler")
    envoy = Envoy(tmp_path, "full-duplex", picker.port)
    channel = grpc.insecure_channel(f"{HOST}:{picker.port}")
    try:
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(ask, envoy.port, 10, 4) for _ in range(4)]

            def is_active():
                where = scaled_object(pool="default", role="decode")
                return channel.unary_unary(SCALER + "IsActive")(where, timeout=5) == b"\x08\x01"

            rig.wait_until(is_active, "the scaler to ask for a pod")
            assert not any(f.done() for f in waiting)
            picker.write_fleet(servers.fleet)
            assert [f.result() for f in waiting] == [200] * 4
        picker.write_fleet({"endpoints": []})
        rig.wait_until(lambda: picker.metrics().sum("epp_pd_pool_endpoints") == 0, "the fleet to be gone")
        began = time.monotonic()
        assert ask(envoy.port, 10, 4) == 503
        assert 13 < time.monotonic() - began < 25
        picker.wait_idle()
    finally:
        channel.close()
        envoy.stop()
        picker.process.kill()
        servers.process.kill()
