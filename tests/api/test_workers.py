"""Callers take turns, and nobody's work waits without bound."""

from __future__ import annotations

import asyncio
import threading

import pytest

from api.problems import TooManyRequestsError
from api.workers import Workers


def test_callers_take_turns():
    order: list[str] = []
    begin = threading.Event()

    async def run() -> None:
        workers = Workers(threads=1)
        first = asyncio.create_task(workers.run("greedy", lambda: begin.wait(20)))
        await asyncio.sleep(0)
        rest = [
            asyncio.create_task(workers.run(caller, lambda caller=caller: order.append(caller)))
            for caller in ("greedy", "greedy", "greedy", "anna", "ben")
        ]
        await asyncio.sleep(0)
        begin.set()
        await asyncio.gather(first, *rest)
        workers.close()

    asyncio.run(run())
    assert order == ["anna", "ben", "greedy", "greedy", "greedy"]


def test_one_caller_leaves_a_thread_to_the_others():
    begin = threading.Event()

    async def run() -> None:
        workers = Workers(threads=2)
        waiting = [
            asyncio.create_task(workers.run("greedy", lambda: begin.wait(20))) for _ in range(5)
        ]
        await asyncio.sleep(0)
        assert await workers.run("anna", lambda: 7) == 7
        begin.set()
        assert all(await asyncio.gather(*waiting))
        workers.close()

    asyncio.run(run())


def test_too_much_waiting_work_of_one_caller_is_refused():
    begin = threading.Event()

    async def run() -> None:
        workers = Workers(threads=1, max_waiting=2)
        waiting = [
            asyncio.create_task(workers.run("greedy", lambda: begin.wait(20))) for _ in range(3)
        ]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequestsError):
            await workers.run("greedy", lambda: True)
        begin.set()
        assert all(await asyncio.gather(*waiting))
        workers.close()

    asyncio.run(run())


def test_errors_and_cancelled_work():
    done: list[int] = []
    begin = threading.Event()

    async def run() -> None:
        workers = Workers(threads=1)

        def fail() -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await workers.run("anna", fail)
        first = asyncio.create_task(workers.run("anna", lambda: begin.wait(20)))
        second = asyncio.create_task(workers.run("anna", lambda: done.append(1)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        begin.set()
        assert await first
        assert await workers.run("anna", lambda: 7) == 7
        workers.close()

    asyncio.run(run())
    assert done == []
