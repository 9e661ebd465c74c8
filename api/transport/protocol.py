"""uvicorn's HTTP protocol with limits of its own on connections, time and size of the headers.

uvicorn limits neither the time in which a request has to arrive, nor the size of its headers, nor
the number of requests that wait for the answers to earlier ones of their connection. So a few slow
callers could occupy all connections, and one caller could fill the memory.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.problems import ProblemKind, problem_response
from api.settings import ServiceSettings

_BUSY = ProblemKind(503, "busy", "Too many connections")
_HEADERS_TOO_LARGE = ProblemKind(431, "headers-too-large", "The request's headers are too large")
_URL_TOO_LONG = ProblemKind(414, "url-too-long", "The request's URL is too long")
_MAX_WAITING_REQUESTS = 32
"""A connection with more requests that wait for earlier answers is closed."""


class Protocol(HttpToolsProtocol):
    """uvicorn makes one for each connection. `protocol_for` sets `limits`."""

    limits: ServiceSettings

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_waiting = True
        self._header_bytes = 0
        # What was received of the current request, without its body. It includes a header that has
        # not ended yet; `_header_bytes` does not.
        self._bytes_without_body = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.write(_reply("503 Service Unavailable", _BUSY))
            transport.close()
            return
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        # The parser joins the pieces of a URL or a header, in time that grows with its square.
        if self._bytes_without_body > 2 * self.limits.max_header_bytes:
            self._refuse_head()
            return
        self._bytes_without_body += len(data)
        super().data_received(data)
        if self._is_waiting and self._deadline is None:
            self._start_deadline()
        elif not self._is_waiting and self._deadline is not None:
            self._end_deadline()

    def on_message_begin(self) -> None:
        self._is_waiting = True
        self._header_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        # Up to twice the limit the middleware answers with a problem. Beyond that the connection
        # is closed.
        if self._header_bytes > 2 * self.limits.max_header_bytes:
            self.transport.close()
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _MAX_WAITING_REQUESTS:
            self.transport.close()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bytes_without_body -= len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # uvicorn reads on after each answer, also while requests wait.
        if self.pipeline:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        self._is_waiting = False
        # What follows in the same piece is of the next request: it counts from the next piece on.
        self._bytes_without_body = 0
        super().on_message_complete()

    def _refuse_head(self) -> None:
        """Answer and close. Where an earlier request is not answered yet, there is no answer."""
        if self.cycle is None or self.cycle.response_complete:
            if len(self.url) > self.limits.max_header_bytes:
                self.transport.write(_reply("414 URI Too Long", _URL_TOO_LONG))
            else:
                reply = _reply("431 Request Header Fields Too Large", _HEADERS_TOO_LARGE)
                self.transport.write(reply)
        self.transport.close()

    def _start_deadline(self) -> None:
        seconds = self.limits.request_seconds
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def protocol_for(settings: ServiceSettings) -> type[Protocol]:
    """A class for uvicorn, which gives no arguments of ours to the protocols that it makes."""
    return type("Protocol", (Protocol,), {"limits": settings})


def _reply(status: str, problem: ProblemKind) -> bytes:
    response = problem_response(problem, None, headers={"Connection": "close"})
    head = "".join(
        f"{name.decode('latin-1')}: {value.decode('latin-1')}\r\n"
        for name, value in response.raw_headers
    )
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + bytes(response.body)
