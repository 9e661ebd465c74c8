"""Callers that take nothing of their answers."""

from __future__ import annotations

import asyncio

_STALLED_SECONDS = 10.0
"""A caller that takes nothing of its answer for so long is cut off."""


class StalledWrites:
    """Watches what is not sent yet of one connection."""

    __slots__ = ("_loop", "_timer", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, unsent: int | None = None) -> None:
        """Cut the caller off if it has taken nothing since `unsent` bytes were left to send."""
        self.end()
        size = self._transport.get_write_buffer_size()
        if unsent is not None and size >= unsent > 0:
            self._transport.abort()
        elif size:
            self._timer = self._loop.call_later(_STALLED_SECONDS, self.watch, size)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
