"""Few requests of a caller begin in one turn of the event loop, the others in later turns.

All that has come at the same moment is done in one turn, so that hundreds of requests of one caller
would keep all others waiting until the last one has begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

_IN_ONE_TURN = 4
"""Each takes half a millisecond, and a turn of its own a tenth of that."""


@dataclass(slots=True)
class _CallersTurn:
    """`begun` in this turn. `waiting` in the order in which they came."""

    begun: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Turns:
    """For one event loop."""

    def __init__(self, in_one_turn: int = _IN_ONE_TURN) -> None:
        self._in_one_turn = in_one_turn
        self._callers: dict[str, _CallersTurn] = {}

    def __len__(self) -> int:
        """The callers of whom a request began in this turn, or waits."""
        return len(self._callers)

    async def wait(self, name: str) -> None:
        """Return at once for a caller's first requests of a turn, for others in later turns."""
        loop = asyncio.get_running_loop()
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = _CallersTurn()
            loop.call_soon(self._begin_turn, loop, name, caller)
        if caller.begun < self._in_one_turn:
            caller.begun += 1
            return
        turn = loop.create_future()
        caller.waiting.append(turn)
        await turn

    def _begin_turn(self, loop: asyncio.AbstractEventLoop, name: str, caller: _CallersTurn) -> None:
        caller.begun = 0
        while caller.waiting and caller.begun < self._in_one_turn:
            turn = caller.waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                caller.begun += 1
        if caller.begun:
            loop.call_soon(self._begin_turn, loop, name, caller)
        else:
            del self._callers[name]
