"""One request, read: which API it speaks, what it asks for, and of which object."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

from .multipart import multipart
from .objects import Conditions, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .uploads import Uploads

# `start` opens an upload in several requests, `part` brings bytes without finishing it;
# whatever makes the object appear is an `insert`.
WRITES: Final = frozenset({"insert", "delete", "patch", "compose", "copy", "rewrite", "move"})


@dataclass(slots=True)
class Request:
    """`op` is what is asked, in one word for both APIs; `key` is the object written or read.

    `resource` and `content` are the two halves of a body that brings an object's metadata,
    its bytes, or both. `epoch` counts the resets of the service before the request came.
    """

    method: str
    api: str
    op: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    source: tuple[str, str] = ("", "")
    resource: dict[str, Any] = field(default_factory=dict)
    content: bytes = b""
    epoch: int = 0

    def number(self, name: str) -> int | None:
        """A query parameter that is a whole number, or None."""
        text = self.query.get(name)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            raise Refusal(400, "invalid", f"{name} is not a whole number: {text}") from None

    def conditions(self) -> Conditions:
        """The preconditions, of the query (JSON API) or of the headers (XML API)."""
        if self.api == "json":
            return Conditions(
                self.number("ifGenerationMatch"),
                self.number("ifGenerationNotMatch"),
                self.number("ifMetagenerationMatch"),
                self.number("ifMetagenerationNotMatch"),
            )
        numbers = {
            asked: int(self.headers[f"x-goog-if-{asked}"])
            for asked in ("generation-match", "metageneration-match")
            if f"x-goog-if-{asked}" in self.headers
        }
        return Conditions(
            generation_match=numbers.get("generation-match"),
            metageneration_match=numbers.get("metageneration-match"),
        )

    @property
    def is_write(self) -> bool:
        return self.op in WRITES


def read(
    method: str,
    raw_path: bytes,
    query: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    uploads: Uploads,
) -> Request:
    """Raises Refusal for what this fake does not know."""
    request = Request(
        method=method,
        api="json",
        op="",
        bucket="",
        key="",
        query=dict(parse_qsl(query.decode(), keep_blank_values=True)),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in headers},
        body=body,
    )
    parts = [unquote(part) for part in raw_path.decode("latin-1").split("/")[1:]]
    match parts:
        case ["upload", "storage", "v1", "b", bucket, "o"]:
            request.bucket = bucket
            _upload(request, uploads)
        case ["batch", "storage", "v1"]:
            request.op = "batch"
        case ["storage", "v1", "b", *rest] | ["download", "storage", "v1", "b", *rest]:
            _json(request, rest)
        case ["storage" | "upload" | "download" | "batch", *_]:
            raise Refusal(404, "notFound", f"The fake has no such path: {raw_path.decode()}")
        case [bucket, *rest]:
            request.api = "xml"
            request.bucket = bucket
            request.key = "/".join(rest)
            _xml(request, uploads)
    if not request.op:
        raise Refusal(400, "unsupported", f"The fake has no {method} {raw_path.decode()}")
    return request


def _json(request: Request, rest: list[str]) -> None:
    method = request.method
    match rest:
        case []:
            request.op = {"GET": "list-buckets", "POST": "create-bucket"}.get(method, "")
        case [bucket]:
            request.bucket = bucket
            request.op = {"GET": "bucket", "DELETE": "drop-bucket"}.get(method, "")
        case [bucket, "o"]:
            request.bucket = bucket
            request.op = {"GET": "list"}.get(method, "")
        case [bucket, "o", key, "compose"] if method == "POST":
            request.bucket, request.key, request.op = bucket, key, "compose"
        case [bucket, "o", key, "rewriteTo" | "copyTo" as how, "b", to, "o", name] if (
            method == "POST"
        ):
            request.bucket, request.key = to, name
            request.op = "copy" if how == "copyTo" else "rewrite"
            request.source = bucket, key
        case [bucket, "o", key, "moveTo", "o", name] if method == "POST":
            request.bucket, request.key, request.op = bucket, name, "move"
            request.source = bucket, key
        case [bucket, "o", *key] if key:
            request.bucket, request.key = bucket, "/".join(key)
            reading = "get" if request.query.get("alt") == "media" else "stat"
            request.op = {
                "GET": reading,
                "DELETE": "delete",
                "PATCH": "patch",
                "PUT": "patch",
            }.get(method, "")


def _upload(request: Request, uploads: Uploads) -> None:
    kind = request.query.get("uploadType")
    if upload_id := request.query.get("upload_id"):
        request.key = uploads.key_of(upload_id)
        if request.method == "PUT":
            finishes = uploads.finishes(request.headers.get("content-range"))
            request.op = "insert" if finishes else "part"
        elif request.method == "DELETE":
            request.op = "abort"
    elif request.method == "POST":
        request.key = request.query.get("name", "")
        content_type = request.headers.get("content-type", "")
        if kind == "media":
            request.op = "insert"
            request.resource, request.content = {"contentType": content_type}, request.body
        elif kind == "multipart":
            request.op = "insert"
            request.resource, request.content = multipart(content_type, request.body)
        elif kind == "resumable":
            request.op = "start"
            request.resource = json.loads(request.body) if request.body.strip() else {}
        request.key = request.key or request.resource.get("name", "")


def _xml(request: Request, uploads: Uploads) -> None:
    method, query = request.method, request.query
    if not request.key:
        request.op = {"GET": "list", "HEAD": "bucket"}.get(method, "")
    elif "uploads" in query and method == "POST":
        request.op = "start"
    elif "uploadId" in query:
        uploads.key_of(query["uploadId"])
        request.op = {"PUT": "part", "POST": "insert", "DELETE": "abort"}.get(method, "")
    elif copied := request.headers.get("x-goog-copy-source"):
        bucket, _, key = unquote(copied).lstrip("/").partition("/")
        request.source, request.op = (bucket, key), "copy"
    else:
        request.op = {"GET": "get", "HEAD": "stat", "PUT": "insert", "DELETE": "delete"}.get(
            method, ""
        )
