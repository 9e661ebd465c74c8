"""The front: what every request passes before the routes, and every reply on its way out.

Limits of size and time, replies from memory, 304s, metrics and the access log, in one plain ASGI
application, because a reply from memory should cost little more than sending it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api import problems
from api.memory import Entry, Key, Memory, etag_of, header, key_of, matches, unchanged
from api.problems import (
    BodyTooLargeError,
    HeadersTooLargeError,
    ProblemError,
    TooManyRequestsError,
    TooSlowError,
)
from api.reply import REMEMBER, Remember
from api.served import Served
from api.service import Service

_LOG = logging.getLogger("api.front")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNMATCHED = "unmatched"
_UNCHANGED = 304
_OK = 200
_EMPTY: Message = {"type": "http.response.body", "body": b""}


class Front:
    """The ASGI application. `app` has the routes, `service` what they work with."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self.app = app
        self.service = service
        self._settings = service.settings
        self._memory = Memory(service.settings.memory_bytes)
        self._counters: dict[tuple[str, str, int], Any] = {}
        self._timers: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        key: Key | None = None
        served = self.service.served
        if scope["method"] == "GET":
            key = key_of(scope)
            entry = self._memory.get(key, served, self.service.clock())
            if entry is not None:
                await self._answer_from_memory(entry, scope, receive, send, started)
                return
        try:
            self._check_size(scope)
        except ProblemError as error:
            await self._refuse(error, scope, receive, send, started)
            return
        out = _Outgoing(scope, send, key, served)
        try:
            await self._ask_routes(out, receive)
        finally:
            if out.entry is not None and key is not None:
                self._memory.put(key, served, out.entry)
            self._observe(scope, route_of(scope), out.status, started)

    async def _answer_from_memory(
        self, entry: Entry, scope: Scope, receive: Receive, send: Send, started: float
    ) -> None:
        try:
            self.service.limits.take(entry.caller, self.service.clock())
        except TooManyRequestsError as error:
            await self._refuse(error, scope, receive, send, started, entry.route)
            return
        if_none_match = header(scope["headers"], b"if-none-match")
        if if_none_match is not None and matches(if_none_match, entry.etag):
            await send(entry.unchanged)
            await send(_EMPTY)
            self._observe(scope, entry.route, _UNCHANGED, started)
            return
        await send(entry.start)
        await send(entry.body)
        self._observe(scope, entry.route, _OK, started)

    async def _ask_routes(self, out: _Outgoing, receive: Receive) -> None:
        """Within the time of a request; what is not answered by then is a problem."""
        try:
            async with asyncio.timeout(self._settings.request_seconds):
                await self.app(out.scope, receive, out.send)
        except TimeoutError:
            if out.status:
                raise
            seconds = self._settings.request_seconds
            error = TooSlowError(f"no answer was ready within {seconds:g} seconds")
            await _problem(error, out.scope)(out.scope, receive, out.send)
        except Exception:
            # The routes have answered with a problem; handing the error on would cost the caller
            # the connection.
            if not out.is_complete:
                raise
            _LOG.exception("%s %s failed", out.scope["method"], route_of(out.scope))

    def _check_size(self, scope: Scope) -> None:
        headers = scope["headers"]
        size = sum(len(name) + len(value) for name, value in headers) + len(scope["query_string"])
        if size + len(scope["raw_path"]) > self._settings.max_header_bytes:
            raise HeadersTooLargeError(
                f"address and headers hold at most {self._settings.max_header_bytes} bytes"
            )
        length = header(headers, b"content-length")
        if length is not None and length.isdigit() and int(length) > self._settings.max_body_bytes:
            raise BodyTooLargeError(
                f"no body may hold more than {self._settings.max_body_bytes} bytes",
                headers={"Connection": "close"},
            )

    async def _refuse(
        self,
        error: ProblemError,
        scope: Scope,
        receive: Receive,
        send: Send,
        started: float,
        route: str = _UNMATCHED,
    ) -> None:
        answer = _problem(error, scope)
        await answer(scope, receive, send)
        self._observe(scope, route, answer.status_code, started)

    def _observe(self, scope: Scope, route: str, status: int, started: float) -> None:
        seconds = perf_counter() - started
        method = scope["method"]
        which = (route, method, status)
        counter = self._counters.get(which)
        if counter is None:
            named = method if method in _METHODS else "other"
            counter = self.service.metrics.requests.labels(route, named, str(status))
            if named == method:
                self._counters[which] = counter
        counter.inc()
        timer = self._timers.get(route)
        if timer is None:
            timer = self._timers[route] = self.service.metrics.seconds.labels(route)
        timer.observe(seconds)
        if self._settings.access_log:
            now = self.service.clock()
            self.service.access_log.add(now, method, scope["path"], route, status, seconds)


def route_of(scope: Scope) -> str:
    """The template of the route that answered, so that metrics have few labels."""
    return getattr(scope.get("route"), "path", _UNMATCHED)


def _problem(error: ProblemError, scope: Scope) -> Response:
    return problems.of_error(error, scope["path"])


@dataclass
class _Outgoing:
    """Holds a reply's head back until its body is there, to make a 304 of it or remember it."""

    scope: Scope
    forward: Send
    key: Key | None
    served: Served
    status: int = 0
    entry: Entry | None = None
    is_complete: bool = False
    _start: Message | None = field(default=None)
    _remember: Remember = field(default_factory=Remember)

    def __post_init__(self) -> None:
        self.scope[REMEMBER] = self._remember

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.key is not None and self.status == _OK:
                self._start = message
                return
        elif self._start is not None:
            start, self._start = self._start, None
            if not message.get("more_body", False):
                start = self._complete(start, message)
            await self.forward(start)
            if start["status"] == _UNCHANGED:
                message = _EMPTY
        await self.forward(message)
        if message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)

    def _complete(self, start: Message, body: Message) -> Message:
        """The head to send; the reply is kept if it may be remembered."""
        etag = etag_of(start)
        if etag is None:
            return start
        not_modified = unchanged(start)
        if self._remember.until is not None:
            self.entry = Entry(
                etag,
                start,
                body,
                not_modified,
                route_of(self.scope),
                self._remember.caller,
                self._remember.until,
            )
        if_none_match = header(self.scope["headers"], b"if-none-match")
        if if_none_match is not None and matches(if_none_match, etag):
            self.status = _UNCHANGED
            return not_modified
        return start
