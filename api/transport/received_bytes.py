"""What a connection has received and has not parsed yet.

A caller may send any number of requests without waiting for answers. They are parsed one after the
other, as they can be answered, so that a read costs no more than a request.
"""

from __future__ import annotations

END_OF_HEAD = b"\r\n\r\n"


def ends_in_the_middle(data: bytes) -> bool:
    """Whether a request may end before the end of `data`."""
    end = data.find(END_OF_HEAD)
    return 0 <= end < len(data) - len(END_OF_HEAD)


class ReceivedBytes:
    """Its length is that of what is not parsed yet."""

    __slots__ = ("_data", "_start")

    def __init__(self) -> None:
        self._data = b""
        self._start = 0

    def __len__(self) -> int:
        return len(self._data) - self._start

    def add(self, data: bytes) -> None:
        self._data = self._data[self._start :] + data
        self._start = 0

    def next_piece(self) -> bytes:
        """Remove and return all up to the next place where a request may end."""
        end = self._data.find(END_OF_HEAD, self._start)
        end = len(self._data) if end < 0 else end + len(END_OF_HEAD)
        piece = self._data[self._start : end]
        self._start = end
        if end == len(self._data):
            self.clear()
        return piece

    def clear(self) -> None:
        self._data = b""
        self._start = 0
