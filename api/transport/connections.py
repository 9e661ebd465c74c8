"""The open connections of one listener: how many there may be, and which of them may go.

A connection waits for its caller while no request of it is being answered. Connections that wait
make room for new ones, so that callers who send nothing keep nobody out.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol as Interface


class Connection(Interface):
    """What the table needs of a connection."""

    def give_up(self) -> None:
        """Close without an answer. The connection waits for its caller."""

    def end_after_answer(self) -> None:
        """Let the answer to the last request that came say that the connection is closed."""


class Connections:
    """Up to `total` connections, up to `per_peer` of one address. For one event loop.

    `draining`: every answer from now on says that its connection is closed.
    """

    def __init__(self, total: int, per_peer: int) -> None:
        self.draining = False
        self._total = total
        self._per_peer = per_peer
        self._peers: dict[Connection, str] = {}
        self._count: Counter[str] = Counter()
        # In the order in which they began to wait.
        self._waiting: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def admit(self, connection: Connection, peer: str) -> bool:
        """Add a connection, which waits for its caller. False: there are too many.

        The connection that has waited longest makes room for it: one of the same peer if the peer
        has too many.
        """
        if self._count[peer] >= self._per_peer:
            is_full = not self._make_room(peer)
        elif len(self._peers) >= self._total:
            is_full = not self._make_room(None)
        else:
            is_full = False
        if is_full:
            return False
        self._peers[connection] = peer
        self._count[peer] += 1
        self._waiting[connection] = None
        return True

    def remove(self, connection: Connection) -> None:
        """Does nothing for a connection that was not admitted or is removed already."""
        self._waiting.pop(connection, None)
        peer = self._peers.pop(connection, None)
        if peer is not None:
            self._count[peer] -= 1
            if not self._count[peer]:
                del self._count[peer]

    def waits(self, connection: Connection) -> None:
        """The connection waits for its caller from now on."""
        if connection in self._peers:
            self._waiting[connection] = None

    def is_busy(self, connection: Connection) -> None:
        """A whole request has come, so that its caller waits for the answer."""
        self._waiting.pop(connection, None)

    def drain(self) -> None:
        """Let every connection end with an answer. Those without a request stay open."""
        self.draining = True
        for connection in list(self._peers):
            connection.end_after_answer()

    def _make_room(self, peer: str | None) -> bool:
        """Close the connection that has waited longest, of all or of one peer."""
        for connection in self._waiting:
            if peer is None or self._peers[connection] == peer:
                self.remove(connection)
                connection.give_up()
                return True
        return False
