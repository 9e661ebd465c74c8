"""Reads of the bucket that requests wait for: a bounded pool of threads, deadlines, a breaker.

What is served from memory or from the local disk never waits here. A read whose deadline has passed
goes on in its thread, so that what it brings is there for the next request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ray_job.bucket.errors import StorageError

_THREADS = 8
_MAX_READS = 64
"""Reads that run or wait. More are refused at once."""
_MAX_FAILURES = 3
_PAUSE_SECONDS = 10.0
DEADLINE_SECONDS = 5.0

Result = TypeVar("Result")


class Breaker:
    """Open after failures in a row: then no read is begun for a while, except for one trial."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._next_trial: float | None = None

    @property
    def is_open(self) -> bool:
        return self._next_trial is not None

    def allows(self) -> bool:
        """Whether a read may begin. While the breaker is open: one in `_PAUSE_SECONDS`."""
        if self._next_trial is None:
            return True
        now = self._clock()
        if now < self._next_trial:
            return False
        self._next_trial = now + _PAUSE_SECONDS
        return True

    def succeeded(self) -> None:
        self._failures, self._next_trial = 0, None

    def failed(self, *, at_once: bool = False) -> None:
        """`at_once`: the bucket is known to be away, so that one failure is enough."""
        self._failures = _MAX_FAILURES if at_once else self._failures + 1
        if self._failures >= _MAX_FAILURES and self._next_trial is None:
            self._next_trial = self._clock() + _PAUSE_SECONDS


class StoragePool:
    """For one event loop. `breaker` may also be told of reads that others make."""

    def __init__(self, breaker: Breaker | None = None, threads: int = _THREADS) -> None:
        self.breaker = breaker or Breaker()
        self._executor = ThreadPoolExecutor(threads, "storage")
        self._reads: dict[Any, asyncio.Future[Any]] = {}

    async def run(
        self, key: Any, read: Callable[[], Result], seconds: float = DEADLINE_SECONDS
    ) -> Result:
        """The result of `read`, which runs in a thread. Reads of one key at a time are one read.

        Raises StorageError at once if the bucket is known to be away or too many reads wait, or
        when the deadline passes; and what `read` raises.
        """
        future = self._reads.get(key)
        if future is None:
            future = self._begin(key, read)
        await asyncio.wait({future}, timeout=seconds)
        if not future.done():
            self.breaker.failed(at_once=True)
            raise StorageError(f"the storage did not answer within {seconds:g} seconds")
        result: Result = future.result()
        return result

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _begin(self, key: Any, read: Callable[[], Result]) -> asyncio.Future[Result]:
        if len(self._reads) >= _MAX_READS:
            raise StorageError("too many reads of the storage wait")
        if not self.breaker.allows():
            raise StorageError("the storage does not answer, and is not asked for a while")
        future = asyncio.get_running_loop().run_in_executor(self._executor, read)
        self._reads[key] = future
        future.add_done_callback(lambda done: self._end(key, done))
        return future

    def _end(self, key: Any, future: asyncio.Future[Any]) -> None:
        del self._reads[key]
        if future.cancelled():
            return
        if isinstance(future.exception(), StorageError):
            self.breaker.failed()
        else:
            # An object that is missing or damaged is an answer, too.
            self.breaker.succeeded()
