"""A real server on a free loopback port, in a thread, with a clock that the test sets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from api.front import Front
from api.main import create_app
from api.server import Server
from api.service import Service
from api.settings import Settings
from tests.api.bucket import NOON


@dataclass
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Served:
    """A running service: `client` talks to it, `clock` may be set, `service` looked into."""

    client: httpx.Client
    clock: Clock
    service: Service
    front: Front
    port: int
    loop: asyncio.AbstractEventLoop = field(repr=False)

    def refresh(self) -> None:
        """Look at the bucket now."""
        asyncio.run_coroutine_threadsafe(self.service.refresher.look(), self.loop).result(30)

    def get(self, url: str, **arguments: Any) -> httpx.Response:
        return self.client.get(url, **arguments)


def settings_for(bucket: str, **changes: Any) -> Settings:
    return Settings(**{"bucket": bucket, "port": 0, "access_log": False, **changes})


@contextmanager
def serve(bucket: str, *, clock: Clock | None = None, **changes: Any) -> Iterator[Served]:
    clock = clock or Clock()
    app = create_app(settings_for(bucket, **changes), clock)
    loops: list[asyncio.AbstractEventLoop] = []
    server = Server(app, app.service.settings)
    # The protocol must be named: it is how asyncio tells that TCP_NODELAY makes sense.
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]

        async def run() -> None:
            loops.append(asyncio.get_running_loop())
            await server.serve(sockets=[listening])

        thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started)
            service = app.service
            wait_until(lambda: service.refresher.looked)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                yield Served(client, clock, service, app, port, loops[0])
        finally:
            server.should_exit = True
            thread.join(30)


def wait_until(is_true: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > until:
            raise TimeoutError("it did not come true")
        time.sleep(0.01)
