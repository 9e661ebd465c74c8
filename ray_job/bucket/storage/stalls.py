"""Calls that may stall where nothing can interrupt them, and that are given up in time.

Arrow's streams wait for two minutes where an answer stalls, and have no setting for it. Such a call
runs in a thread of its own. If it takes too long, its thread is left to it and never used again.
See decision 0105.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from ray_job.bucket.errors import StorageError

_Answer = tuple[bytes | None, BaseException | None]


class StalledError(StorageError):
    """The call did not end in time. What it took is waiting, as of each request that failed."""


class _Caller:
    """A daemon thread that makes one call after the other."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], bytes]] = SimpleQueue()
        self.answers: SimpleQueue[_Answer] = SimpleQueue()
        threading.Thread(target=self._serve, name="stalls", daemon=True).start()

    def _serve(self) -> None:
        while True:
            call = self.calls.get()
            try:
                self.answers.put((call(), None))
            except BaseException as error:  # noqa: BLE001 - it is raised where the call was asked for
                self.answers.put((None, error))


class StallWatch:
    """Makes calls in threads that are used again. Thread-safe."""

    def __init__(self) -> None:
        self._idle: list[_Caller] = []

    def call(self, read: Callable[[], bytes], seconds: float) -> bytes:
        """What `read` returns or raises. Raises StalledError after so many seconds."""
        try:
            caller = self._idle.pop()
        except IndexError:
            caller = _Caller()
        caller.calls.put(read)
        try:
            data, error = caller.answers.get(timeout=seconds)
        except Empty:
            raise StalledError from None
        self._idle.append(caller)
        if error is not None:
            raise error
        return data or b""
