"""Answers remembered whole: the same question of the same caller, about what is served now.

An entry holds for one `Served` object and until a moment: a swap, a change of grants, midnight, the
deadline and the end of the token all make it go. Its key is the address with every header that an
answer may depend on, the credentials among them, so that nobody is given another one's answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from starlette.types import Message, Scope

from api.served import Served

VARYING = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"authorization",
        b"x-goog-iap-jwt-assertion",
        b"origin",
    }
)
_NOT_IN_304 = frozenset({b"content-length", b"content-type", b"content-encoding"})
_OVERHEAD = 2048
"""What an entry costs besides its body, roughly: key, headers and bookkeeping."""

Key = tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete reply: `start` and `body` as ASGI messages, `unchanged` for a 304."""

    etag: bytes
    start: Message
    body: Message
    unchanged: Message
    route: str
    caller: str
    until: datetime

    @property
    def size(self) -> int:
        return len(self.body["body"]) + _OVERHEAD


class Memory:
    """Least recently used entries go when `limit` bytes are exceeded. For one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._of: Served | None = None
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def get(self, key: Key, served: Served, now: datetime) -> Entry | None:
        if served is not self._of:
            self._forget(served)
            return None
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.until:
            self._bytes -= self._entries.pop(key).size
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: Key, served: Served, entry: Entry) -> None:
        """Does nothing where another `served` has come since the answer was begun."""
        if served is not self._of or entry.size > self._limit // 8:
            return
        before = self._entries.pop(key, None)
        self._bytes += entry.size - (before.size if before is not None else 0)
        self._entries[key] = entry
        while self._bytes > self._limit:
            self._bytes -= self._entries.popitem(last=False)[1].size

    def _forget(self, served: Served) -> None:
        self._of, self._bytes = served, 0
        self._entries = OrderedDict()


def key_of(scope: Scope) -> Key:
    headers = tuple([pair for pair in scope["headers"] if pair[0] in VARYING])
    return scope["raw_path"], scope["query_string"], headers


def unchanged(start: Message) -> Message:
    """The head of a 304 (RFC 9110, 15.4.5) from that of the 200."""
    headers = [pair for pair in start["headers"] if pair[0].lower() not in _NOT_IN_304]
    return {"type": "http.response.start", "status": 304, "headers": headers}


def etag_of(start: Message) -> bytes | None:
    return header(start["headers"], b"etag")


def header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    for name, value in headers:
        if name.lower() == wanted:
            return value
    return None


def matches(if_none_match: bytes, etag: bytes) -> bool:
    """Weak comparison (RFC 9110, 13.1.2)."""
    if if_none_match == etag:
        return True
    if if_none_match.strip() == b"*":
        return True
    return any(each.strip().removeprefix(b"W/") == etag for each in if_none_match.split(b","))
