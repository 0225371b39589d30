# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""A Kubernetes API server as far as a picker sees one: lists in pages, watches with bookmarks and 410, leases with 409,
token and access reviews; and every way of going wrong, by order. Its answers are pinned to transcripts of a real one
(Tests/Fixtures/Kubernetes), and the official Python client is run against it (test_fake_api_server.py)."""

from __future__ import annotations

import copy
import json
import socket
import socketserver
import ssl
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

INFERENCE = "inference.networking.k8s.io"
INFERENCE_X = "inference.networking.x-k8s.io"
LLM_D = "llm-d.ai"

# (group, version, plural) -> (kind, namespaced). What is not here answers 404, as a cluster without the CRD does.
BUILT_IN = {
    ("", "v1", "pods"): ("Pod", True),
    ("", "v1", "nodes"): ("Node", False),
    ("coordination.k8s.io", "v1", "leases"): ("Lease", True),
    ("apiregistration.k8s.io", "v1", "apiservices"): ("APIService", False),
}
CUSTOM = {
    (INFERENCE, "v1", "inferencepools"): ("InferencePool", True),
    (INFERENCE_X, "v1alpha2", "inferencepools"): ("InferencePool", True),
    (INFERENCE_X, "v1alpha2", "inferencemodels"): ("InferenceModel", True),
    (INFERENCE_X, "v1alpha2", "inferenceobjectives"): ("InferenceObjective", True),
    (INFERENCE_X, "v1alpha2", "inferencemodelrewrites"): ("InferenceModelRewrite", True),
    (LLM_D, "v1alpha2", "inferenceobjectives"): ("InferenceObjective", True),
    (LLM_D, "v1alpha2", "inferencemodelrewrites"): ("InferenceModelRewrite", True),
}


def status(code: int, reason: str, message: str, details: dict | None = None) -> dict:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    if details:
        body["details"] = details
    return body | {"code": code}


def matches(selector: str, labels: dict) -> bool:
    """Equality-based selectors and `in`, as kubectl writes them."""
    rest = selector
    while rest:
        rest = rest.strip()
        head, _, tail = rest.partition(",")
        if "(" in head and ")" not in head:
            cut = rest.index(")") + 1
            head, tail = rest[:cut], rest[cut:].lstrip(",")
        rest = tail
        if " notin " in head or " in " in head:
            wanted = " notin " not in head
            key, _, values = head.partition(" in " if wanted else " notin ")
            allowed = {v.strip() for v in values.strip(" ()").split(",")}
            if (labels.get(key.strip()) in allowed) != wanted:
                return False
        elif "!=" in head:
            key, _, value = head.partition("!=")
            if labels.get(key.strip()) == value.strip():
                return False
        elif "=" in head:
            key, _, value = head.replace("==", "=").partition("=")
            if labels.get(key.strip()) != value.strip():
                return False
        elif head.startswith("!"):
            if head[1:].strip() in labels:
                return False
        elif head and head.strip() not in labels:
            return False
    return True


class Faults:
    """What goes wrong, until told otherwise. Each is a setting that a test changes while the server runs."""

    def __init__(self):
        # Every request answers with this status: 403, 429, 500, ...
        self.status: int | None = None
        # Only requests whose path contains this are hit by `status`, `garbage` and `hang`.
        self.only = ""
        self.retry_after: int | None = None
        # Bodies of lists and lines of watches that are not JSON.
        self.garbage = False
        # A proxy that lost its server answers 404 with a page of its own.
        self.foreign_404 = False
        # Requests are taken and never answered.
        self.hang = False
        # Bytes of each write of a watch: 1 cuts everywhere.
        self.cut: int | None = None
        # Seconds before each answer.
        self.delay = 0.0
        # Versions below this are too old to watch from.
        self.oldest = 0
        # Pages of a list expire after so many pages.
        self.pages_expire_after: int | None = None
        # Bookmarks come so often, in seconds.
        self.bookmark_interval = 60.0
        # No bookmarks at all.
        self.no_bookmarks = False


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    tls: ssl.SSLContext | None = None

    def get_request(self):
        connection, address = super().get_request()
        if self.tls:
            # Hands are shaken on the connection's own thread: one that hangs must not keep others out.
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address


class FakeAPIServer:
    """`objects` are changed by `apply`, `delete` and `patch`; watchers hear of it at once."""

    def __init__(
        self,
        crds=tuple(CUSTOM),
        token: str | None = None,
        certificate: tuple[str, str] | None = None,
        client_authority: str | None = None,
        port=0,
    ):
        """`certificate`: files of a chain and its key; `client_authority`: file of who vouches for clients, which then need
        a certificate."""
        self.kinds = dict(BUILT_IN) | {key: CUSTOM[key] for key in crds}
        self.token = token
        self.faults = Faults()
        self.lock = threading.Condition()
        self.version = 250
        self.objects: dict[tuple, dict[tuple, dict]] = {}
        self.events: list[tuple[int, tuple, str, dict, dict | None]] = []
        self.requests: list[tuple[str, str, dict]] = []
        self.pages: dict[str, tuple[list, int]] = {}
        self.connections: set[socket.socket] = set()
        self.watches = 0
        # Tokens that a TokenReview accepts: token -> user.
        self.users: dict[str, str] = {}
        # (user, path, verb) that a SubjectAccessReview allows.
        self.allowed: set[tuple[str, str, str]] = set()

        handler = type("Handler", (_Handler,), {"api": self})
        self.server = _Server(("127.0.0.1", port), handler, bind_and_activate=True)
        self.client_authority = client_authority
        if certificate:
            self.server.tls = self.tls(certificate)
        scheme = "https" if certificate else "http"
        self.port = self.server.server_address[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    # -- What a cluster does

    def install(self, *crds) -> None:
        with self.lock:
            for key in crds:
                self.kinds[key] = CUSTOM[key]

    def apply(self, resource: tuple, obj: dict) -> dict:
        """Creates or replaces an object."""
        with self.lock:
            obj = copy.deepcopy(obj)
            kind, namespaced = self.kinds.get(resource) or CUSTOM[resource]
            meta = obj.setdefault("metadata", {})
            if namespaced:
                meta.setdefault("namespace", "default")
            key = (meta.get("namespace", ""), meta["name"])
            store = self.objects.setdefault(resource, {})
            old = store.get(key)
            self.version += 1
            meta["resourceVersion"] = str(self.version)
            meta["uid"] = old["metadata"]["uid"] if old else str(uuid.uuid4())
            group, version, _ = resource
            obj = {"kind": kind, "apiVersion": f"{group}/{version}" if group else version} | obj
            store[key] = obj
            self.events.append((self.version, resource, "MODIFIED" if old else "ADDED", obj, old))
            self.lock.notify_all()
            return obj

    def patch(self, resource: tuple, name: str, change, namespace="default") -> dict:
        with self.lock:
            obj = copy.deepcopy(self.objects[resource][(namespace, name)])
            change(obj)
            return self.apply(resource, obj)

    def delete(self, resource: tuple, name: str, namespace="default") -> None:
        with self.lock:
            old = self.objects[resource].pop((namespace, name))
            self.version += 1
            gone = copy.deepcopy(old)
            gone["metadata"]["resourceVersion"] = str(self.version)
            self.events.append((self.version, resource, "DELETED", gone, old))
            self.lock.notify_all()

    def tls(self, certificate: tuple[str, str]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        if self.client_authority:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.client_authority)
        return context

    def renew(self, certificate: tuple[str, str]) -> None:
        """As a server that starts again with another certificate: open connections are cut, and earlier TLS sessions, which
        clients go on with without a look at the certificate, are unknown."""
        self.server.tls = self.tls(certificate)
        self.reset_connections()

    def forget_past(self) -> None:
        """Compaction: no watch can begin at a version of the past any more."""
        with self.lock:
            self.version += 1
            self.faults.oldest = self.version

    def reset_connections(self) -> None:
        """Every connection is cut without a word, as by a server that dies."""
        with self.lock:
            victims = list(self.connections)
        for connection in victims:
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.reset_connections()


class _Handler(BaseHTTPRequestHandler):
    api: FakeAPIServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        with self.api.lock:
            self.api.connections.add(self.connection)

    def finish(self):
        with self.api.lock:
            self.api.connections.discard(self.connection)
        try:
            super().finish()
        except OSError:
            pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass

    def log_message(self, *_):
        pass

    # -- Answers

    def answer(self, code: int, body: dict | bytes, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n"
        self.send_response(code)
        self.send_header("Audit-Id", str(uuid.uuid4()))
        self.send_header("Cache-Control", "no-cache, private")
        self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, code: int, reason: str, message: str, details: dict | None = None, **headers: str) -> None:
        self.answer(code, status(code, reason, message, details), **headers)

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def do_PUT(self):
        self.serve()

    def do_PATCH(self):
        self.serve()

    def do_DELETE(self):
        self.serve()

    def serve(self) -> None:
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        faults = self.api.faults
        with self.api.lock:
            self.api.requests.append((self.command, url.path, query))
        if faults.delay:
            time.sleep(faults.delay)
        hit = faults.only in url.path
        if hit and faults.hang:
            while faults.hang:
                time.sleep(0.05)
            self.close_connection = True
            return
        if hit and faults.status:
            reasons = {403: "Forbidden", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
            more = {"Retry_After": str(faults.retry_after)} if faults.retry_after else {}
            plural = url.path.rstrip("/").split("/")[-1]
            message = (
                f'{plural} is forbidden: User "epp" cannot list resource "{plural}"'
                if faults.status == 403
                else "injected"
            )
            return self.refuse(faults.status, reasons.get(faults.status, "Unknown"), message, **more)
        if hit and faults.foreign_404:
            return self.answer(404, b"<html>404 Not Found</html>")
        if hit and faults.garbage:
            return self.answer(200, b"<html>not the API</html>")
        if self.api.token and self.headers.get("Authorization") != f"Bearer {self.api.token}":
            return self.refuse(401, "Unauthorized", "Unauthorized")
        self.route(url.path, query, body)

    def route(self, path: str, query: dict, body: bytes) -> None:
        parts = [p for p in path.split("/") if p]
        if parts == ["apis", "authentication.k8s.io", "v1", "tokenreviews"]:
            return self.review_token(json.loads(body))
        if parts == ["apis", "authorization.k8s.io", "v1", "subjectaccessreviews"]:
            return self.review_access(json.loads(body))
        if parts[:1] == ["api"]:
            group, rest = "", parts[1:]
        elif parts[:1] == ["apis"] and len(parts) > 2:
            group, rest = parts[1], parts[2:]
        else:
            return self.not_found_path()
        version, rest = rest[0], rest[1:]
        namespace = None
        if len(rest) >= 3 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        resource = (group, version, rest[0] if rest else "")
        if resource not in self.api.kinds:
            return self.not_found_path()
        name = rest[1] if len(rest) > 1 else None
        if self.command == "GET" and name is None:
            if query.get("watch") in ("1", "true", "True"):
                return self.watch(resource, namespace, query)
            return self.list(resource, namespace, query)
        if self.command == "GET":
            return self.get(resource, namespace or "", name)
        if self.command == "POST":
            return self.create(resource, namespace, json.loads(body))
        if self.command == "PUT":
            return self.update(resource, namespace, name, json.loads(body))
        if self.command == "DELETE":
            return self.remove(resource, namespace or "", name)
        self.refuse(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def not_found_path(self) -> None:
        # The server's answer to a path that it does not know is text, not a Status.
        data = b"404 page not found\n"
        self.send_response(404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    # -- Objects

    def plural(self, resource: tuple) -> str:
        group, _, plural = resource
        return f"{plural}.{group}" if group else plural

    def selected(self, resource: tuple, namespace: str | None, query: dict) -> list[dict]:
        found = []
        for (space, _), obj in sorted(self.api.objects.get(resource, {}).items()):
            if namespace is None or space == namespace:
                if self.is_selected(obj, query):
                    found.append(obj)
        return found

    @staticmethod
    def is_selected(obj: dict | None, query: dict) -> bool:
        if obj is None:
            return False
        if not matches(query.get("labelSelector", ""), obj["metadata"].get("labels") or {}):
            return False
        for part in filter(None, query.get("fieldSelector", "").split(",")):
            key, _, value = part.partition("=")
            if key == "metadata.name" and obj["metadata"]["name"] != value:
                return False
        return True

    def list(self, resource: tuple, namespace: str | None, query: dict) -> None:
        api = self.api
        with api.lock:
            kind = api.kinds[resource][0]
            version = api.version
            if token := query.get("continue"):
                if token not in api.pages:
                    message = "The provided continue parameter is too old to display a consistent list result."
                    return self.refuse(410, "Expired", message)
                items, version = api.pages.pop(token)
            else:
                items = self.selected(resource, namespace, query)
            limit = int(query.get("limit") or 0)
            metadata = {"continue": "", "resourceVersion": str(version)}
            if limit and len(items) > limit:
                token = uuid.uuid4().hex
                if api.faults.pages_expire_after is None:
                    api.pages[token] = (items[limit:], version)
                metadata = {
                    "continue": token,
                    "remainingItemCount": len(items) - limit,
                    "resourceVersion": str(version),
                }
                items = items[:limit]
            group, version_name, _ = resource
            api_version = f"{group}/{version_name}" if group else version_name
            body = {"apiVersion": api_version, "items": items, "kind": f"{kind}List", "metadata": metadata}
        self.answer(200, body)

    def watch(self, resource: tuple, namespace: str | None, query: dict) -> None:
        api, faults = self.api, self.api.faults
        since = int(query.get("resourceVersion") or 0)
        self.send_response(200)
        self.send_header("Cache-Control", "no-cache, private")
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        end = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
        bookmarks = query.get("allowWatchBookmarks") in ("1", "true", "True")
        with api.lock:
            expired = since < faults.oldest
            kind = api.kinds[resource][0]
            position = 0 if not expired else len(api.events)
            api.watches += 1
        try:
            if expired:
                message = "The resourceVersion for the provided watch is too old."
                self.event("ERROR", status(410, "Expired", message))
                return self.chunk(b"")
            bookmark_at = time.monotonic() + faults.bookmark_interval
            while True:
                sent = []
                with api.lock:
                    while position < len(api.events):
                        version, where, type_, obj, old = api.events[position]
                        position += 1
                        if version <= since or where != resource:
                            continue
                        if namespace is not None and obj["metadata"].get("namespace") != namespace:
                            continue
                        # An object that leaves the selection is deleted as far as the watcher sees.
                        now, before = self.is_selected(obj, query), self.is_selected(old, query)
                        if type_ == "DELETED" and before:
                            sent.append(("DELETED", obj))
                        elif type_ != "DELETED" and now:
                            sent.append(("MODIFIED" if before else "ADDED", obj))
                        elif type_ != "DELETED" and before:
                            sent.append(("DELETED", obj))
                    current = api.version
                    if not sent:
                        if time.monotonic() >= end:
                            break
                        api.lock.wait(0.02)
                for type_, obj in sent:
                    if faults.garbage and faults.only in self.path:
                        self.chunk(b"{{{ garbage\n")
                    else:
                        self.event(type_, obj)
                while faults.hang and faults.only in self.path:
                    time.sleep(0.02)
                if bookmarks and not faults.no_bookmarks and time.monotonic() >= bookmark_at:
                    bookmark_at = time.monotonic() + faults.bookmark_interval
                    group, version_name, _ = resource
                    api_version = f"{group}/{version_name}" if group else version_name
                    metadata = {"resourceVersion": str(current)}
                    self.event("BOOKMARK", {"kind": kind, "apiVersion": api_version, "metadata": metadata})
            self.chunk(b"")
        except OSError:
            self.close_connection = True
        finally:
            with api.lock:
                api.watches -= 1

    def event(self, type_: str, obj: dict) -> None:
        line = json.dumps({"type": type_, "object": obj}, separators=(",", ":")).encode() + b"\n"
        cut = self.api.faults.cut
        for start in range(0, len(line), cut or len(line)):
            self.chunk(line[start : start + (cut or len(line))])

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def get(self, resource: tuple, namespace: str, name: str) -> None:
        with self.api.lock:
            obj = self.api.objects.get(resource, {}).get((namespace, name))
        if obj is None:
            return self.missing(resource, name)
        self.answer(200, obj)

    def missing(self, resource: tuple, name: str) -> None:
        group, _, plural = resource
        details = {"name": name} | ({"group": group} if group else {}) | {"kind": plural}
        self.refuse(404, "NotFound", f'{self.plural(resource)} "{name}" not found', details)

    def create(self, resource: tuple, namespace: str | None, obj: dict) -> None:
        name = obj["metadata"]["name"]
        space = namespace or obj["metadata"].get("namespace", "")
        with self.api.lock:
            if (space, name) in self.api.objects.get(resource, {}):
                group, _, plural = resource
                details = {"name": name, "group": group, "kind": plural}
                message = f'{self.plural(resource)} "{name}" already exists'
                return self.refuse(409, "AlreadyExists", message, details)
            if space:
                obj["metadata"]["namespace"] = space
            created = self.api.apply(resource, obj)
        self.answer(201, created)

    def update(self, resource: tuple, namespace: str | None, name: str, obj: dict) -> None:
        space = namespace or ""
        with self.api.lock:
            old = self.api.objects.get(resource, {}).get((space, name))
            if old is None:
                return self.missing(resource, name)
            wanted = obj.get("metadata", {}).get("resourceVersion")
            if wanted and wanted != old["metadata"]["resourceVersion"]:
                group, _, plural = resource
                details = {"name": name, "group": group, "kind": plural}
                message = (
                    f'Operation cannot be fulfilled on {self.plural(resource)} "{name}": the object has been modified; '
                    "please apply your changes to the latest version and try again"
                )
                return self.refuse(409, "Conflict", message, details)
            if space:
                obj["metadata"]["namespace"] = space
            updated = self.api.apply(resource, obj)
        self.answer(200, updated)

    def remove(self, resource: tuple, namespace: str, name: str) -> None:
        with self.api.lock:
            if (namespace, name) not in self.api.objects.get(resource, {}):
                return self.missing(resource, name)
            self.api.delete(resource, name, namespace)
        self.answer(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    # -- Reviews

    def review_token(self, review: dict) -> None:
        user = self.api.users.get(review.get("spec", {}).get("token", ""))
        state = {"authenticated": True, "user": {"username": user, "groups": []}} if user else {"authenticated": False}
        self.answer(201, review | {"status": state})

    def review_access(self, review: dict) -> None:
        spec = review.get("spec", {})
        place = spec.get("nonResourceAttributes", {})
        allowed = (spec.get("user"), place.get("path"), place.get("verb")) in self.api.allowed
        self.answer(201, review | {"status": {"allowed": allowed}})
