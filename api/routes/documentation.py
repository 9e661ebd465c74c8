"""The documentation of a route: its answer in every format, and its problems by status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from api.problems import KINDS, MEDIA_TYPE
from api.views.formats import MEDIA_TYPES

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
_STATUSES_OF_EVERY_ROUTE = (413, 431)
_BINARY = {"schema": {"type": "string", "format": "binary"}}


@dataclass(frozen=True, slots=True)
class AnswerSpec:
    """`model` is the schema of the JSON, None without JSON. `tabular`: as CSV and Parquet too."""

    model: type[BaseModel] | None
    description: str
    tabular: bool = False


def documented(answer: AnswerSpec, *statuses: int) -> dict[str, Any]:
    """Arguments for the decorator of a route that returns a Response.

    `statuses` are those of its problems.
    """
    content: dict[str, Any] = {}
    if answer.model is not None:
        content["application/json"] = {}
    if answer.tabular:
        content["text/csv"] = {"schema": {"type": "string"}}
    if answer.tabular and answer.model is not None:
        content[MEDIA_TYPES["parquet"]] = _BINARY
    success: dict[str, Any] = {
        "description": answer.description,
        "headers": _ETAG | (_LINK if answer.tabular else {}),
        "content": content,
    }
    if answer.model is not None:
        success["model"] = answer.model
    return {
        "response_class": Response,
        "responses": {
            200: success,
            304: {"description": "What the caller has is still right.", "headers": _ETAG},
            **{
                status: _problem(status)
                for status in sorted({*statuses, *_STATUSES_OF_EVERY_ROUTE})
            },
        },
    }


def _problem(status: int) -> dict[str, Any]:
    slugs = sorted({kind.slug for kind in KINDS.values() if kind.status == status})
    documentation: dict[str, Any] = {
        "description": "Problem: " + ", ".join(slugs),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in (429, 503):
        documentation["headers"] = _RETRY_AFTER
    return documentation
