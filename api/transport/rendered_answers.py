"""Answers from the cache, whose head is written out once and not with each request.

uvicorn checks and joins the lines of each head anew, which takes a quarter of the time that an
answer from the cache needs. The protocol offers the application another way, as an extension of
ASGI (decision 0113).
"""

from __future__ import annotations

from starlette.types import Message, Scope
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

RENDERED_ANSWERS = "storecast.rendered_answers"
"""The name of the extension. Its value is a weak reference to uvicorn's cycle of the request and
the answer, which writes to a `JoinedWrites`. The cycle has the scope: a strong reference would
leave every request to the garbage collector.
"""
MAX_BODY_BYTES = 65_536
"""Longer bodies are sent in pieces."""

Head = tuple[bytes, bytes]
"""The status line, and the lines behind those that the server adds."""


def render(start: Message) -> Head:
    """The head of an answer that says how long it is, and that uvicorn has sent before.

    Raises RuntimeError, as uvicorn does, for what is no header.
    """
    lines = []
    for name, value in start["headers"]:
        if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
            raise RuntimeError(f"{name!r} cannot be sent")
        lines += [name.lower(), b": ", value, b"\r\n"]
    return STATUS_LINE[start["status"]], b"".join(lines)


def can_send(cycle: RequestResponseCycle) -> bool:
    """Whether nothing is sent yet, and the caller takes what is sent."""
    return not (cycle.response_started or cycle.disconnected or cycle.flow.write_paused)


def send_rendered(cycle: RequestResponseCycle, head: Head, body: bytes) -> None:
    """Send the whole answer to a request, of which nothing is sent yet."""
    pieces = [head[0]]
    for name, value in cycle.default_headers:
        pieces += (name, b": ", value, b"\r\n")
    pieces += (head[1], b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write_whole(b"".join(pieces))  # type: ignore[attr-defined]
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


def cycle_of(scope: Scope) -> RequestResponseCycle | None:
    """None on a server without the extension."""
    extensions = scope.get("extensions")
    reference = None if extensions is None else extensions.get(RENDERED_ANSWERS)
    return None if reference is None else reference()
