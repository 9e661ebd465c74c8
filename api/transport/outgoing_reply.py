"""An answer of the routes on its way to the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import Message, Scope, Send

from api.transport.pieces import send_in_pieces
from api.transport.reply_cache import (
    CACHE_HINT,
    CachedReply,
    CacheHint,
    header_value,
    matches,
    unchanged,
)

OK = 200
UNCHANGED = 304
UNMATCHED = "unmatched"
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")


def route_of(scope: Scope) -> str:
    """The template of the route that answered, so that metrics have few labels."""
    return getattr(scope.get("route"), "path", UNMATCHED)


@dataclass
class OutgoingReply:
    """Holds the head of a cacheable reply back until its body comes, to send a 304 instead.

    `on_made` is called before the head is sent: with the reply if it may be cached.
    """

    scope: Scope
    forward: Send
    on_made: Callable[[CachedReply | None], None] | None = None
    status: int = 0
    is_complete: bool = False
    _held_start: Message | None = None
    _hint: CacheHint = field(default_factory=CacheHint)

    def __post_init__(self) -> None:
        self.scope[CACHE_HINT] = self._hint

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if header_value(message["headers"], _NO_SNIFFING[0]) is None:
                message["headers"] = [*message["headers"], _NO_SNIFFING]
            if self.on_made is not None and self.status == OK:
                self._held_start = message
            else:
                await self.forward(message)
            return
        body, is_last = message.get("body", b""), not message.get("more_body", False)
        if self._held_start is not None:
            start, self._held_start = self._held_start, None
            start, body = self._final(start, body) if is_last else (start, body)
            await self.forward(start)
        await send_in_pieces(self.forward, body, is_last=is_last)
        self.is_complete = is_last

    def _final(self, start: Message, body: bytes) -> tuple[Message, bytes]:
        """The head and the body to send: the reply's, or a 304 if the caller has these bytes."""
        etag = header_value(start["headers"], b"etag")
        reply: CachedReply | None = None
        if etag is not None and self._hint.until is not None:
            reply = CachedReply(
                etag=etag,
                start=start,
                body={"type": "http.response.body", "body": body},
                unchanged=unchanged(start),
                route=route_of(self.scope),
                until=self._hint.until,
            )
        if self.on_made is not None:
            self.on_made(reply)
        if_none_match = header_value(self.scope["headers"], b"if-none-match")
        if etag is None or if_none_match is None or not matches(if_none_match, etag):
            return start, body
        self.status = UNCHANGED
        return (unchanged(start) if reply is None else reply.unchanged), b""
