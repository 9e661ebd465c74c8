"""How often Python looks for unreachable cycles of objects while a run is made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLDS = (50_000, 20, 100)
"""New objects until a collection of the youngest generation, and collections of a generation until
one of the next. In Python 3.11 the first one is 700."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let Python look for unreachable cycles rarely.

    A plan of 100,000 stores and its results are objects by the hundred thousand, of which nearly
    none is part of a cycle, and each collection goes through some of them: 563 collections take
    0.29 of the main thread's 6.1 s of processor time, with these thresholds 6 take 0.06 s. What
    waits for a collection is at most 50,000 objects, some MB.
    """
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
