"""Complete replies, cached for the same request of the same caller.

An entry is valid for one served state and until a moment: a swap, a change of grants, midnight and
the deadline all end it. Its key holds the address, the verified caller, and every other header on
which an answer may depend. So no caller gets another caller's reply, and a caller who sends a new
token with each request gets his own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cachetools import LRUCache
from starlette.types import Message, Scope

from api.auth.sign_in import Caller
from api.store.state import ServedState
from api.transport.rendered_answers import Head, render

CACHE_HINT = "storecast.cache_hint"
"""The key of the scope under which a route finds the `CacheHint` of its reply."""
_KEY_HEADERS = frozenset(
    {
        b"accept",
        b"accept-encoding",
    }
)
_PAGE = b"/"
_PAGE_KEY_HEADERS = _KEY_HEADERS | {b"accept-language"}
"""The page is in the caller's language. Other answers have none."""
_NOT_IN_304 = frozenset({b"content-length", b"content-type", b"content-encoding"})
_OVERHEAD_BYTES = 3072
"""The approximate memory of an entry besides its body."""
_MAX_TAGS = 64
_MIN_REPLIES = 8
"""The cache takes only replies of which it could hold so many."""

ReplyKey = tuple[bytes, bytes, tuple[str, str, str | None], tuple[tuple[bytes, bytes], ...]]


@dataclass(slots=True)
class CacheHint:
    """Until when the reply is right for the same request. None: it must not be cached."""

    until: datetime | None = None


@dataclass(slots=True)
class CachedReply:
    """A complete reply: `start` and `body` as ASGI messages, and `unchanged`, the head of a 304."""

    etag: bytes
    start: Message
    body: Message
    unchanged: Message
    route: str
    until: datetime
    _heads: tuple[Head, Head] | None = None

    @property
    def heads(self) -> tuple[Head, Head]:
        """Both heads as they are sent, which are rendered at the first use."""
        if self._heads is None:
            self._heads = render(self.start), render(self.unchanged)
        return self._heads

    @property
    def size(self) -> int:
        return len(self.body["body"]) + _OVERHEAD_BYTES


class ReplyCache:
    """Up to `max_bytes` of replies, without the least recently used. For one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._state: ServedState | None = None
        self._replies = self._empty()
        # None: nobody waits for it.
        self._begun: dict[ReplyKey, asyncio.Event | None] = {}

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def size(self) -> int:
        """The bytes of all entries."""
        return int(self._replies.currsize)

    def get(self, key: ReplyKey, state: ServedState, now: datetime) -> CachedReply | None:
        if state is not self._state:
            self._state, self._replies = state, self._empty()
            return None
        try:
            reply = self._replies[key]
        except KeyError:
            return None
        if now >= reply.until:
            del self._replies[key]
            return None
        return reply

    def begun(self, key: ReplyKey) -> asyncio.Event | None:
        """What is set as soon as the reply is made, if somebody makes it now."""
        if key not in self._begun:
            return None
        event = self._begun[key]
        if event is None:
            event = self._begun[key] = asyncio.Event()
        return event

    def begin(self, key: ReplyKey) -> None:
        """Whoever asks for the same until `end` may wait for it."""
        self._begun.setdefault(key, None)

    def end(self, key: ReplyKey) -> None:
        """Does nothing for a reply that nobody makes."""
        event = self._begun.pop(key, None)
        if event is not None:
            event.set()

    def put(self, key: ReplyKey, state: ServedState, reply: CachedReply) -> None:
        """Does nothing if another state is served since the reply was begun."""
        if state is self._state and reply.size <= self._max_bytes // _MIN_REPLIES:
            self._replies[key] = reply

    def _empty(self) -> LRUCache[ReplyKey, CachedReply]:
        return LRUCache(self._max_bytes, getsizeof=lambda reply: reply.size)


def key_of(scope: Scope, caller: Caller) -> ReplyKey:
    names = _PAGE_KEY_HEADERS if scope["raw_path"] == _PAGE else _KEY_HEADERS
    headers = tuple([pair for pair in scope["headers"] if pair[0] in names])
    return scope["raw_path"], scope["query_string"], caller.identity, headers


def unchanged(start: Message) -> Message:
    """The head of a 304 (RFC 9110, 15.4.5) from the head of the 200."""
    headers = [pair for pair in start["headers"] if pair[0].lower() not in _NOT_IN_304]
    return {"type": "http.response.start", "status": 304, "headers": headers}


def header_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first header `name`, which must be in lower case."""
    for header, value in headers:
        if header.lower() == name:
            return value
    return None


def matches(if_none_match: bytes, etag: bytes) -> bool:
    """Weak comparison (RFC 9110, 13.1.2). What follows after many tags is not read."""
    if if_none_match == etag:
        return True
    if if_none_match.strip() == b"*":
        return True
    tags = if_none_match.split(b",", _MAX_TAGS)[:_MAX_TAGS]
    return any(tag.strip().removeprefix(b"W/") == etag for tag in tags)
