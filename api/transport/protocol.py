"""uvicorn's HTTP protocol with limits of its own on connections, time and size of the headers.

uvicorn limits neither the time in which a request has to arrive, nor the size of its headers, nor
the number of requests that wait for the answers to earlier ones of their connection, nor the work
that one read can make: a few callers could occupy all connections, the memory or the event loop.
When uvicorn stops, it closes connections without saying so before, and so it does with a caller who
ends his side of a connection (decisions 0036, 0075, 0076, 0112, 0113 and 0120).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from weakref import ref

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.settings import ServiceSettings
from api.transport.connections import Connections
from api.transport.joined_writes import JoinedWrites
from api.transport.received_bytes import ReceivedBytes, ends_in_the_middle
from api.transport.refusals import Refusals, has_one_host
from api.transport.rendered_answers import RENDERED_ANSWERS
from api.transport.stalled_writes import StalledWrites

_MAX_PATH_BYTES = 1024
"""No address of ours is nearly as long, and what is escaped in it takes a millisecond to read."""
_MAX_WAITING_BYTES = 2**20
"""A connection with more that waits for earlier answers is closed."""
_MAX_HEADER_LINES = 100
_MAX_PIECES = 1000
"""A read with more lines of headers and pieces of bodies ends there: each of them costs a call."""
_LINE_OVERHEAD = 4
"""The colon, the space and the end of the line of a header."""
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 2**20
"""How long, and how much, is still received and thrown away after a refusal. A connection that is
closed while bytes arrive is reset, and its caller may lose the refusal."""
_LAST_READ_SECONDS = 0.05
"""Before the server closes a connection, what has arrived on it already is read."""
_LAST_REQUEST_SECONDS = 5.0
"""How long the stopping server waits for the rest of a request."""
_LOG = logging.getLogger("api.protocol")
_LOG.setLevel(logging.ERROR)
"""uvicorn warns of requests that are no HTTP. Callers must not be able to fill the log."""


class _StopParsingError(Exception):
    """Ends the parser in the middle of what was received. uvicorn then sends a 400 response."""


class Protocol(HttpToolsProtocol):
    """uvicorn makes one for each connection. `protocol_for` sets the attributes."""

    limits: ServiceSettings
    most_bytes: int
    """Of a URL and its headers. Up to it the middleware answers with a problem."""
    listener: Connections
    refusals: Refusals

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _LOG
        self.url = b""
        self.headers = []
        self._unparsed = ReceivedBytes()
        self._is_waiting = True
        # Whether a part of a request has come, but not all of it.
        self._has_begun = False
        self._has_eof = False
        self._is_discarding = False
        self._discarded_bytes = 0
        self._header_bytes = 0
        self._header_lines = 0
        self._body_bytes = 0
        # Lines of headers and pieces of bodies since the last read.
        self._pieces = 0
        # Of the current request, also of a header that has not ended yet.
        self._bytes_without_body = 0
        self._is_in_body = False
        self._deadline: asyncio.TimerHandle | None = None
        # The request whose answer ends the connection although its caller would go on.
        self._last_cycle: RequestResponseCycle | None = None
        self._answers: JoinedWrites
        self._stalled: StalledWrites

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._answers = JoinedWrites(transport)
        self._stalled = StalledWrites(self.loop, transport)
        if not self.listener.admit(self, self.client[0] if self.client else ""):
            transport.write(self.refusals.busy())
            transport.close()
            return
        self._start_deadline(self.limits.request_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        self._stalled.end()
        self.listener.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_discarding:
            self._discard(len(data))
            return
        if self.transport.is_closing():
            return
        self._pieces = 0
        if self._unparsed or self.pipeline or ends_in_the_middle(data):
            self._unparsed.add(data)
            self._parse_what_can_be_answered()
        elif data:
            self._parse(data)
        if self._is_waiting and self._deadline is None:
            self._start_deadline(self.limits.request_seconds)
        elif not self._is_waiting and self._deadline is not None:
            self._end_deadline()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether answers are awaited, although the caller will send nothing more."""
        is_answered = self.cycle is None or self.cycle.response_complete
        self._has_eof = not is_answered and not self.transport.is_closing()
        return self._has_eof

    def _parse(self, data: bytes) -> None:
        # The parser joins the pieces of a URL or a header, in time that grows with its square.
        if self._bytes_without_body > self.most_bytes:
            self._refuse_head()
            return
        self._bytes_without_body += len(data)
        super().data_received(data)

    def _parse_what_can_be_answered(self) -> None:
        """Parse until a request waits for the answer to an earlier one."""
        while self._unparsed and not self.pipeline and not self._is_ending():
            self._parse(self._unparsed.next_piece())
            self._pieces += 1
            if self._pieces > _MAX_PIECES:
                self._stop_reading()
        if self._is_ending():
            self._unparsed.clear()
        elif self.pipeline:
            self.flow.pause_reading()
            if len(self._unparsed) > _MAX_WAITING_BYTES:
                self.transport.close()
        else:
            self.flow.resume_reading()

    def _is_ending(self) -> bool:
        return self._is_discarding or self.transport.is_closing()

    def on_message_begin(self) -> None:
        self._is_waiting = self._has_begun = True
        self._is_in_body = False
        self._header_bytes = self._header_lines = self._body_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + _LINE_OVERHEAD
        self._header_lines += 1
        if self._header_bytes > self.most_bytes or self._header_lines > _MAX_HEADER_LINES:
            self._refuse_head()
            raise _StopParsingError
        self._pieces += 1
        if self._pieces > _MAX_PIECES:
            self._stop_reading()
            raise _StopParsingError
        # A field behind the body is no header: a route may have read the headers already.
        if not self._is_in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._has_long_path():
            self._refuse_head()
            raise _StopParsingError
        if not has_one_host(self.headers) and self.parser.get_http_version() == "1.1":
            raise _StopParsingError
        self._is_in_body = True
        super().on_headers_complete()
        self.cycle.transport = self._answers  # type: ignore[assignment]
        self.scope["extensions"] = {RENDERED_ANSWERS: ref(self.cycle)}  # type: ignore[dict-item]
        if self.parser.should_upgrade():
            # There is no other protocol here. What follows would be of it, and is not read.
            self.cycle.keep_alive = False
        if self.listener.draining:
            self.end_after_answer()

    def on_body(self, body: bytes) -> None:
        self._bytes_without_body -= len(body)
        self._body_bytes += len(body)
        self._pieces += 1
        if self._body_bytes > self.limits.max_body_bytes or self._pieces > _MAX_PIECES:
            self._stop_reading()
            raise _StopParsingError
        super().on_body(body)

    def on_response_complete(self) -> None:
        self._answers.end_answer()
        super().on_response_complete()
        if self._has_eof and not (self.pipeline or self._unparsed):
            self.transport.close()
        if self.transport.is_closing():
            self._stalled.watch()
        elif self.pipeline or self._unparsed:
            # uvicorn reads on after each answer, also while requests wait.
            self.flow.pause_reading()
            self.loop.call_soon(self.data_received, b"")
        else:
            self.listener.waits(self)

    def on_message_complete(self) -> None:
        self._is_waiting = self._has_begun = False
        # What follows in the same piece is of the next request: it counts from the next piece on.
        self._bytes_without_body = 0
        self.listener.is_busy(self)
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - of uvicorn's interface
        # The caller has its answer already if our own limits have stopped the parser.
        if not self._is_ending():
            self.transport.write(self.refusals.bad_request(self.headers))
            self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        self._is_discarding = True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled.watch()

    def resume_writing(self) -> None:
        self._stalled.end()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._stalled.watch()

    def end_after_answer(self) -> None:
        """Let the last answer say `Connection: close`.

        A request that came behind one whose answer should have said so is answered, too.
        """
        if self._unparsed:
            return
        cycle, earlier = self.cycle, self._last_cycle
        if cycle is None or cycle.response_started or not cycle.keep_alive:
            return
        if earlier is not None and earlier is not cycle and not earlier.response_started:
            earlier.keep_alive = True
        cycle.keep_alive = False
        self._last_cycle = cycle

    def give_up(self) -> None:
        self._is_discarding = True
        self.transport.abort()

    def shutdown(self) -> None:
        """End the connection when the server stops, after the requests that have come."""
        if self._unparsed:
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.end_after_answer()
            self.cycle.keep_alive = False
        elif self._is_discarding:
            self.transport.abort()
        else:
            self.loop.call_later(_LAST_READ_SECONDS, self._close_unless_begun)

    def _close_unless_begun(self) -> None:
        if self.transport.is_closing():
            return
        if self._has_begun:
            self._end_deadline()
            self._start_deadline(_LAST_REQUEST_SECONDS)
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _stop_reading(self) -> None:
        """Close the connection after the answers to the requests whose headers have come."""
        if self.cycle is None or self.cycle.response_complete:
            self._linger()
        else:
            self._is_discarding = True
            self.cycle.keep_alive = False
            self.flow.pause_reading()

    def _refuse_head(self) -> None:
        """Answer and close. Where an earlier request is not answered yet, there is no answer."""
        if self._is_in_body:
            self._stop_reading()
        elif self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
        else:
            is_url = self._has_long_path() or len(self.url) > self.limits.max_header_bytes
            refuse = self.refusals.url_too_long if is_url else self.refusals.headers_too_large
            self.transport.write(refuse(self.headers))
            self._linger()

    def _has_long_path(self) -> bool:
        return len(self.url) > _MAX_PATH_BYTES and self.url.find(b"?", 0, _MAX_PATH_BYTES) < 0

    def _linger(self) -> None:
        """Close the connection, but not before its caller has had time for the last answer."""
        self._is_discarding = True
        self._end_deadline()
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > _LINGER_BYTES:
            self.transport.abort()

    def _start_deadline(self, seconds: float) -> None:
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def protocol_for(settings: ServiceSettings, listener: Connections) -> type[Protocol]:
    """A class for uvicorn, which gives no arguments of ours to the protocols that it makes."""
    most, refusals = 2 * settings.max_header_bytes, Refusals(settings.cors_origins)
    attributes = {"limits": settings, "listener": listener, "refusals": refusals}
    return type("Protocol", (Protocol,), {**attributes, "most_bytes": most})
