"""The breaker, and reads with deadlines."""

from __future__ import annotations

import asyncio
import threading

import pytest

from api.store.storage_pool import Breaker, StoragePool
from ray_job.bucket.errors import NotFoundError, StorageError


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_breaker_opens_after_failures_in_a_row_and_allows_single_trials():
    clock = Seconds()
    breaker = Breaker(clock)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(2):
        breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    clock.now = 9.9
    assert not breaker.allows()
    clock.now = 10.0
    assert [breaker.allows(), breaker.allows()] == [True, False]
    clock.now = 20.0
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows(), breaker.allows()] == [True, True]
    breaker.failed(at_once=True)
    assert not breaker.allows()


def raise_error(error: Exception) -> None:
    raise error


def test_reads_fail_at_once_after_failures_and_missing_objects_are_no_failures():
    async def run() -> None:
        pool = StoragePool()
        for number in range(5):
            with pytest.raises(NotFoundError):
                await pool.run(number, lambda: raise_error(NotFoundError("k")))
        for number in range(3):
            with pytest.raises(StorageError, match="no"):
                await pool.run(number, lambda: raise_error(StorageError("no")))
        with pytest.raises(StorageError, match="not asked for a while"):
            await pool.run("x", lambda: 1)
        pool.close()

    asyncio.run(run())


def test_a_read_that_hangs_is_left_and_its_result_is_shared():
    """The deadline passes, and who asks for the same gets what the read brings in the end."""
    release = threading.Event()
    reads = []

    def read() -> int:
        reads.append(1)
        release.wait(20)
        return 7

    async def run() -> None:
        pool = StoragePool()
        with pytest.raises(StorageError, match="within 0.05 seconds"):
            await pool.run("key", read, 0.05)
        with pytest.raises(StorageError, match="not asked"):
            await pool.run("other", read, 0.05)
        second = asyncio.create_task(pool.run("key", read, 20))
        await asyncio.sleep(0)
        release.set()
        assert await second == 7
        assert await pool.run("other", lambda: 8) == 8
        pool.close()

    asyncio.run(run())
    assert reads == [1]


def test_the_reads_that_wait_are_bounded():
    release = threading.Event()

    async def run() -> None:
        pool = StoragePool(threads=1)
        reads = [
            asyncio.create_task(pool.run(number, lambda: release.wait(20), 20))
            for number in range(64)
        ]
        await asyncio.sleep(0)
        with pytest.raises(StorageError, match="too many"):
            await pool.run("x", lambda: True)
        release.set()
        assert all(await asyncio.gather(*reads))
        pool.close()

    asyncio.run(run())
