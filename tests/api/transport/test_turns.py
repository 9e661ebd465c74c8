"""Few requests of a caller begin in a turn of the loop, however many have come."""

from __future__ import annotations

import asyncio

from api.transport.turns import Turns


def test_others_begin_at_once_and_the_requests_of_one_caller_in_their_order():
    async def begin_all() -> list[str]:
        turns, begun = Turns(1), []

        async def request(caller: str, name: str) -> None:
            await turns.wait(caller)
            begun.append(name)

        tasks = [asyncio.create_task(request("greedy", f"greedy {n}")) for n in range(4)]
        tasks.append(asyncio.create_task(request("anna", "anna 0")))
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(request("anna", "anna 1")))
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Who comes later has no turn before those who wait.
        await request("greedy", "greedy 4")
        return begun

    assert asyncio.run(begin_all()) == [
        "greedy 0", "anna 0", "anna 1", "greedy 1", "greedy 3", "greedy 4",
    ]  # fmt: skip


def test_nothing_is_remembered_of_callers_who_are_done():
    async def begin() -> int:
        turns = Turns(1)
        for number in range(5):
            await turns.wait(str(number))
            await turns.wait(str(number))
        for _ in range(3):
            await asyncio.sleep(0)
        return len(turns)

    assert asyncio.run(begin()) == 0
