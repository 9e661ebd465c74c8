"""The middleware around all routes: limits, cached replies, 304s, metrics and the access log.

It is one plain ASGI application, so that a cached reply costs little more than sending it.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth.rate_limits import COST_BYTES, IS_COUNTED
from api.auth.sign_in import SIGN_IN_OUTCOME, Caller
from api.problems import (
    BodyTooLargeError,
    HeadersTooLargeError,
    ProblemError,
    TooManyRequestsError,
    TooSlowError,
    UrlTooLongError,
    error_response,
)
from api.service import Service
from api.store.state import ServedState
from api.transport.outgoing_reply import OK, UNCHANGED, UNMATCHED, OutgoingReply, route_of
from api.transport.page_problems import page_problem
from api.transport.pieces import send_in_pieces
from api.transport.probes import PATHS
from api.transport.rendered_answers import MAX_BODY_BYTES, can_send, cycle_of, send_rendered
from api.transport.reply_cache import (
    CachedReply,
    ReplyCache,
    ReplyKey,
    header_value,
    key_of,
    matches,
)
from api.transport.turns import Turns
from api.views.language import choose
from api.views.pages import ListQuery

_LOG = logging.getLogger("api.middleware")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ASKED_METHOD = "storecast.asked_method"
"""The key of the scope for the method of the request, if the routes see another one."""
_CORS: dict[str, Any] = {
    "allow_methods": ("GET", "HEAD"),
    "allow_headers": ("Authorization", "If-None-Match"),
    "expose_headers": (
        "ETag", "Retry-After", "Link", "Last-Modified", "Content-Disposition", "Storecast-Complete",
    ),
    "max_age": 3600,
}  # fmt: skip
_MAX_PARAMETERS = 1100
"""A list of a thousand stores, and some more. Many short parameters take milliseconds to parse."""
_KEY = "storecast.reply_key"
"""The key of the scope for that of the reply, once it is known."""
_NOBODY = ""
"""The name of all callers without a valid token."""
_PAGE = "/"
_DATA = ("/v1/", "/results/")
"""Requests for the page and for addresses of data are for callers who are signed in."""


class ServiceMiddleware:
    """The ASGI application. `app` has the routes, `service` the objects that they work with."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self.app = app
        self.service = service
        self.replies = ReplyCache(service.settings.memory_bytes)
        self._turns = Turns()
        self._settings = service.settings
        self._counters: dict[tuple[str, str, int], Any] = {}
        self._timers: dict[str, Any] = {}
        self._answer_http: ASGIApp = self._answer
        # CORSMiddleware adds headers to the messages.
        self._sends_rendered = not service.settings.cors_origins
        if service.settings.cors_origins:
            # Outside of everything, so that problems of every origin have the headers, too.
            self._answer_http = CORSMiddleware(
                self._answer_copied, service.settings.cors_origins, **_CORS
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "GET" and self._send_rendered(scope):
            return
        if scope["method"] == "HEAD":
            # The server sends no body, since its own scope still says HEAD.
            scope = {**scope, "method": "GET", _ASKED_METHOD: "HEAD"}
        await self._answer_http(scope, receive, send)

    def _send_rendered(self, scope: Scope) -> bool:
        """Answer from the cache in one step, as most requests are. False: it is not possible."""
        cycle = cycle_of(scope) if self._sends_rendered else None
        if cycle is None or not can_send(cycle):
            return False
        started = perf_counter()
        service, headers, now = self.service, scope["headers"], self.service.clock()
        caller = service.sign_in.remembered(headers, now)
        if caller is None:
            return False
        scope[SIGN_IN_OUTCOME] = caller
        key = scope[_KEY] = key_of(scope, caller)
        cached = self.replies.get(key, service.state, now)
        if cached is None or len(cached.body["body"]) > MAX_BODY_BYTES:
            return False
        status, head, body = OK, cached.heads[0], cached.body["body"]
        for name, value in headers:
            if name == b"if-none-match" and matches(value, cached.etag):
                status, head, body = UNCHANGED, cached.heads[1], b""
                break
        try:
            service.rate_limiter.take(caller.name, now)
        except TooManyRequestsError:
            return False
        if len(body) >= COST_BYTES:
            service.rate_limiter.charge(caller.name, len(body) // COST_BYTES, now)
        send_rendered(cycle, head, body)
        self._record(scope, cached.route, status, started)
        return True

    async def _answer_copied(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with copies of the messages, since CORSMiddleware changes what it gets."""

        async def send_copy(message: Message) -> None:
            await send(dict(message))

        await self._answer(scope, receive, send_copy)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        key: ReplyKey | None = None
        caller: Caller | None = None
        state, now = self.service.state, self.service.clock()
        if scope["method"] == "GET":
            caller = await self._caller(scope, now)
        if scope["path"] not in PATHS and await self._is_gone_before_its_turn(scope, caller):
            return
        if caller is not None:
            key = scope.get(_KEY) or key_of(scope, caller)
            begun = self.replies.begun(key)
            if begun is not None:
                # The same request of the same caller is being answered now.
                await begun.wait()
                await self._turns.wait(caller.name)
            state, now = self.service.state, self.service.clock()
            cached = self.replies.get(key, state, now)
            if cached is not None:
                await self._send_cached(cached, caller, now, scope, receive, send, started)
                return
        try:
            self._check_size(scope)
            if scope["path"] == _PAGE or scope["path"].startswith(_DATA):
                self._check_caller(caller, scope, now)
        except ProblemError as error:
            await self._send_problem(error, scope, receive, send, started)
            return
        outgoing = OutgoingReply(scope, send)
        if key is not None:
            self.replies.begin(key)
            outgoing.on_made = partial(self._made, key, state)
        try:
            await self._call_routes(outgoing, receive, started)
        finally:
            if key is not None:
                self.replies.end(key)
            self._record(scope, route_of(scope), outgoing.status, started)

    async def _is_gone_before_its_turn(self, scope: Scope, caller: Caller | None) -> bool:
        """Wait for the caller's turn. Whether nobody waits for the answer any more."""
        await self._turns.wait(_NOBODY if caller is None else caller.name)
        cycle = cycle_of(scope)
        return cycle is not None and cycle.disconnected

    def _check_caller(self, caller: Caller | None, scope: Scope, now: datetime) -> None:
        """Raise the problem of a caller with a bad token, or of one who has asked for too much.

        Before the routes this costs little.
        """
        if caller is not None:
            self.service.workers.check_room(caller.name)
            self.service.rate_limiter.take(caller.name, now)
            scope[IS_COUNTED] = True
        elif isinstance(scope.get(SIGN_IN_OUTCOME), ProblemError):
            raise scope[SIGN_IN_OUTCOME]

    def _made(self, key: ReplyKey, state: ServedState, reply: CachedReply | None) -> None:
        """Cache a reply before it is sent, since its caller may take long to read it."""
        if reply is not None:
            self.replies.put(key, state, reply)
        self.replies.end(key)

    async def _caller(self, scope: Scope, now: datetime) -> Caller | None:
        """Sign the caller in, and leave the outcome in the scope for the routes.

        None without a valid token. It depends on the route whether that is a problem.
        """
        sign_in = self.service.sign_in
        headers = scope["headers"]
        caller = scope.get(SIGN_IN_OUTCOME) or sign_in.remembered(headers, now)
        if caller is None and sign_in.has_credentials(headers):
            try:
                caller = await sign_in.caller(headers, now)
            except ProblemError as error:
                scope[SIGN_IN_OUTCOME] = error
        if caller is not None:
            scope[SIGN_IN_OUTCOME] = caller
        return caller

    async def _send_cached(
        self,
        cached: CachedReply,
        caller: Caller,
        now: datetime,
        scope: Scope,
        receive: Receive,
        send: Send,
        started: float,
    ) -> None:
        try:
            self.service.rate_limiter.take(caller.name, now)
        except TooManyRequestsError as error:
            await self._send_problem(error, scope, receive, send, started, cached.route)
            return
        if_none_match = header_value(scope["headers"], b"if-none-match")
        body: bytes = cached.body["body"]
        if if_none_match is not None and matches(if_none_match, cached.etag):
            status, start, body = UNCHANGED, cached.unchanged, b""
        else:
            status, start = OK, cached.start
            if len(body) >= COST_BYTES and _ASKED_METHOD not in scope:
                self.service.rate_limiter.charge(caller.name, len(body) // COST_BYTES, now)
        await send(start)
        await send_in_pieces(send, body)
        self._record(scope, cached.route, status, started)

    async def _call_routes(self, outgoing: OutgoingReply, receive: Receive, started: float) -> None:
        """Call the routes. A request without an answer after `request_seconds` gets a problem."""
        scope = outgoing.scope
        waited = perf_counter() - started
        try:
            async with asyncio.timeout(self._settings.request_seconds - waited):
                await self.app(scope, receive, outgoing.send)
        except TimeoutError:
            if outgoing.status:
                raise
            seconds = self._settings.request_seconds
            error = TooSlowError(f"no answer was ready within {seconds:g} seconds")
            await error_response(error, scope["path"])(scope, receive, outgoing.send)
        except Exception:
            # The caller already has a problem as the answer. Raising the error would close the
            # caller's connection.
            if not outgoing.is_complete:
                raise
            _LOG.exception("%s %s failed", scope["method"], route_of(scope))

    def _check_size(self, scope: Scope) -> None:
        """Raise UrlTooLongError, HeadersTooLargeError or BodyTooLargeError."""
        limit = self._settings.max_header_bytes
        if len(scope["raw_path"]) + len(scope["query_string"]) > limit:
            raise UrlTooLongError(f"a URL holds at most {limit} bytes")
        if scope["query_string"].count(b"&") >= _MAX_PARAMETERS:
            raise UrlTooLongError(f"a query holds at most {_MAX_PARAMETERS} parameters")
        headers = scope["headers"]
        size = sum(len(name) + len(value) for name, value in headers) + len(scope["query_string"])
        if size + len(scope["raw_path"]) > self._settings.max_header_bytes:
            raise HeadersTooLargeError(
                f"address and headers hold at most {self._settings.max_header_bytes} bytes"
            )
        length = header_value(headers, b"content-length")
        if length is not None and length.isdigit() and int(length) > self._settings.max_body_bytes:
            raise BodyTooLargeError(
                f"no body may hold more than {self._settings.max_body_bytes} bytes",
                headers={"Connection": "close"},
            )

    async def _send_problem(
        self,
        error: ProblemError,
        scope: Scope,
        receive: Receive,
        send: Send,
        started: float,
        route: str = UNMATCHED,
    ) -> None:
        if scope["path"] == _PAGE:
            accepted = header_value(scope["headers"], b"accept-language") or b""
            language = choose(accepted.decode("latin-1"), self._settings.locale)
            response = page_problem(error, language, ListQuery())
        else:
            response = error_response(error, scope["path"])
        await response(scope, receive, send)
        self._record(scope, route, response.status_code, started)

    def _record(self, scope: Scope, route: str, status: int, started: float) -> None:
        """Count the request in the metrics and add it to the access log."""
        seconds = perf_counter() - started
        method = scope.get(_ASKED_METHOD) or scope["method"]
        labels = (route, method, status)
        counter = self._counters.get(labels)
        if counter is None:
            method_label = method if method in _METHODS else "other"
            counter = self.service.metrics.requests.labels(route, method_label, str(status))
            if method_label == method:
                self._counters[labels] = counter
        counter.inc()
        timer = self._timers.get(route)
        if timer is None:
            timer = self._timers[route] = self.service.metrics.seconds.labels(route)
        timer.observe(seconds)
        if self._settings.access_log:
            now = self.service.clock()
            self.service.access_log.add(now, method, scope["path"], route, status, seconds)
