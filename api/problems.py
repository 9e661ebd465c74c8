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
    """An answer that is a problem. `members` go into the document, `headers` beside it."""

    def __init__(
        self, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.headers = headers or {}
        self.members = members


class SignInError(ProblemError):
    """No token, or one that is not good."""


class ForbiddenError(ProblemError):
    """A token that is good, for something else."""


class UnknownStoreError(ProblemError):
    """No store of that id in the release."""


class UnknownItemError(ProblemError):
    """The store has no such item."""


class UnknownRunError(ProblemError):
    """No run of that id is known to the pointer."""


class UnknownAsOfError(ProblemError):
    """No release of that as-of is there any more, or yet."""


class UnknownTargetDateError(ProblemError):
    """The forecast says nothing of that day."""


class NoDataError(ProblemError):
    """Nothing was ever delivered for the store."""


class NoForecastError(ProblemError):
    """The store's data came, but no forecast of it ever succeeded."""


class ForecastExpiredError(ProblemError):
    """No target date of today or later is left."""


class NotAcceptableError(ProblemError):
    """None of the formats that the caller accepts is offered."""


class TooOldError(ProblemError):
    """Older than the caller wants."""


class ReleaseGoneError(ProblemError):
    """The release that a page token is bound to is gone."""


class BodyTooLargeError(ProblemError):
    """More body than any request needs."""


class HeadersTooLargeError(ProblemError):
    """More header than any request needs."""


class InvalidError(ProblemError):
    """A parameter is not what it should be."""


class TooManyRequestsError(ProblemError):
    """This identity asked too often."""


class NoReleaseError(ProblemError):
    """Nothing verified is there to be served."""


class SignInUnavailableError(ProblemError):
    """The keys of an issuer cannot be had at the moment."""


class TooSlowError(ProblemError):
    """The answer took longer than a request may."""


@dataclass(frozen=True, slots=True)
class Kind:
    status: int
    slug: str
    title: str


KINDS: dict[type[Exception], Kind] = {
    SignInError: Kind(401, "sign-in", "Sign in"),
    ForbiddenError: Kind(403, "forbidden", "Not yours to see"),
    UnknownStoreError: Kind(404, "unknown-store", "There is no such store"),
    UnknownItemError: Kind(404, "unknown-item", "The store has no such item"),
    UnknownRunError: Kind(404, "unknown-run", "There is no such run"),
    UnknownAsOfError: Kind(404, "unknown-as-of", "Nothing was published for that as-of"),
    UnknownTargetDateError: Kind(404, "unknown-target-date", "That day is not forecast"),
    NoDataError: Kind(404, "no-data", "Nothing was ever delivered for this store"),
    NoForecastError: Kind(404, "no-forecast", "This store was never forecast with success"),
    ForecastExpiredError: Kind(404, "forecast-expired", "The forecast has no day left"),
    NotAcceptableError: Kind(406, "not-acceptable", "No format that you accept is offered"),
    TooOldError: Kind(409, "too-old", "The forecast is older than you want"),
    ReleaseGoneError: Kind(410, "release-gone", "The release of this page is gone"),
    BodyTooLargeError: Kind(413, "body-too-large", "The request's body is too large"),
    InvalidError: Kind(422, "invalid", "A parameter is not valid"),
    TooManyRequestsError: Kind(429, "too-many-requests", "Too many requests"),
    HeadersTooLargeError: Kind(431, "headers-too-large", "The request's headers are too large"),
    NoReleaseError: Kind(503, "no-release", "There is nothing to serve yet"),
    SignInUnavailableError: Kind(503, "sign-in-unavailable", "Tokens cannot be verified now"),
    TooSlowError: Kind(503, "too-slow", "The answer took too long"),
    NotFoundError: Kind(503, "storage", "The storage does not answer"),
    StorageError: Kind(503, "storage", "The storage does not answer"),
    CorruptError: Kind(503, "corrupt", "What is stored cannot be trusted"),
}
"""The nearest class of an exception's ancestry decides."""

_RETRY_AFTER = {"Retry-After": "5"}


def kind_of(error: Exception) -> Kind | None:
    return next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), None)


def document(
    kind: Kind, detail: str | None, instance: str | None = None, **members: Any
) -> dict[str, Any]:
    body = {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": instance,
        **members,
    }
    return {name: value for name, value in body.items() if value is not None}


def response(
    kind: Kind,
    detail: str | None,
    instance: str | None = None,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> Response:
    content = json.dumps(
        document(kind, detail, instance, **members), ensure_ascii=False, default=str
    )
    retry = _RETRY_AFTER if kind.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(
        content.encode("utf-8", "backslashreplace"),
        kind.status,
        {"Cache-Control": "no-store", **retry, **(headers or {})},
        MEDIA_TYPE,
    )


def document_of(error: ProblemError, **members: Any) -> dict[str, Any]:
    """The document of a problem that is a part of an answer."""
    kind = kind_of(error)
    if kind is None:
        raise TypeError(f"{type(error).__name__} has no kind")
    return document(kind, str(error), **{**error.members, **members})


def of_error(error: StorecastError, instance: str | None) -> Response:
    """What a caller is told of `error`; the keys of the bucket are not among it."""
    kind = kind_of(error)
    if isinstance(error, ProblemError) and kind is not None:
        return response(kind, str(error), instance, error.headers, **error.members)
    if kind is None:
        return response(Kind(500, "unexpected", "Something unexpected happened"), None, instance)
    return response(kind, None, instance)


def of_status(status: int, detail: str | None, instance: str | None) -> Response:
    phrase = HTTPStatus(status).phrase
    slug = phrase.lower().replace(" ", "-")
    return response(Kind(status, slug, phrase), detail if detail != phrase else None, instance)


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, StorecastError)  # noqa: S101 - Starlette hands over what was asked
    return of_error(error, request.url.path)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    answer = of_status(error.status_code, error.detail, request.url.path)
    answer.headers.update(error.headers or {})
    return answer


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = [
        {"parameter": str(each["loc"][-1]), "message": each["msg"]} for each in error.errors()
    ]
    first = errors[0]
    return response(
        KINDS[InvalidError],
        f"{first['parameter']}: {first['message']}",
        request.url.path,
        errors=errors,
    )


async def _answer_unexpected(request: Request, _: Exception) -> Response:
    kind = Kind(500, "unexpected", "Something unexpected happened")
    return response(kind, None, request.url.path)


def install(app: FastAPI) -> None:
    app.add_exception_handler(StorecastError, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(Exception, _answer_unexpected)
