"""Runs the application with uvicorn: in a thread of a test, or in a process of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from .app import App

_START_SECONDS = 20


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which lets the application close its connection and logs nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"fake_gcs": {"transport": self.transport}}


class _Server(uvicorn.Server):
    """A server that stops at once when its application is told to."""

    def __init__(self, app: App, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.app = app
        self.ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.ready.set()

    async def main_loop(self) -> None:
        await self.app.stopping.wait()
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def config(app: App) -> uvicorn.Config:
    """uvicorn without logging or signals of its own, and connections that stay open."""
    return uvicorn.Config(
        app,
        http=_Protocol,
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        proxy_headers=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=600,
    )


_held_ports: list[socket.socket] = []
"""Sockets that are bound and never listen. They keep ports from being used again."""


def listen(port: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """A socket on `host`, by default 127.0.0.1; port 0 takes a free one.

    Until this process ends nobody else gets the port, also after the socket is closed. So a client
    that outlives its server never meets another server.
    """
    held = _bound(port, host)
    _held_ports.append(held)
    return _bound(held.getsockname()[1], host)


def _bound(port: int, host: str) -> socket.socket:
    # The protocol must be named: asyncio sets TCP_NODELAY only on sockets that name TCP.
    sock = socket.socket(proto=socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock


class ServerThread:
    """The application on a port of its own, until `stop`."""

    def __init__(self, app: App, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app = app
        self._socket = listen(port, host)
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(app, config(app))
        self._thread = threading.Thread(target=self._run, name="fake-gcs", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._server.ready.wait(_START_SECONDS):
            raise TimeoutError(f"The fake did not start within {_START_SECONDS} s.")

    def stop(self) -> None:
        """Cut all connections and wait for the end of the thread."""
        if self._server.loop is not None:
            self._server.loop.call_soon_threadsafe(self._app.stopping.set)
        self._thread.join()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def run(app: App, sock: socket.socket) -> None:
    """Serve in this thread until SIGINT or SIGTERM."""
    uvicorn.Server(config(app)).run(sockets=[sock])
