"""The server and its stop.

After SIGTERM the service says at once that it is not ready. For `drain_seconds`, in which load
balancers and nodes learn of it, the server goes on accepting connections and answering, and each
answer ends its connection. Then it closes what is left and finishes the requests that have begun.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from types import FrameType

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from api.settings import ServiceSettings
from api.transport.connections import Connections
from api.transport.middleware import ServiceMiddleware
from api.transport.probes import ProbesOnly
from api.transport.protocol import protocol_for

_LOG = logging.getLogger("api.server")
_SHUTDOWN_SECONDS = 30
_PROBE_CONNECTIONS = 64


class Server(uvicorn.Server):
    """A second signal stops the server at once."""

    def __init__(self, app: ServiceMiddleware, settings: ServiceSettings) -> None:
        self._callers = Connections(settings.max_connections, settings.max_connections_per_peer)
        self._probers = Connections(_PROBE_CONNECTIONS, _PROBE_CONNECTIONS)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                access_log=False,
                log_config=None,
                server_header=False,
                # Nothing depends on what a proxy says of its caller.
                proxy_headers=False,
                http=protocol_for(settings, self._callers),
                ws="none",
                timeout_keep_alive=settings.idle_seconds,  # type: ignore[arg-type]
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )
        self.probe_port: int | None = None
        """The port of the probes once they are served."""
        self._app = app
        self._service = app.service
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)
        if self._settings.probe_port is None:
            return
        try:
            self.servers.append(await self._serve_probes(self._settings.probe_port))
        except OSError as error:
            _LOG.error("the port of the probes: %s", error)
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()
        await super().shutdown(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None or self._service.draining:
            super().handle_exit(sig, frame)
            return
        self._service.draining = True
        seconds = self._settings.drain_seconds
        _LOG.info("signal %s: unready from now on, stopping in %s s", sig, seconds)
        self._loop.call_soon_threadsafe(self._stop_after_drain)

    async def _serve_probes(self, port: int) -> asyncio.base_events.Server:
        config = uvicorn.Config(
            ProbesOnly(self._app),
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            http=protocol_for(self._settings, self._probers),
            ws="none",
        )
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            ),
            self._settings.host,
            port,
        )
        self.probe_port = server.sockets[0].getsockname()[1]
        return server

    def _stop_after_drain(self) -> None:
        self._drain()
        asyncio.get_running_loop().call_later(self._settings.drain_seconds, self._stop)

    def _drain(self) -> None:
        self._callers.drain()
        self._probers.drain()

    def _stop(self) -> None:
        """Stop without raising the signal again, so that the exit code is 0."""
        self.should_exit = True
