"""The head of an answer and the first piece of its body in one write.

uvicorn writes them one after the other, and each write is a system call, which takes as long as all
else that the answer from a cache needs.
"""

from __future__ import annotations

import asyncio

_MAX_COPIED_BYTES = 65_536
"""Longer pieces are not copied behind the head."""
_INTERIM = b"HTTP/1.1 1"
"""An answer that comes before the answer proper (RFC 9110, 15.2) goes at once: its caller waits."""


class JoinedWrites:
    """What uvicorn's cycle of a request and its answer uses of a transport.

    The first write, which is the head, waits for the second or for the end of the answer. Nothing
    is written to a connection that is closed already.
    """

    __slots__ = ("_has_begun", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._has_begun = False

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        head = self._head
        if head is not None:
            self._head = None
            if len(data) <= _MAX_COPIED_BYTES:
                self._transport.write(head + data)
            else:
                self._transport.writelines((head, data))
        elif self._has_begun or data.startswith(_INTERIM):
            self._transport.write(data)
        else:
            self._has_begun = True
            self._head = data

    def write_whole(self, answer: bytes) -> None:
        """Write an answer with its head and its body."""
        if not self._transport.is_closing():
            self._transport.write(answer)

    def end_answer(self) -> None:
        """Write a head that has no body. The next write is the head of another answer."""
        self._has_begun = False
        if self._head is not None:
            head, self._head = self._head, None
            if not self._transport.is_closing():
                self._transport.write(head)

    def close(self) -> None:
        self.end_answer()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()
