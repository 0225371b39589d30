# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""A cluster on one machine: pods on loopback addresses of their own, a fake API server that knows them, and the picker
that follows it."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from pathlib import Path

import httpx
import rig
import yaml
from fake_api_server import INFERENCE, FakeAPIServer
from upstream import MODEL, Upstream

PODS = ("", "v1", "pods")
NODES = ("", "v1", "nodes")
POOLS = (INFERENCE, "v1", "inferencepools")


class PodServers(Upstream):
    """Model servers at 127.77.x.y, all on one port, as the pods of a pool are."""

    def __init__(self, models: list[str] | None = None):
        super().__init__(0, models)
        self.port = rig.free_port()
        self.net = f"127.77.{random.randrange(1, 250)}"

    def address(self, number: int) -> str:
        return f"{self.net}.{number}"

    def open(self, address: str) -> None:
        self.connections.setdefault(address, set())

        async def start():
            self.servers[address] = await asyncio.start_server(
                lambda r, w: self._serve(address, r, w), address, self.port
            )

        asyncio.run_coroutine_threadsafe(start(), self.loop).result(10)


class Cluster:
    """Pods are objects of the fake API server and, unless said otherwise, servers that answer."""

    def __init__(self, models: list[str] | None = None, **api):
        self.api = FakeAPIServer(**api)
        # What kubeconfigs say of the server and of the user.
        self.server_fields: dict = {}
        self.user_fields: dict = {}
        self.servers = PodServers(models)
        self.numbers: dict[str, int] = {}
        self.api.apply(
            NODES,
            {
                "metadata": {
                    "name": "gpu-1",
                    "labels": {
                        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
                        "topology.kubernetes.io/zone": "a",
                        "kubernetes.io/hostname": "gpu-1",
                    },
                }
            },
        )

    def stop(self) -> None:
        self.api.stop()
        self.servers.stop()

    def pool(self, name: str, *ports: int, **labels: str) -> None:
        spec = {
            "selector": {"matchLabels": labels or {"app": name}},
            "targetPorts": [{"number": p} for p in ports or (self.servers.port,)],
        }
        self.api.apply(POOLS, {"metadata": {"name": name}, "spec": spec})

    def address(self, name: str) -> str:
        return self.servers.address(self.numbers[name])

    def pod(self, name: str, role: str | None = None, ready=True, args=(), annotations=None, node="gpu-1", opens=True, **labels) -> str:
        """Adds a pod, and its server unless that is somebody else's (`opens`)."""
        number = self.numbers.setdefault(name, len(self.numbers) + 1)
        address = self.servers.address(number)
        if opens and address not in self.servers.servers:
            self.servers.open(address)
        all_labels = {"app": "decode"} | labels
        if role:
            all_labels["llm-d.ai/role"] = role
        self.api.apply(
            PODS,
            {
                "metadata": {"name": name, "labels": all_labels, "annotations": annotations or {}},
                "spec": {
                    "nodeName": node,
                    "containers": [
                        {
                            "name": "server",
                            "image": "vllm",
                            "command": ["vllm", "serve"],
                            "args": list(args) or ["meta-llama/Llama-3.1-8B-Instruct", f"--served-model-name={MODEL}"],
                            "resources": {"limits": {"nvidia.com/gpu": "1"}},
                        }
                    ],
                },
                "status": {
                    "phase": "Running",
                    "podIP": address,
                    "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
                },
            },
        )
        return address

    def set_ready(self, name: str, ready: bool) -> None:
        def change(pod):
            pod["status"]["conditions"][0]["status"] = "True" if ready else "False"

        self.api.patch(PODS, name, change)

    def relabel(self, name: str, **labels: str | None) -> None:
        def change(pod):
            for key, value in labels.items():
                key = "llm-d.ai/role" if key == "role" else key
                if value is None:
                    pod["metadata"]["labels"].pop(key, None)
                else:
                    pod["metadata"]["labels"][key] = value

        self.api.patch(PODS, name, change)

    def terminate(self, name: str) -> None:
        self.api.patch(PODS, name, lambda p: p["metadata"].update(deletionTimestamp="2026-11-21T00:00:00Z"))

    def kubeconfig(self, folder: Path, token: str = "secret") -> Path:
        server = {"server": self.api.url} | self.server_fields
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "fake", "user": "me", "namespace": "default"}}],
            "clusters": [{"name": "fake", "cluster": server}],
            "users": [{"name": "me", "user": self.user_fields or {"token": token}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path


class ClusterPicker:
    """`epp-pd serve` that follows a cluster."""

    def __init__(self, folder: Path, cluster: Cluster, *flags: str, wait=True, name="picker", guarded=False):
        self.port, self.health_port, self.metrics_port = rig.free_port(), rig.free_port(), rig.free_port()
        self.process = rig.Process(
            name,
            [
                rig.binary(), "serve", "--kubeconfig", cluster.kubeconfig(folder),
                "--grpc-port", self.port, "--grpc-health-port", self.health_port,
                "--metrics-port", self.metrics_port, "--secure-serving=false", "--kubernetes-watch-timeout=4s",
                *([] if guarded else ["--metrics-endpoint-auth=false"]), *flags,
            ],
            folder,
        )  # fmt: skip
        if wait:
            self.process.ready(lambda: rig.http_get(self.metrics_port, "/readyz")[0] == 200)

    def readiness(self) -> tuple[int, str]:
        return rig.http_get(self.metrics_port, "/readyz")

    def metrics(self) -> rig.MetricsPage:
        return rig.MetricsPage(rig.http_get(self.metrics_port, "/metrics")[1])

    def fleet(self) -> dict:
        import json

        return json.loads(rig.http_get(self.metrics_port, "/debug/fleet")[1])

    def endpoints(self) -> dict[str, dict]:
        return {e["endpoint"]["name"]: e for e in self.fleet()["endpoints"]}

    def serving(self) -> set[str]:
        return {name for name, e in self.endpoints().items() if e.get("unavailable") is None}

    def pods(self) -> dict[str, dict]:
        return {p["name"]: p for p in self.fleet()["pods"]}

    def troubles(self, what: str) -> list[str]:
        """What was logged of one thing's trouble."""
        return [line for line in self.log().splitlines() if "trouble with the cluster" in line and f"what={what}" in line]

    def log(self) -> str:
        return self.process.log.read_text(errors="replace")


class Load:
    """Requests from a few clients, all the time, each with its time and result."""

    def __init__(self, port: int, clients: int = 4, answer: str = "kind=json&delay=0.02"):
        self.results: list[tuple[float, int, str]] = []
        self.going = True
        self.url = f"http://{rig.HOST}:{port}/v1/chat/completions"
        self.answer = answer
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, number: int) -> None:
        with httpx.Client(timeout=20) as client:
            turn = 0
            while self.going:
                turn += 1
                body = {"model": MODEL, "messages": [{"role": "user", "content": f"client {number} turn {turn}"}]}
                started = time.monotonic()
                try:
                    answer = client.post(self.url, json=body, headers={"x-answer": self.answer})
                    self.results.append((started, answer.status_code, answer.text[:200]))
                except httpx.HTTPError as error:
                    self.results.append((started, 0, repr(error)))

    def stop(self) -> None:
        self.going = False
        for thread in self.threads:
            thread.join(30)

    def failures(self) -> list:
        return [r for r in self.results if r[1] != 200]
