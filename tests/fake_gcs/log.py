"""What was asked of the fake, in order of arrival of the answers."""

from __future__ import annotations

import threading
from fnmatch import fnmatchcase
from typing import NamedTuple


class Entry(NamedTuple):
    """One request. `status` 0 means that no answer was sent; sizes are bytes of the bodies."""

    method: str
    api: str
    op: str
    bucket: str
    key: str
    query: dict[str, str]
    received: int
    sent: int
    status: int
    fault: str


class Log:
    """Thread-safe; requests are counted when they are answered (or cut off)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        with self._lock:
            self._entries.append(entry)

    @property
    def entries(self) -> list[Entry]:
        """A copy of all entries."""
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def select(
        self, *, method: str = "*", op: str = "*", key: str = "*", status: int | None = None
    ) -> list[Entry]:
        """The entries whose method, op and key match these patterns (`*` crosses slashes)."""
        return [
            entry
            for entry in self.entries
            if fnmatchcase(entry.method, method)
            and fnmatchcase(entry.op, op)
            and fnmatchcase(entry.key, key)
            and status in (None, entry.status)
        ]

    def count(
        self, *, method: str = "*", op: str = "*", key: str = "*", status: int | None = None
    ) -> int:
        return len(self.select(method=method, op=op, key=key, status=status))

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)
