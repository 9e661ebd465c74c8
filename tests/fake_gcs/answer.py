"""Answers, and the part of them that both APIs share: sending an object's bytes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final

from .objects import Refusal

if TYPE_CHECKING:
    from .objects import Stored
    from .request import Request

Headers = list[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json; charset=UTF-8")
XML: Final = (b"content-type", b"application/xml; charset=UTF-8")
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_KEPT_HEADERS: Final = {
    "cacheControl": b"cache-control",
    "contentDisposition": b"content-disposition",
    "contentEncoding": b"content-encoding",
    "contentLanguage": b"content-language",
}


@dataclass(slots=True)
class Answer:
    """Status, headers without the length of the body, and the body."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""


def as_json(document: Any, status: int = 200) -> Answer:
    return Answer(status, [JSON], json.dumps(document, separators=(",", ":")).encode())


def etag(stored: Stored) -> str:
    """What the XML API calls an object's ETag."""
    return f'"{stored.generation:x}-{stored.metageneration:x}"'


def sums(stored: Stored) -> Headers:
    """Generation, checksums and stored length, as every answer about an object has them."""
    hashes = f"crc32c={stored.crc32c}" + (f",md5={stored.md5}" if stored.md5 else "")
    return [
        (b"x-goog-hash", hashes.encode()),
        (b"x-goog-generation", b"%d" % stored.generation),
        (b"x-goog-metageneration", b"%d" % stored.metageneration),
        (b"x-goog-stored-content-length", b"%d" % len(stored.body)),
        (
            b"x-goog-stored-content-encoding",
            str(stored.fields.get("contentEncoding", "identity")).encode(),
        ),
        (b"x-goog-storage-class", b"STANDARD"),
        (b"etag", etag(stored).encode()),
    ]


def media(stored: Stored, request: Request) -> Answer:
    """The bytes, or the range of them that was asked for; no transcoding of what is gzipped."""
    headers = [
        (b"content-type", str(stored.fields.get("contentType") or "").encode()),
        (b"last-modified", format_datetime(stored.updated, usegmt=True).encode()),
        (b"accept-ranges", b"bytes"),
        *sums(stored),
    ]
    if not headers[0][1]:
        headers[0] = (b"content-type", b"application/octet-stream")
    for name, header in _KEPT_HEADERS.items():
        if name in stored.fields:
            headers.append((header, str(stored.fields[name]).encode()))
    for name, value in stored.fields.get("metadata", {}).items():
        headers.append((f"x-goog-meta-{name}".encode(), str(value).encode()))
    _check_etag(stored, request)
    wanted = request.headers.get("range")
    match = _RANGE.fullmatch(wanted) if wanted else None
    if match is None or match.groups() == ("", ""):
        return Answer(200, headers, stored.body)
    size = len(stored.body)
    first, last = match.groups()
    begin = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if begin >= end:
        headers.append((b"content-range", b"bytes */%d" % size))
        return Answer(416, headers, b"The requested range cannot be satisfied.")
    headers.append((b"content-range", b"bytes %d-%d/%d" % (begin, end - 1, size)))
    return Answer(206, headers, stored.body[begin:end])


def _check_etag(stored: Stored, request: Request) -> None:
    if (wanted := request.headers.get("if-match")) not in (None, "*", etag(stored)):
        raise Refusal(412, "conditionNotMet", f"The ETag is {etag(stored)}, not {wanted}.")
    if request.headers.get("if-none-match") in ("*", etag(stored)):
        raise Refusal(304, "notModified", "Not Modified")
