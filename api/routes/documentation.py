"""The documentation of a route: its answer in every format, and the problems that it can give."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from api.problems import (
    BUSY,
    KINDS,
    MEDIA_TYPE,
    UNEXPECTED,
    BodyTooLargeError,
    ForbiddenError,
    ForecastExpiredError,
    HeadersTooLargeError,
    InvalidError,
    NoDataError,
    NoForecastError,
    NoReleaseError,
    ProblemKind,
    SignInError,
    SignInUnavailableError,
    TooManyRequestsError,
    TooSlowError,
    UnknownStoreError,
    UrlTooLongError,
)
from api.routes.replies import COMPLETE
from api.views.formats import MEDIA_TYPES, PARTIAL_JSON
from api.views.problem_schemas import SCHEMAS
from ray_job.bucket.errors import CorruptError, StorageError

Errors = tuple[type[Exception], ...]

SIGNED_IN: Errors = (SignInError, SignInUnavailableError, TooManyRequestsError)
"""Problems of every route that asks who the caller is."""
STORED: Errors = (NoReleaseError, StorageError, CorruptError)
"""Problems of routes that answer from a release and may have to read the bucket."""
OF_A_STORE: Errors = (
    ForbiddenError,
    UnknownStoreError,
    NoDataError,
    NoForecastError,
    ForecastExpiredError,
    InvalidError,
)
"""Problems of routes that show the forecast of a store."""
_OF_EVERY_ROUTE = (
    *(
        KINDS[error]
        for error in (BodyTooLargeError, HeadersTooLargeError, TooSlowError, UrlTooLongError)
    ),
    UNEXPECTED,
    BUSY,
)

EXAMPLE = "x-example"
"""The name of an example, which the document holds instead. FastAPI drops the nulls of examples."""

_TEXT = {"type": "string"}
_ETAG = {
    "ETag": {"description": "Strong validator for If-None-Match.", "schema": _TEXT},
    "Last-Modified": {
        "description": "When the answer last changed: publication, midnight or deadline.",
        "schema": _TEXT,
    },
}
_OF_TABLES = {
    "Link": {
        "description": 'The next page, rel="next" (RFC 8288); absent on the last page.',
        "schema": _TEXT,
    },
    "Content-Disposition": {
        "description": "The name of the file, of CSV and Parquet.",
        "schema": _TEXT,
    },
    COMPLETE: {
        "description": (
            "Of CSV and Parquet: `true` if the file has all rows. `false` if it is a page; then"
            " Link leads to the next one, and the file's name ends with `-part`."
        ),
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
}


@dataclass(frozen=True, slots=True)
class AnswerSpec:
    """The answer of a route. `name` is the key of its example.

    `model` is the schema of the JSON, None without JSON. `rows` names the schema of a row of CSV
    and Parquet, None without them. `partial` is the schema of JSON with selected fields.
    """

    name: str
    model: type[BaseModel] | None
    description: str
    rows: str | None = None
    partial: type[BaseModel] | None = None


def documented(answer: AnswerSpec, *errors: type[Exception]) -> dict[str, Any]:
    """Arguments for the decorator of a route that returns a Response.

    `errors` are those that the route raises, besides those of every route.
    """
    success: dict[str, Any] = {
        "description": answer.description,
        "headers": _ETAG | (_OF_TABLES if answer.rows else {}),
        "content": _content(answer),
    }
    if answer.model is not None:
        success["model"] = answer.model
    kinds = {kind.slug: kind for kind in (*_OF_EVERY_ROUTE, *(KINDS[error] for error in errors))}
    return {
        "response_class": Response,
        "responses": {
            200: success,
            304: {"description": "What the caller has is still right.", "headers": _ETAG},
            **{
                status: _problem(kind for kind in kinds.values() if kind.status == status)
                for status in sorted({kind.status for kind in kinds.values()})
            },
        },
    }


def _content(answer: AnswerSpec) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if answer.model is not None:
        content[MEDIA_TYPES["json"]] = {EXAMPLE: answer.name}
    if answer.partial is not None:
        content[PARTIAL_JSON] = {
            "schema": reference(answer.partial.__name__),
            EXAMPLE: f"{answer.name}.partial",
        }
    if answer.rows is not None:
        content["text/csv"] = {
            "schema": _table_schema("text/csv", answer.rows),
            EXAMPLE: f"{answer.name}.csv",
        }
    if answer.rows is not None and answer.model is not None:
        parquet = MEDIA_TYPES["parquet"]
        content[parquet] = {"schema": _table_schema(parquet, answer.rows)}
    return content


def _table_schema(media_type: str, rows: str) -> dict[str, Any]:
    return {
        "type": "string",
        "contentMediaType": media_type,
        "contentSchema": {"type": "array", "items": reference(rows)},
    }


def reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _problem(kinds: Iterable[ProblemKind]) -> dict[str, Any]:
    by_slug = {kind.slug: kind for kind in sorted(kinds, key=lambda kind: kind.slug)}
    names = {slug: SCHEMAS[slug].__name__ for slug in by_slug}
    schema: dict[str, Any] = reference(*names.values()) if len(names) == 1 else {
        "oneOf": [reference(name) for name in names.values()],
        "discriminator": {
            "propertyName": "type",
            "mapping": {
                f"/problems/{slug}": reference(name)["$ref"] for slug, name in names.items()
            },
        },
    }  # fmt: skip
    documentation: dict[str, Any] = {
        "description": "; ".join(f"`{slug}`: {kind.title}" for slug, kind in by_slug.items()),
        "content": {
            MEDIA_TYPE: {
                "schema": schema,
                "examples": {slug: {"$ref": f"#/components/examples/{slug}"} for slug in by_slug},
            }
        },
    }
    if any(kind.status in (429, 503) for kind in by_slug.values()):
        documentation["headers"] = _RETRY_AFTER
    return documentation
