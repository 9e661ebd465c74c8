"""Problem documents (RFC 9457): one table from exception class to status, type and title."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError, StorecastError

MEDIA_TYPE = "application/problem+json"


class ProblemError(StorecastError):
    """An answer that is a problem document.

    `members` are further fields of the document, `headers` are sent with it.
    """

    def __init__(
        self, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.headers = headers or {}
        self.members = members


class SignInError(ProblemError):
    """The request has no token, or one that is not valid."""


class ForbiddenError(ProblemError):
    """The token is valid, but the caller may not see this."""


class UnknownStoreError(ProblemError):
    """The release has no store of that id."""


class UnknownItemError(ProblemError):
    """The store has no such item."""


class UnknownRunError(ProblemError):
    """There is no run of that id."""


class UnknownAsOfError(ProblemError):
    """No release of that as-of exists, or it was removed."""


class UnknownTargetDateError(ProblemError):
    """The forecast does not contain that day."""


class NoDataError(ProblemError):
    """Nothing was ever delivered for the store."""


class NoForecastError(ProblemError):
    """Data were delivered for the store, but no forecast of it ever succeeded."""


class ForecastExpiredError(ProblemError):
    """No target date of today or later is left."""


class NotAcceptableError(ProblemError):
    """The route offers none of the formats that the caller accepts."""


class TooOldError(ProblemError):
    """The forecast is older than the caller allows."""


class ReleaseGoneError(ProblemError):
    """The release of a page token does not exist any more."""


class BodyTooLargeError(ProblemError):
    """The body is larger than any request needs."""


class UrlTooLongError(ProblemError):
    """The URL is longer than any request needs."""


class HeadersTooLargeError(ProblemError):
    """The headers are larger than any request needs."""


class InvalidError(ProblemError):
    """A parameter has a value that is not allowed."""


class TooManyRequestsError(ProblemError):
    """This caller sent more requests than allowed."""


class NoReleaseError(ProblemError):
    """There is no verified release to serve."""


class SignInUnavailableError(ProblemError):
    """The keys of an issuer cannot be fetched at the moment."""


class TooSlowError(ProblemError):
    """The answer took longer than the limit of a request."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """What is the same for all problems of one type."""

    status: int
    slug: str
    title: str


KINDS: dict[type[Exception], ProblemKind] = {
    SignInError: ProblemKind(401, "sign-in", "Sign in"),
    ForbiddenError: ProblemKind(403, "forbidden", "Not yours to see"),
    UnknownStoreError: ProblemKind(404, "unknown-store", "There is no such store"),
    UnknownItemError: ProblemKind(404, "unknown-item", "The store has no such item"),
    UnknownRunError: ProblemKind(404, "unknown-run", "There is no such run"),
    UnknownAsOfError: ProblemKind(404, "unknown-as-of", "Nothing was published for that as-of"),
    UnknownTargetDateError: ProblemKind(404, "unknown-target-date", "That day is not forecast"),
    NoDataError: ProblemKind(404, "no-data", "Nothing was ever delivered for this store"),
    NoForecastError: ProblemKind(404, "no-forecast", "This store was never forecast with success"),
    ForecastExpiredError: ProblemKind(404, "forecast-expired", "The forecast has no day left"),
    NotAcceptableError: ProblemKind(406, "not-acceptable", "No format that you accept is offered"),
    TooOldError: ProblemKind(409, "too-old", "The forecast is older than you want"),
    ReleaseGoneError: ProblemKind(410, "release-gone", "The release of this page is gone"),
    BodyTooLargeError: ProblemKind(413, "body-too-large", "The request's body is too large"),
    UrlTooLongError: ProblemKind(414, "url-too-long", "The request's URL is too long"),
    InvalidError: ProblemKind(422, "invalid", "A parameter is not valid"),
    TooManyRequestsError: ProblemKind(429, "too-many-requests", "Too many requests"),
    HeadersTooLargeError: ProblemKind(
        431, "headers-too-large", "The request's headers are too large"
    ),
    NoReleaseError: ProblemKind(503, "no-release", "There is nothing to serve yet"),
    SignInUnavailableError: ProblemKind(
        503, "sign-in-unavailable", "Tokens cannot be verified now"
    ),
    TooSlowError: ProblemKind(503, "too-slow", "The answer took too long"),
    NotFoundError: ProblemKind(503, "storage", "The storage does not answer"),
    StorageError: ProblemKind(503, "storage", "The storage does not answer"),
    CorruptError: ProblemKind(503, "corrupt", "What is stored cannot be trusted"),
}
"""The kind of an exception is that of its nearest class in this table."""

UNEXPECTED = ProblemKind(500, "unexpected", "Something unexpected happened")
BUSY = ProblemKind(503, "busy", "Too many connections")
NOT_FOUND = ProblemKind(404, "not-found", "Not Found")
METHOD_NOT_ALLOWED = ProblemKind(405, "method-not-allowed", "Method Not Allowed")
KINDS_BY_SLUG = {
    kind.slug: kind
    for kind in (
        *KINDS.values(), UNEXPECTED, BUSY, NOT_FOUND, METHOD_NOT_ALLOWED,
    )
}  # fmt: skip
"""Every kind of problem, also those that no exception of the table stands for."""

NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
_RETRY_AFTER = {"Retry-After": "5"}
_ALLOWED_METHODS = "GET, HEAD"


def kind_of(error: Exception) -> ProblemKind | None:
    """None for an exception that is not in the table."""
    return next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), None)


def problem_response(
    kind: ProblemKind,
    detail: str | None,
    instance: str | None = None,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> Response:
    """`instance` is the path of the request. Fields without a value are left out."""
    content = json.dumps(
        _document(kind, detail, instance, **members), ensure_ascii=False, default=str
    )
    retry_after = _RETRY_AFTER if kind.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(
        content.encode("utf-8", "backslashreplace"),
        kind.status,
        {"Cache-Control": "no-store", **NO_SNIFFING, **retry_after, **(headers or {})},
        MEDIA_TYPE,
    )


def problem_document(error: ProblemError, **members: Any) -> dict[str, Any]:
    """The document of a problem that is a part of a larger answer."""
    kind = kind_of(error)
    if kind is None:
        raise TypeError(f"{type(error).__name__} is not in the table of problems")
    return _document(kind, str(error), **{**error.members, **members})


def error_response(error: StorecastError, instance: str | None) -> Response:
    """The response to a request that raised `error`.

    The sentence of an error that is no ProblemError is not sent: it may name keys of the bucket.
    """
    kind = kind_of(error)
    if kind is None:
        return problem_response(UNEXPECTED, None, instance)
    if isinstance(error, ProblemError):
        return problem_response(kind, str(error), instance, error.headers, **error.members)
    return problem_response(kind, None, instance)


def invalid_parameters(error: RequestValidationError) -> InvalidError:
    errors = [
        # The place is that of the parameter, its name, and the place in a list.
        {"parameter": str(entry["loc"][1]), "message": entry["msg"]}
        for entry in error.errors()
    ]
    first = errors[0]
    return InvalidError(f"{first['parameter']}: {first['message']}", errors=errors)


def install(app: FastAPI) -> None:
    """Answer every exception that a route raises with a problem document."""
    app.add_exception_handler(StorecastError, _handle_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(RequestValidationError, _handle_invalid_parameters)
    app.add_exception_handler(Exception, _handle_unexpected)


def _document(
    kind: ProblemKind, detail: str | None, instance: str | None = None, **members: Any
) -> dict[str, Any]:
    fields = {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": instance,
        **members,
    }
    return {name: value for name, value in fields.items() if value is not None}


async def _handle_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StorecastError)  # noqa: S101 - the class that it is installed for
    return error_response(error, request.url.path)


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    phrase = HTTPStatus(error.status_code).phrase
    slug = phrase.lower().replace(" ", "-")
    kind = KINDS_BY_SLUG.get(slug) or ProblemKind(error.status_code, slug, phrase)
    headers = dict(error.headers or {})
    if kind is METHOD_NOT_ALLOWED:
        headers["Allow"] = _ALLOWED_METHODS
    detail = error.detail if error.detail != phrase else None
    return problem_response(kind, detail, request.url.path, headers)


async def _handle_invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return error_response(invalid_parameters(error), request.url.path)


async def _handle_unexpected(request: Request, _: Exception) -> Response:
    return problem_response(UNEXPECTED, None, request.url.path)
