"""How often Python looks for unreachable cycles of objects while a run is made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_THRESHOLDS = (50_000, 20, 100)
"""New objects until a collection of the youngest generation, and collections of a generation until
one of the next. In Python 3.11 the first one is 700."""


class _Thresholds:
    """The collector belongs to the process: collections are rare while any run of it is made.

    The last run that ends gives back the thresholds of before the first one.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs = 0
        self._before = gc.get_threshold()

    def begin(self) -> None:
        with self._lock:
            if not self._runs:
                self._before = gc.get_threshold()
                gc.set_threshold(*_THRESHOLDS)
            self._runs += 1

    def end(self) -> None:
        with self._lock:
            self._runs -= 1
            if not self._runs:
                gc.set_threshold(*self._before)


_OF_PROCESS = _Thresholds()


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let Python look for unreachable cycles rarely.

    A plan of 100,000 stores and its results are objects by the hundred thousand, of which nearly
    none is part of a cycle, and each collection goes through some of them: 563 collections take
    0.29 of the main thread's 6.1 s of processor time, with these thresholds 6 take 0.06 s. What
    waits for a collection is at most 50,000 objects, some MB.
    """
    _OF_PROCESS.begin()
    try:
        yield
    finally:
        _OF_PROCESS.end()
