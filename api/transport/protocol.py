"""uvicorn's HTTP protocol with limits of its own on connections, time and size of the headers.

uvicorn limits neither the time in which a request has to arrive nor the size of its headers. So a
few slow callers could occupy all connections, and one caller could fill the memory.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.problems import ProblemKind, problem_response
from api.settings import ServiceSettings

_BUSY = ProblemKind(503, "busy", "Too many connections")


class Protocol(HttpToolsProtocol):
    """uvicorn makes one for each connection. `protocol_for` sets `limits`."""

    limits: ServiceSettings

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_waiting = True
        self._header_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.write(_busy_reply())
            transport.close()
            return
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
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

    def on_message_complete(self) -> None:
        self._is_waiting = False
        super().on_message_complete()

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


def _busy_reply() -> bytes:
    response = problem_response(_BUSY, None, headers={"Connection": "close"})
    head = "".join(
        f"{name.decode('latin-1')}: {value.decode('latin-1')}\r\n"
        for name, value in response.raw_headers
    )
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n".encode("latin-1") + bytes(
        response.body
    )
