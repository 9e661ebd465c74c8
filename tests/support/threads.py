"""Calls that race each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of the calls, each in a thread of its own; all begin at the same moment.

    Raises what the first of them in the list that failed has raised.
    """
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))
