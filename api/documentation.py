"""How routes are documented: their answers in every format, and their problems by status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from api.formats import MEDIA_TYPES
from api.problems import KINDS, MEDIA_TYPE

_ETAG = {
    "ETag": {
        "description": "Strong validator for If-None-Match.",
        "schema": {"type": "string"},
    },
    "Last-Modified": {
        "description": "When the answer last changed: publication, midnight or deadline.",
        "schema": {"type": "string"},
    },
}
_LINK = {
    "Link": {
        "description": 'The next page, rel="next" (RFC 8288); absent on the last one.',
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
}
_ALWAYS = (413, 431)
_BINARY = {"schema": {"type": "string", "format": "binary"}}


@dataclass(frozen=True, slots=True)
class Documented:
    """`model` None: there is no JSON. `tabular`: CSV and Parquet are offered too."""

    model: type[BaseModel] | None
    description: str
    tabular: bool = False


def documented(answer: Documented, *statuses: int) -> dict[str, Any]:
    """Arguments for a route that makes its Response itself."""
    content: dict[str, Any] = {}
    if answer.model is not None:
        content["application/json"] = {}
    if answer.tabular:
        content["text/csv"] = {"schema": {"type": "string"}}
    if answer.tabular and answer.model is not None:
        content[MEDIA_TYPES["parquet"]] = _BINARY
    good: dict[str, Any] = {
        "description": answer.description,
        "headers": _ETAG | (_LINK if answer.tabular else {}),
        "content": content,
    }
    if answer.model is not None:
        good["model"] = answer.model
    return {
        "response_class": Response,
        "responses": {
            200: good,
            304: {"description": "What the caller has is still right.", "headers": _ETAG},
            **{status: _problem(status) for status in sorted({*statuses, *_ALWAYS})},
        },
    }


def _problem(status: int) -> dict[str, Any]:
    slugs = sorted({kind.slug for kind in KINDS.values() if kind.status == status})
    found: dict[str, Any] = {
        "description": "Problem: " + ", ".join(slugs),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in (429, 503):
        found["headers"] = _RETRY_AFTER
    return found
