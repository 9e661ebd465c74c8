"""The HTTP connections of Google's client, which says when the storage cannot be reached.

The client repeats a request in silence until its deadline. Who waits for it should know why.
"""

from __future__ import annotations

import logging
import threading
import time
from http.client import IncompleteRead
from typing import Any
from urllib.parse import urlsplit

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.storage.exceptions import InvalidResponse
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as UnreachableError
from requests.exceptions import Timeout

_LOG = logging.getLogger(__name__)
_SILENCE_SECONDS = 10.0


class ReportingConnections(HTTPAdapter):
    """Connections that log a warning at the first failure, and every ten seconds from then on."""

    def __init__(self, *, pool_maxsize: int, retry_seconds: float) -> None:
        self._retry_seconds = retry_seconds
        self._lock = threading.Lock()
        self._reported_at: float | None = None
        super().__init__(pool_maxsize=pool_maxsize)

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """See requests. Raises what it raises."""
        try:
            return super().send(request, *args, **kwargs)
        except (UnreachableError, Timeout) as error:
            self._report(request.url or "", error)
            raise

    def _report(self, url: str, error: Exception) -> None:
        now = time.monotonic()
        with self._lock:
            if self._reported_at is not None and now - self._reported_at < _SILENCE_SECONDS:
                return
            self._reported_at = now
        host = urlsplit(url).netloc
        _LOG.warning(
            "Cloud Storage at %s cannot be reached: %s; each request is tried for %.0f s",
            host,
            innermost_reason(error),
            self._retry_seconds,
        )


def innermost_reason(error: BaseException) -> str:
    """The innermost reason: the operating system's sentence, where there is one."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, IncompleteRead):
        return "its answer ended early"
    if isinstance(error, InvalidResponse):  # its text is a tuple of Python's
        return f"it answers {error.response.status_code}"
    if isinstance(error, GoogleAPICallError) and error.code is not None:  # its text has the address
        return f"it answers {int(error.code)}"
    strerror = getattr(error, "strerror", None)
    return strerror or str(error).strip().partition("\n")[0] or type(error).__name__
