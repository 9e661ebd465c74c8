"""Threads for work that would hold the event loop for longer than some milliseconds.

Callers take turns: nobody's work waits for more than the work at hand and one piece of each other
caller.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from api.problems import ProblemError, TooManyRequestsError

_THREADS = 2
_MAX_WAITING = 16
"""Pieces of work of one caller that wait. More are refused."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Piece:
    function: Callable[[], Any]
    check: Callable[[], None]
    result: asyncio.Future[Any]


class Workers:
    """For one event loop. At most one piece of a caller's work is done at a time."""

    def __init__(self, threads: int = _THREADS, max_waiting: int = _MAX_WAITING) -> None:
        self._executor = ThreadPoolExecutor(threads, "worker")
        self._idle = threads
        self._max_waiting = max_waiting
        # In the order in which the callers are served next.
        self._waiting: OrderedDict[str, deque[_Piece]] = OrderedDict()
        self._busy: set[str] = set()

    async def run(
        self, caller: str, function: Callable[[], Result], check: Callable[[], None] = lambda: None
    ) -> Result:
        """The result of `function`. Raises what it raises, and TooManyRequestsError.

        `check` is called in the loop's thread before the work begins. If it raises, nothing is
        done.
        """
        self.check_room(caller)
        queue = self._waiting.setdefault(caller, deque())
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        queue.append(_Piece(function, check, result))
        self._begin_next()
        return await result

    def check_room(self, caller: str) -> None:
        """Raise TooManyRequestsError if so much of the caller's work waits that no more may."""
        if len(self._waiting.get(caller, ())) >= self._max_waiting:
            raise TooManyRequestsError(
                f"{self._max_waiting} of your requests are waiting already",
                headers={"Retry-After": "1"},
            )

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _begin_next(self) -> None:
        while self._idle:
            caller = next((name for name in self._waiting if name not in self._busy), None)
            if caller is None:
                return
            queue = self._waiting[caller]
            piece = queue.popleft()
            if not queue:
                del self._waiting[caller]
            if piece.result.cancelled():
                continue
            try:
                piece.check()
            except ProblemError as error:
                piece.result.set_exception(error)
                continue
            self._idle -= 1
            self._busy.add(caller)
            done = asyncio.get_running_loop().run_in_executor(self._executor, piece.function)
            done.add_done_callback(partial(self._end, caller, piece))

    def _end(self, caller: str, piece: _Piece, done: asyncio.Future[Any]) -> None:
        self._idle += 1
        self._busy.discard(caller)
        if caller in self._waiting:
            self._waiting.move_to_end(caller)
        error = None if done.cancelled() else done.exception()
        if not piece.result.done():
            if done.cancelled():
                piece.result.cancel()
            elif error is not None:
                piece.result.set_exception(error)
            else:
                piece.result.set_result(done.result())
        self._begin_next()
