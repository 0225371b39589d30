# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""A model server that answers as each request tells it to, for what a well-behaved one never does.

The request header `x-answer` is a query string: `kind=json&size=200`, `kind=sse&count=5&gap=0.05`, `status=500`,
`kind=empty`, `kind=close` (the connection closes without an answer), `kind=cut&count=3` (closes in mid-stream),
`delay=0.3` (before the head), `kind=hang`. With `early=1` it answers before it reads the body. Each request that came through
Envoy is recorded byte for byte.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from rig import HOST, free_port

MODEL = "test-model"
USAGE = {
    "prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, "prompt_tokens_details": {"cached_tokens": 0}
}  # fmt: skip
METRICS = (
    'vllm:num_requests_running{engine="0",model_name="test-model"} 0.0\n'
    'vllm:num_requests_waiting{engine="0",model_name="test-model"} 0.0\n'
    'vllm:kv_cache_usage_perc{engine="0",model_name="test-model"} 0.0\n'
)


@dataclass
class Received:
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    port: int = 0
    left_early: bool = False
    unread: int = 0
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        values = [v for n, v in self.headers if n == name]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


class Upstream:
    """Listens on `ports` from a thread of its own."""

    def __init__(self, count: int = 1, models: list[str] | None = None, host: str = HOST):
        self.host = host
        self.ports = [free_port() for _ in range(count)]
        self.models = models or [MODEL]
        # Names of LoRA adapters, and lines that a pod's metrics page has besides.
        self.adapters: list[str] = []
        self.more_metrics: dict[int, str] = {}
        self.received: list[Received] = []
        self.servers: dict[int, asyncio.Server] = {}
        self.connections: dict[int, set] = {port: set() for port in self.ports}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        for port in self.ports:
            self.open(port)

    def open(self, port: int) -> None:
        async def start():
            self.servers[port] = await asyncio.start_server(lambda r, w: self._serve(port, r, w), self.host, port)

        asyncio.run_coroutine_threadsafe(start(), self.loop).result(10)

    def close(self, port: int) -> None:
        """The pod dies: it refuses connections and cuts those it has."""

        async def stop():
            server = self.servers.pop(port, None)
            if server:
                server.close()
            for writer in list(self.connections[port]):
                writer.transport.abort()

        asyncio.run_coroutine_threadsafe(stop(), self.loop).result(10)

    def stop(self) -> None:
        for port in list(self.servers):
            self.close(port)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def last(self) -> Received:
        return self.received[-1]

    async def _serve(self, port, reader, writer):
        self.connections[port].add(writer)
        try:
            while await self._exchange(port, reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connections[port].discard(writer)
            writer.close()

    async def _exchange(self, port, reader, writer) -> bool:
        line = await reader.readline()
        if not line:
            return False
        method, path, _ = line.decode().split(" ", 2)
        request = Received(method, path, await self._headers(reader), port=port)
        if "early=1" in (request.header("x-answer") or ""):
            return await self._answer_early(request, reader, writer)
        if request.header("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                request.body += await reader.readexactly(size)
                await reader.readexactly(2)
            request.trailers = await self._headers(reader)
        elif length := request.header("content-length"):
            request.body = await reader.readexactly(int(length))
        if request.header("x-forwarded-proto") is None:
            return self._own_question(request, writer)
        self.received.append(request)
        return await self._answer(request, reader, writer)

    async def _answer_early(self, request, reader, writer) -> bool:
        """Answers, then takes what still comes until the other side closes: to close first could lose the answer.

        Its answers say `connection: close`: else Envoy would send a next request where nothing is read any more."""
        self.received.append(request)
        await self._answer(request, reader, writer)
        while received := await reader.read(65536):
            request.unread += len(received)
        return False

    async def _headers(self, reader) -> list[tuple[str, str]]:
        headers = []
        while (line := (await reader.readline()).decode().strip()) != "":
            name, value = line.split(":", 1)
            headers.append((name.lower(), value.strip()))
        return headers

    def _own_question(self, request, writer) -> bool:
        """The picker's own questions: metrics and model lists."""
        if request.path == "/metrics":
            self._write(writer, 200, "text/plain; version=0.0.4", (METRICS + self.more_metrics.get(request.port, "")).encode())
        elif request.path == "/v1/models":
            models = [{"id": m, "object": "model", "created": 0, "owned_by": "test"} for m in self.models]
            models += [{"id": a, "object": "model", "root": f"/{a}", "parent": self.models[0]} for a in self.adapters]
            self._write(writer, 200, "application/json", json.dumps({"object": "list", "data": models}).encode())
        else:
            self._write(writer, 404, "application/json", b'{"detail":"Not Found"}')
        return True

    def _write(self, writer, status, content_type, body, method="POST", closes=False):
        head = f"HTTP/1.1 {status} Whatever\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
        head += "connection: close\r\n\r\n" if closes else "\r\n"
        writer.write(head.encode() + (b"" if method == "HEAD" else body))

    async def _answer(self, request, reader, writer) -> bool:
        told = {k: v[0] for k, v in parse_qs(request.header("x-answer") or "").items()}
        kind = told.get("kind", "json")
        await asyncio.sleep(float(told.get("delay", 0)))
        if kind == "close":
            return False
        if kind == "hang":
            request.left_early = await reader.read(1) == b""
            return False
        if kind == "empty":
            writer.write(f"HTTP/1.1 {told.get('status', 200)} OK\r\ncontent-length: 0\r\n\r\n".encode())
            return True
        if kind in ("sse", "cut"):
            return await self._stream(request, reader, writer, told, kind == "cut")
        status = int(told.get("status", 200))
        padding = "x" * int(told.get("size", 0))
        served = MODEL
        if request.body.startswith(b"{"):
            try:
                served = json.loads(request.body).get("model", MODEL)
            except json.JSONDecodeError:
                pass
        body = {"id": "c1", "object": "chat.completion", "model": served, "padding": padding, "usage": USAGE}
        if status >= 400:
            body = {"error": {"message": "told to fail", "type": "x", "param": None, "code": status}}
        self._write(writer, status, "application/json", json.dumps(body).encode(), request.method, "early" in told)
        await writer.drain()
        return True

    async def _stream(self, request, reader, writer, told, cut: bool) -> bool:
        early = "early" in told
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        writer.write(head + (b"connection: close\r\n\r\n" if early else b"\r\n"))
        # What comes after an early answer is the rest of the request, and the caller reads it.
        gone = None if early else asyncio.ensure_future(reader.read(1))
        for index in range(int(told.get("count", 5))):
            event = {"id": "c1", "object": "chat.completion.chunk", "choices": [{"delta": {"content": f"t{index} "}}]}
            self._chunk(writer, b"data: " + json.dumps(event).encode() + b"\n\n")
            await asyncio.sleep(float(told.get("gap", 0.01)))
            if gone and gone.done():
                request.left_early = True
                return False
        if cut:
            return False
        if gone:
            gone.cancel()
        usage = json.dumps({"id": "c1", "choices": [], "usage": USAGE}).encode()
        half = len(usage) // 2  # the event is split on purpose: usage must be found across chunks
        self._chunk(writer, b"data: " + usage[:half])
        await asyncio.sleep(0.01)
        self._chunk(writer, usage[half:] + b"\n\n")
        self._chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        # The reader may hold a byte of the next request: such a connection is not used again.
        return False

    def _chunk(self, writer, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    def wait_for(self, condition, timeout: float = 10) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, "the upstream did not see it"
            time.sleep(0.02)
