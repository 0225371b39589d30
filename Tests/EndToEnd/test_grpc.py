# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""The picker's gRPC port, spoken to without Envoy: health, and peers that break the protocol. Whatever one connection or
stream does, requests on others go on (checked by the `gateway` fixture and at the end of each test)."""

import gzip
import socket

import h2.config
import h2.connection
import h2.events
import pytest
import wire
from rig import HOST

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
CHECK = "/grpc.health.v1.Health/Check"
SERVICE = b"envoy.service.ext_proc.v3.ExternalProcessor"


def frame(message: bytes, compressed=False) -> bytes:
    data = gzip.compress(message) if compressed else message
    return bytes([compressed]) + len(data).to_bytes(4, "big") + data


def field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2, len(data)]) + data


def call(port: int, path: str, data: bytes, headers: dict | None = None, method="POST", end=True) -> tuple[dict, bytes]:
    """One gRPC call: all headers and trailers together, and the data."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    fields = {
        ":method": method, ":scheme": "http", ":authority": "epp", ":path": path,
        "content-type": "application/grpc", "te": "trailers", **(headers or {}),
    }  # fmt: skip
    got, body = {}, b""
    with socket.create_connection((HOST, port), 5) as sock:
        connection.initiate_connection()
        connection.send_headers(1, list(fields.items()))
        connection.send_data(1, data, end_stream=end)
        sock.sendall(connection.data_to_send())
        while True:
            received = sock.recv(65536)
            if not received:
                return got | {"closed": "connection"}, body
            for event in connection.receive_data(received):
                if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                    got |= dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamReset):
                    return got | {"closed": f"reset {event.error_code}"}, body
                elif isinstance(event, h2.events.StreamEnded):
                    return got, body
            sock.sendall(connection.data_to_send())


def many_calls(port: int, paths: list[str]) -> dict[int, str]:
    """A call for each path, all open at once on one connection: their statuses by stream."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    statuses: dict[int, str] = {}
    with socket.create_connection((HOST, port), 10) as sock:
        connection.initiate_connection()
        for index, path in enumerate(paths):
            fields = {
                ":method": "POST", ":scheme": "http", ":authority": "epp", ":path": path,
                "content-type": "application/grpc", "te": "trailers",
            }  # fmt: skip
            connection.send_headers(2 * index + 1, list(fields.items()))
        sock.sendall(connection.data_to_send())
        for index in range(len(paths)):
            connection.send_data(2 * index + 1, frame(b""), end_stream=True)
        sock.sendall(connection.data_to_send())
        while len(statuses) < len(paths):
            received = sock.recv(65536)
            assert received, f"closed after {len(statuses)} answers"
            for event in connection.receive_data(received):
                if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                    status = dict(event.headers).get("grpc-status")
                    if status is not None:
                        statuses[event.stream_id] = status
            sock.sendall(connection.data_to_send())
    return statuses


def test_calls_that_nothing_handles_among_others(gateway):
    """What closes a stream must not need anybody to hold its call. Tells most with a release build and MALLOC_PERTURB_."""
    paths = [CHECK if index % 3 == 0 else "/no.such.Service/Method" for index in range(90)]
    for _ in range(5):
        statuses = many_calls(gateway.picker.port, paths)
        expected = {2 * index + 1: "0" if path == CHECK else "12" for index, path in enumerate(paths)}
        assert statuses == expected
    still_serves(gateway)


def still_serves(gateway):
    assert wire.post(gateway.port, wire.body())[0] == 200


@pytest.mark.parametrize("name", [b"", SERVICE, b"readiness", b"liveness"])
@pytest.mark.parametrize("compressed", [False, True])
def test_health_check(gateway, name, compressed):
    headers = {"grpc-encoding": "gzip"} if compressed else {}
    for port in (gateway.picker.port, gateway.picker.health_port):
        got, body = call(port, CHECK, frame(field(1, name) if name else b"", compressed), headers)
        assert got["grpc-status"] == "0"
        assert body == frame(b"\x08\x01")  # SERVING


def test_health_of_a_service_that_is_not_here(gateway):
    got, _ = call(gateway.picker.port, CHECK, frame(field(1, b"nobody")))
    assert got["grpc-status"] == "5"


def test_unknown_method_is_unimplemented(gateway):
    got, _ = call(gateway.picker.port, "/some.Service/Method", frame(b""))
    assert got["grpc-status"] == "12"
    still_serves(gateway)


@pytest.mark.parametrize(
    "data",
    [
        frame(b"\xff" * 50),
        frame(b"\x12\x7f"),  # request_headers, cut short
        b"\x00\xff\xff\xff\xff",  # a message of 4 GiB is announced
        b"\x07" + (5).to_bytes(4, "big") + b"hello",  # neither plain nor compressed
        frame(b"\x22\x00"),  # a request body before any headers
        b"\x01" + (5).to_bytes(4, "big") + b"nogzp",
    ],
    ids=["garbage", "cut short", "too large", "bad flag", "out of order", "bad gzip"],
)
def test_malformed_messages_end_their_stream_with_an_error(gateway, data):
    got, _ = call(gateway.picker.port, PROCESS, data, {"grpc-encoding": "gzip"})
    assert got.get("grpc-status", "none") not in ("0", "none") or "closed" in got
    still_serves(gateway)


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01" * 20, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100],
    ids=["http1", "tls", "bad frames"],
)
def test_what_is_no_http2_is_closed(gateway, data):
    with socket.create_connection((HOST, gateway.picker.port), 5) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(5)
        while sock.recv(65536):
            pass
    still_serves(gateway)


def test_connections_that_say_nothing_do_no_harm(gateway):
    idle = [socket.create_connection((HOST, gateway.picker.port), 5) for _ in range(50)]
    still_serves(gateway)
    for sock in idle:
        sock.close()
    still_serves(gateway)
