"""The server and its stop.

After SIGTERM the service says that it is not ready and goes on answering for `drain_seconds`. Then
it takes no new connections and finishes the requests that have begun.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from types import FrameType

import uvicorn

from api.settings import ServiceSettings
from api.transport.middleware import ServiceMiddleware
from api.transport.protocol import protocol_for

_LOG = logging.getLogger("api.server")
_KEEP_ALIVE_SECONDS = 75
_SHUTDOWN_SECONDS = 30


class Server(uvicorn.Server):
    """A second signal stops the server at once."""

    def __init__(self, app: ServiceMiddleware, settings: ServiceSettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                access_log=False,
                log_config=None,
                server_header=False,
                http=protocol_for(settings),
                ws="none",
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )
        self._service = app.service
        self._drain_seconds = settings.drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None or self._service.draining:
            super().handle_exit(sig, frame)
            return
        self._service.draining = True
        _LOG.info("signal %s: unready from now on, stopping in %s s", sig, self._drain_seconds)
        self._loop.call_soon_threadsafe(self._stop_after_drain)

    def _stop_after_drain(self) -> None:
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        """Stop without raising the signal again, so that the exit code is 0."""
        self.should_exit = True
