"""Uploads that bring an object's metadata and its bytes in one body (multipart/related)."""

from __future__ import annotations

import json
from typing import Any

from .objects import Refusal


def multipart(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The resource and the bytes; the bytes' own type counts where the resource names none."""
    boundary = content_type.partition("boundary=")[2].partition(";")[0].strip("\"' ")
    delimiter = b"--" + boundary.encode()
    described = body.partition(delimiter + b"\r\n")[2]
    head, _, rest = described.partition(b"\r\n" + delimiter + b"\r\n")
    content_head, _, rest = rest.partition(b"\r\n\r\n")
    content, end, _ = rest.rpartition(b"\r\n" + delimiter + b"--")
    if not boundary or not end:
        raise Refusal(400, "parseError", "The parts of the upload cannot be told apart.")
    resource: dict[str, Any] = json.loads(head.partition(b"\r\n\r\n")[2])
    for line in content_head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-type":
            resource.setdefault("contentType", value.strip())
    return resource, content
