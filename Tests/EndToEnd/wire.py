# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Clients that decide every byte: HTTP/1.1 over a bare socket, HTTP/2 by the sans-IO library h2."""

from __future__ import annotations

import http.client
import json
import select
import socket

import h2.config
import h2.connection
import h2.events

from rig import HOST
from upstream import MODEL


def chat(text: str = "hello", **fields) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}


def body(text: str = "hello", **fields) -> bytes:
    return json.dumps(chat(text, **fields)).encode()


class Raw:
    """One HTTP/1.1 connection."""

    def __init__(self, port: int, timeout: float = 15):
        self.socket = socket.create_connection((HOST, port), timeout)

    def head(self, method: str, path: str, headers: dict[str, str]) -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: test"] + [f"{k}: {v}" for k, v in headers.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def upload(self, data: bytes) -> None:
        """Sends until all is sent or an answer begins: who refuses a body early may reset what still comes (RFC 9112, 9.3)."""
        rest = memoryview(data)
        while rest:
            answered, writable, _ = select.select([self.socket], [self.socket], [], self.socket.gettimeout())
            if answered:
                return
            if not writable:
                raise TimeoutError(f"{len(rest)} bytes of the body were not taken")
            rest = rest[self.socket.send(rest[:65536]) :]

    def chunk(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self, method: str = "POST") -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(self.socket, method=method)
        response.begin()
        return response

    def close(self) -> None:
        self.socket.close()


def post(port: int, data: bytes, headers: dict[str, str] | None = None, path="/v1/chat/completions", timeout=15):
    """One POST on a connection of its own: (status, headers, body)."""
    raw = Raw(port, timeout)
    try:
        raw.head(
            "POST", path, {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
        )
        raw.upload(data)
        answer = raw.answer()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        raw.close()


def get(port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None):
    raw = Raw(port)
    try:
        raw.head(method, path, headers or {})
        answer = raw.answer(method)
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        raw.close()


def post_http2(port: int, parts: list[bytes], headers: dict | None = None, trailers: dict | None = None, timeout=15):
    """One POST over HTTP/2 with prior knowledge. END_STREAM comes with the last part, or with the trailers."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    with socket.create_connection((HOST, port), timeout) as sock:
        connection.initiate_connection()
        fields = {
            ":method": "POST", ":scheme": "http", ":authority": "test", ":path": "/v1/chat/completions",
            "content-type": "application/json", **(headers or {}),
        }  # fmt: skip
        connection.send_headers(1, list(fields.items()))
        for index, part in enumerate(parts):
            connection.send_data(1, part, end_stream=not trailers and index == len(parts) - 1)
        if trailers:
            connection.send_headers(1, list(trailers.items()), end_stream=True)
        sock.sendall(connection.data_to_send())
        status, got, data = 0, {}, b""
        while True:
            received = sock.recv(65536)
            if not received:
                raise ConnectionError("closed before the end of the answer")
            for event in connection.receive_data(received):
                if isinstance(event, h2.events.ResponseReceived):
                    got = dict(event.headers)
                    status = int(got[":status"])
                elif isinstance(event, h2.events.DataReceived):
                    data += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, h2.events.StreamReset):
                    raise ConnectionError(f"reset {event.error_code}")
                elif isinstance(event, h2.events.StreamEnded):
                    return status, got, data
            sock.sendall(connection.data_to_send())
