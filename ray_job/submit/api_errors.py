"""What the Kubernetes API refuses, as errors of this project: one sentence about one object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import urllib3
from kubernetes import client

from ray_job.bucket.errors import InputError, StorecastError, TransientError

_RETRIABLE: Final = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.GONE,
    HTTPStatus.TOO_MANY_REQUESTS,
)


class ClusterError(StorecastError):
    """The cluster refused a request, or a RayJob failed."""


class MissingError(ClusterError):
    """There is no object of this name."""


class ExistsError(ClusterError):
    """There is an object of this name already."""


@contextmanager
def translated_errors(subject: str) -> Iterator[None]:
    """Raise the client's errors as StorecastErrors about `subject`."""
    try:
        yield
    except client.ApiException as error:
        raise _refusal(subject, error) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientError(f"{subject}: the Kubernetes API does not answer: {error}") from error


def _refusal(subject: str, error: Any) -> StorecastError:
    sentence = f"{subject}: the Kubernetes API answered {error.status} {error.reason}"
    if error.status == HTTPStatus.NOT_FOUND:
        if _is_status(error):
            return MissingError(sentence)
        return InputError(
            f"{subject}: the Kubernetes API does not know such objects: install KubeRay's operator"
            " and its custom resource definitions first"
        )
    if error.status == HTTPStatus.CONFLICT:
        return ExistsError(sentence)
    if error.status in _RETRIABLE or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TransientError(sentence)
    if error.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        return InputError(f"{sentence}: {_error_message(error)}")
    return ClusterError(f"{sentence}: {_error_message(error)}")


def _is_status(error: Any) -> bool:
    """Whether the API answered about an object. For a path that it does not know it sends text."""
    try:
        return bool(json.loads(_body(error))["kind"] == "Status")
    except (ValueError, TypeError, KeyError):
        return False


def _error_message(error: Any) -> str:
    """The message of the API's answer: of its Status object, or the text of a proxy."""
    text = _body(error)
    try:
        return str(json.loads(text)["message"])
    except (ValueError, TypeError, KeyError):
        return " ".join(text.split())[:500]


def _body(error: Any) -> str:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    return str(body or "")
