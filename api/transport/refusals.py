"""Answers that the protocol gives by itself, where a request does not reach the application.

Each of them ends its connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from starlette.responses import Response

from api.problems import BUSY, KINDS_BY_SLUG, MEDIA_TYPE, NO_SNIFFING, ProblemKind, problem_response
from api.transport.reply_cache import header_value

_Headers = Sequence[tuple[bytes, bytes]]
_URL_TOO_LONG = KINDS_BY_SLUG["url-too-long"]
_HEADERS_TOO_LARGE = KINDS_BY_SLUG["headers-too-large"]
_NOT_HTTP = b'{"type": "about:blank", "title": "Bad Request", "status": 400}'
_ANY_ORIGIN = "*"


def has_one_host(headers: _Headers) -> bool:
    """Whether the request names one host, as it must (RFC 9112, 3.2)."""
    return [name for name, _ in headers].count(b"host") == 1


class Refusals:
    """`origins` are those whose pages may read answers. `headers` are those of the request."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = origins

    def busy(self) -> bytes:
        """Nothing has been read, so that the origin is known only if there is a single one."""
        sent = [(b"origin", self._origins[0].encode())] if len(self._origins) == 1 else []
        return self._problem(BUSY, sent)

    def url_too_long(self, headers: _Headers) -> bytes:
        return self._problem(_URL_TOO_LONG, headers)

    def headers_too_large(self, headers: _Headers) -> bytes:
        return self._problem(_HEADERS_TOO_LARGE, headers)

    def bad_request(self, headers: _Headers) -> bytes:
        """To what is no HTTP."""
        response = Response(_NOT_HTTP, HTTPStatus.BAD_REQUEST, NO_SNIFFING, MEDIA_TYPE)
        return self._bytes(response, headers)

    def _problem(self, kind: ProblemKind, headers: _Headers) -> bytes:
        return self._bytes(problem_response(kind, None), headers)

    def _bytes(self, response: Response, headers: _Headers) -> bytes:
        response.headers["Connection"] = "close"
        origin = (header_value(headers, b"origin") or b"").decode("latin-1")
        if _ANY_ORIGIN in self._origins:
            response.headers["Access-Control-Allow-Origin"] = _ANY_ORIGIN
        elif origin and origin in self._origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"
        lines = [f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}"]
        lines += [
            f"{name.decode('latin-1')}: {value.decode('latin-1')}"
            for name, value in response.raw_headers
        ]
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + bytes(response.body)
