"""`python -m tests.processes.flood PORT CONNECTIONS` floods a server until it is killed.

Standard input is one JSON object: `begin` is sent once on each connection, `again` over and over.
`reads`: answers are read, and each is waited for. `ends`: nothing more is sent after the first
`again`. `resets`: a connection is reset as soon as it has sent. `peers`: from how many addresses
they come. `bytes_per_second`: what each connection reads in a second, 0 for as much as there is.
Connections that the server closes are opened anew. `{number}` in `again` is another number, of four
digits, each time.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

_RECEIVE_BUFFER = 4096
"""Of a caller that reads slowly: what the kernel holds has left the server's memory."""
_NUMBERS = itertools.cycle(range(1000, 10_000))


@dataclass
class Flood:
    port: int
    begin: bytes
    again: bytes
    reads: bool
    ends: bool
    bytes_per_second: int
    resets: bool
    peers: int

    def next(self) -> bytes:
        return self.again.replace(b"{number}", b"%d" % next(_NUMBERS))


@dataclass
class Connection:
    flood: Flood
    socket: socket.socket = field(init=False)
    unsent: bytes = field(init=False)
    is_waiting: bool = False
    next_read: float = 0.0

    def __post_init__(self) -> None:
        self.socket = socket.socket()
        if self.flood.bytes_per_second:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        if self.flood.peers > 1:
            self.socket.bind((f"127.0.1.{next(_NUMBERS) % self.flood.peers + 1}", 0))
        self.socket.connect(("127.0.0.1", self.flood.port))
        self.socket.setblocking(False)
        self.unsent = self.flood.begin + self.flood.next()

    def go_on(self) -> None:
        """Send and read what is possible now. Raises OSError if the connection is closed."""
        if not self.unsent and not self.is_waiting:
            self.unsent = self.flood.next()
        with suppress(BlockingIOError):
            if self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
                if not self.unsent and self.flood.ends:
                    self.socket.shutdown(socket.SHUT_WR)
                self.is_waiting = not self.unsent and (self.flood.reads or self.flood.ends)
                if not self.unsent and self.flood.resets:
                    self.reset()
        with suppress(BlockingIOError):
            if self.flood.reads:
                self.read()

    def reset(self) -> None:
        """Close so that the other side is told of an error. Raises ConnectionResetError."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionResetError

    def read(self) -> None:
        if not self.flood.bytes_per_second:
            if not self.socket.recv(262_144):
                raise ConnectionResetError
            self.is_waiting = self.flood.ends
        elif time.monotonic() >= self.next_read:
            self.next_read = time.monotonic() + 1
            if not self.socket.recv(self.flood.bytes_per_second):
                raise ConnectionResetError


def main() -> None:
    port, count = map(int, sys.argv[1:])
    options = json.loads(sys.stdin.read())
    options |= {name: options[name].encode("latin-1") for name in ("begin", "again")}
    flood = Flood(port, **options)
    connections: list[Connection | None] = [None] * count
    print("begun", flush=True)  # noqa: T201
    while True:
        for index, connection in enumerate(connections):
            try:
                if connection is None:
                    connections[index] = Connection(flood)
                else:
                    connection.go_on()
            except OSError:
                if connection is not None:
                    connection.socket.close()
                connections[index] = None
        time.sleep(0.0005)


if __name__ == "__main__":
    main()
