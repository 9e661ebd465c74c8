"""HTTP as uvicorn speaks it, with an end to callers who take up a connection and send nothing.

uvicorn bounds neither the time that a request may take to arrive nor the size of its head: a few
slow callers could hold every connection, and one could fill the memory.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api import problems
from api.problems import Kind
from api.settings import Settings

_FULL = Kind(503, "busy", "Too many connections")


class Protocol(HttpToolsProtocol):
    """Made by uvicorn, one per connection; `limits` is set by `protocol_for`."""

    limits: Settings

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_waiting = True
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.write(_full())
            transport.close()
            return
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_waiting and self._deadline is None:
            self._await_request()
        elif not self._is_waiting and self._deadline is not None:
            self._request_came()

    def on_message_begin(self) -> None:
        self._is_waiting = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        # Twice what is answered by a problem: beyond that there is nothing to be polite about.
        if self._head_bytes > 2 * self.limits.max_header_bytes:
            self.transport.close()
            return
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        self._is_waiting = False
        super().on_message_complete()

    def _await_request(self) -> None:
        seconds = self.limits.request_seconds
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _request_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def protocol_for(settings: Settings) -> type[Protocol]:
    return type("Protocol", (Protocol,), {"limits": settings})


def _full() -> bytes:
    answer = problems.response(_FULL, None, headers={"Connection": "close"})
    head = "".join(
        f"{name.decode('latin-1')}: {value.decode('latin-1')}\r\n"
        for name, value in answer.raw_headers
    )
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n".encode("latin-1") + bytes(answer.body)
