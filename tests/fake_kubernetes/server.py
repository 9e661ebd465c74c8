"""A fake Kubernetes API server over HTTP, for clients that create, watch, and follow logs.

It follows the API's conventions for objects of one namespace: resource versions, conflicts, strict
field validation, chunked watches that end after timeoutSeconds, 410 for old versions, bearer tokens
and RBAC. Tests can make it fail.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.fake_kubernetes.objects import Objects, Place, Resource, TakenError, TooOldError
from tests.fake_kubernetes.rules import allows

TOKEN = "a-token-of-the-fake"  # noqa: S105 - it opens nothing
_VERBS = {"GET": "get", "POST": "create", "DELETE": "delete"}


@dataclass
class Fault:
    """A fault of the next `times` requests with this verb.

    With `status` the answer has that status, and the body `text` if there is one, as a proxy's.
    With `ack_lost` the request is carried out and the connection closed without an answer, with
    `hang_up` it is closed at once.
    """

    verb: str
    status: int = 0
    text: str = ""
    ack_lost: bool = False
    hang_up: bool = False
    times: int = 1


@dataclass(frozen=True, slots=True)
class ApiRequest:
    verb: str
    group: str
    resource: str
    namespace: str
    name: str | None
    query: dict[str, str]


class FakeKubernetes:
    """`check(resource)` returns the errors of a strict creation. Without `rules` all is granted."""

    def __init__(self, check: Callable[[Resource], list[str]]) -> None:
        self.objects = Objects()
        self.check = check
        self.rules: list[dict[str, Any]] | None = None
        self.faults: list[Fault] = []
        self.requests: list[ApiRequest] = []
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    @contextmanager
    def serve(self) -> Iterator[FakeKubernetes]:
        handler = type("Handler", (_Handler,), {"fake": self})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            self._server = server
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def write_kubeconfig(self, path: Path, namespace: str) -> Path:
        context = {"cluster": "fake", "user": "fake", "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": TOKEN}}],
            "contexts": [{"name": "fake", "context": context}],
        }
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    def strike(self, verb: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.verb == verb and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


def _read(path: str, method: str) -> ApiRequest | None:
    split = urlsplit(path)
    steps = split.path.strip("/").split("/")
    query = {key: values[0] for key, values in parse_qs(split.query).items()}
    group, rest = (steps[1], steps[3:]) if steps[0] == "apis" else ("", steps[2:])
    if len(rest) < 3 or rest[0] != "namespaces":
        return None
    namespace, resource, *named = rest[1:]
    name = named[0] if named else None
    verb = _VERBS.get(method, method)
    if verb == "get" and name is None:
        verb = "watch" if query.get("watch") in {"true", "True", "1"} else "list"
        name = query.get("fieldSelector", "").removeprefix("metadata.name=") or None
    subresource = "/".join([resource, *named[1:]])
    return ApiRequest(verb, group, subresource, namespace, name, query)


class _Handler(BaseHTTPRequestHandler):
    fake: ClassVar[FakeKubernetes]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is given
        """Nothing is logged; tests read `requests`."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = _read(self.path, method)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "Unauthorized", "a bearer token is needed")
        if request is None:
            return self._refuse(404, "NotFound", "no such path")
        self.fake.requests.append(request)
        fault = self.fake.strike(request.verb)
        if fault is not None and not fault.ack_lost:
            return self._fail(fault)
        rules = self.fake.rules
        if rules is not None and not allows(
            rules, request.verb, request.group, request.resource, request.name
        ):
            return self._refuse(403, "Forbidden", f"may not {request.verb} {request.resource}")
        return self._do(request, json.loads(body) if body else {}, lost=fault is not None)

    def _fail(self, fault: Fault) -> None:
        if fault.hang_up:
            self._hang_up()
        elif fault.text:
            self._send_bytes(fault.status, fault.text.encode())
        else:
            self._refuse(fault.status, "Injected", "an injected fault")

    def _do(self, request: ApiRequest, body: Resource, *, lost: bool) -> None:
        kind = f"{request.resource}.{request.group}".rstrip(".")
        match request.verb:
            case "create":
                return self._create(request, kind, body, lost=lost)
            case "list":
                return self._list(request, kind)
            case "watch":
                return self._watch(request, kind)
        assert request.name is not None
        if request.resource == "pods/log":
            return self._stream(
                (line + "\n").encode() for line in self.fake.objects.follow_log(request.name)
            )
        place = Place(kind, request.namespace, request.name)
        objects = self.fake.objects
        resource = objects.get(place) if request.verb == "get" else objects.delete(place)
        if resource is None:
            return self._refuse(404, "NotFound", f'{kind} "{request.name}" not found')
        return self._send(200, resource)

    def _create(self, request: ApiRequest, kind: str, body: Resource, *, lost: bool) -> None:
        name = body["metadata"]["name"]
        wrong = self.fake.check(body)
        if wrong and request.query.get("fieldValidation") == "Strict":
            return self._refuse(400, "BadRequest", f"strict decoding error: {wrong[0]}")
        try:
            made = self.fake.objects.create(Place(kind, request.namespace, name), body)
        except TakenError:
            return self._refuse(409, "AlreadyExists", f'{kind} "{name}" already exists')
        return self._hang_up() if lost else self._send(201, made)

    def _list(self, request: ApiRequest, kind: str) -> None:
        labels = dict(
            pair.split("=", 1)
            for pair in request.query.get("labelSelector", "").split(",")
            if "=" in pair
        )
        items = [
            item
            for item in self.fake.objects.list(kind, request.namespace)
            if (item["metadata"].get("labels") or {}).items() >= labels.items()
        ]
        metadata = {"resourceVersion": str(self.fake.objects.version)}
        self._send(200, {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})

    def _watch(self, request: ApiRequest, kind: str) -> None:
        since = int(request.query.get("resourceVersion") or 0)
        seconds = float(request.query.get("timeoutSeconds") or 300)

        def events() -> Iterator[bytes]:
            try:
                for change in self.fake.objects.changes(kind, request.namespace, since, seconds):
                    if request.name in (None, change.place.name):
                        event = {"type": change.type, "object": change.object}
                        yield json.dumps(event).encode() + b"\n"
            except TooOldError:
                gone = _status(410, "Expired", "too old resource version")
                yield json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n"

        self._stream(events())

    def _stream(self, pieces: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send(self, status: int, document: Resource) -> None:
        self._send_bytes(status, json.dumps(document).encode())

    def _send_bytes(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, reason: str, message: str) -> None:
        self._send(status, _status(status, reason, message))

    def _hang_up(self) -> None:
        self.close_connection = True


def _status(code: int, reason: str, message: str) -> Resource:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
