# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Many requests: none fails, memory stays flat, the ledger returns to zero."""

import re
import shutil
import subprocess

import pytest
import rig
import wire
import yaml
from conftest import Gateway
from rig import HOST, Envoy, Picker

h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="needs h2load (nghttp2-client)")


def load(
    folder, port: int, requests: int, clients: int, body: bytes, streams: int = 1, headers: tuple[str, ...] = ()
) -> dict[str, int]:
    """Runs h2load, with so many streams at a time per client, and gives its counts of answers by class."""
    data = folder / "body.json"
    data.write_bytes(body)
    outcome = subprocess.run(
        [
            "h2load", "-n", str(requests), "-c", str(clients), "-m", str(streams), "-t", "1", "-d", str(data),
            "-H", "content-type: application/json", *(word for h in headers for word in ("-H", h)), f"http://{HOST}:{port}/v1/chat/completions",
        ],
        capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", outcome.stdout)
    done = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored", outcome.stdout)
    assert codes and done, outcome.stdout + outcome.stderr
    return {"2xx": int(codes[1]), "5xx": int(codes[4]), "failed": int(done[2]), "errored": int(done[3])}


@h2load
def test_5000_exchanges_over_one_connection_each_ended_by_a_reset(tmp_path):
    """Envoy ends every exchange with RST_STREAM; Debian's nghttp2 would send GOAWAY after a burst of 1,000 of them."""
    gateway = Gateway(tmp_path)
    try:
        outcome = load(tmp_path, gateway.port, 5000, 16, wire.body())
        assert outcome == {"2xx": 5000, "5xx": 0, "failed": 0, "errored": 0}
        gateway.assert_clean()
        # One Envoy worker: the connection to the picker, and the one of its health check.
        assert gateway.envoy.stats("cluster.epp.upstream_cx_total")["upstream_cx_total"] <= 2
        assert gateway.envoy.stats("cluster.epp.upstream_rq_tx_reset")["upstream_rq_tx_reset"] >= 5000
    finally:
        gateway.stop()


@h2load
def test_more_streams_at_once_than_one_connection_takes(tmp_path):
    """1,024 per connection, ours and Envoy's default: Envoy opens another, and no request waits or fails."""
    gateway = Gateway(tmp_path)
    try:
        outcome = load(
            tmp_path, gateway.port, 1500, 15, wire.body(), streams=100, headers=("x-answer: delay=4",)
        )
        assert outcome == {"2xx": 1500, "5xx": 0, "failed": 0, "errored": 0}
        gateway.assert_clean()
        # With the one of the health check.
        assert gateway.envoy.stats("cluster.epp.upstream_cx_total")["upstream_cx_total"] in (2, 3)
        assert gateway.envoy.stats("cluster.epp.upstream_rq_pending_overflow")["upstream_rq_pending_overflow"] == 0
    finally:
        gateway.stop()


def streamed(folder, requests: int, concurrency: int, scale: int) -> list[int]:
    """Streams through Envoy to mock pods, in ten parts.

    Returns: the picker's resident KiB after each part."""
    first = rig.free_ports(4)
    common = {"model": "llama-3.1-8b", "address": HOST}
    fleet = {
        "endpoints": [
            common | {"name": "prefill", "role": "prefill", "accelerator": "h100-sxm", "port": first},
            common | {"name": "decode", "role": "decode", "accelerator": "h200-sxm", "port": first + 1, "count": 2},
            common | {"name": "both", "role": "both", "accelerator": "a100-sxm", "port": first + 3},
        ]
    }
    path = folder / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet))
    mock = rig.Process("mock", [rig.binary(), "mock-server", "--fleet", path, "--time-scale", scale], folder)
    mock.ready(lambda: rig.http_get(first + 3, "/health")[0] == 200)
    picker = Picker(folder, fleet, f"--time-scale={scale}")
    envoy = Envoy(folder, "full-duplex", picker.port)
    try:
        sizes = []
        for part in range(10):
            body = wire.body(f"part {part} " + "words " * (20 if part % 2 else 2000), stream=True, max_tokens=16)
            outcome = load(
                folder, envoy.port, requests // 10, concurrency, body.replace(b"test-model", b"llama-3.1-8b")
            )
            assert outcome == {"2xx": requests // 10, "5xx": 0, "failed": 0, "errored": 0}
            picker.wait_idle()
            sizes.append(picker.process.rss_kib())
        return sizes
    finally:
        envoy.stop()
        picker.process.kill()
        mock.stop()


def assert_flat(sizes: list[int]) -> None:
    """After two parts of warm-up the picker does not grow by more than a twentieth and 4 MiB."""
    assert max(sizes[2:]) <= sizes[1] * 1.05 + 4096, sizes


@h2load
def test_1000_streams(tmp_path):
    assert_flat(streamed(tmp_path, 1000, 32, scale=20))


@h2load
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_10000_streams_at_concurrency_64(tmp_path):
    sizes = streamed(tmp_path, 10_000, 64, scale=20)
    print(f"resident KiB after each 1,000: {sizes}")
    assert_flat(sizes)
