"""The middleware around all routes: limits, cached replies, 304s, metrics and the access log.

It is one plain ASGI application, so that a cached reply costs little more than sending it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
from api.transport.reply_cache import (
    CACHE_HINT,
    CachedReply,
    CacheHint,
    ReplyCache,
    ReplyKey,
    header_value,
    key_of,
    matches,
    unchanged,
)

_LOG = logging.getLogger("api.middleware")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNMATCHED = "unmatched"
_UNCHANGED = 304
_OK = 200
_ASKED_METHOD = "storecast.asked_method"
"""The key of the scope for the method of the request, if the routes see another one."""
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
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
_EMPTY_BODY: Message = {"type": "http.response.body", "body": b""}


class ServiceMiddleware:
    """The ASGI application. `app` has the routes, `service` the objects that they work with."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self.app = app
        self.service = service
        self.replies = ReplyCache(service.settings.memory_bytes)
        self._settings = service.settings
        self._counters: dict[tuple[str, str, int], Any] = {}
        self._timers: dict[str, Any] = {}
        self._answer_http: ASGIApp = self._answer
        if service.settings.cors_origins:
            # Outside of everything, so that problems of every origin have the headers, too.
            self._answer_http = CORSMiddleware(
                self._answer_copied, service.settings.cors_origins, **_CORS
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # The server sends no body, since its own scope still says HEAD.
            scope = {**scope, "method": "GET", _ASKED_METHOD: "HEAD"}
        await self._answer_http(scope, receive, send)

    async def _answer_copied(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with copies of the messages, since CORSMiddleware changes what it gets."""

        async def send_copy(message: Message) -> None:
            await send(dict(message))

        await self._answer(scope, receive, send_copy)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        key: ReplyKey | None = None
        state, now = self.service.state, self.service.clock()
        if scope["method"] == "GET":
            caller = await self._caller(scope, now)
            if caller is not None:
                key = key_of(scope, caller)
                cached = self.replies.get(key, state, now)
                if cached is not None:
                    await self._send_cached(cached, caller, now, scope, receive, send, started)
                    return
        try:
            self._check_size(scope)
        except ProblemError as error:
            await self._send_problem(error, scope, receive, send, started)
            return
        outgoing = _OutgoingReply(scope, send, is_cacheable=key is not None)
        try:
            await self._call_routes(outgoing, receive)
        finally:
            if outgoing.cacheable_reply is not None and key is not None:
                self.replies.put(key, state, outgoing.cacheable_reply)
            self._record(scope, route_of(scope), outgoing.status, started)

    async def _caller(self, scope: Scope, now: datetime) -> Caller | None:
        """Sign the caller in, and leave the outcome in the scope for the routes.

        None without a valid token. It depends on the route whether that is a problem.
        """
        sign_in = self.service.sign_in
        headers = scope["headers"]
        caller = sign_in.remembered(headers, now)
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
        if if_none_match is not None and matches(if_none_match, cached.etag):
            await send(cached.unchanged)
            await send(_EMPTY_BODY)
            self._record(scope, cached.route, _UNCHANGED, started)
            return
        await send(cached.start)
        await send(cached.body)
        self._record(scope, cached.route, _OK, started)

    async def _call_routes(self, outgoing: _OutgoingReply, receive: Receive) -> None:
        """Call the routes. A request without an answer after `request_seconds` gets a problem."""
        scope = outgoing.scope
        try:
            async with asyncio.timeout(self._settings.request_seconds):
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
        route: str = _UNMATCHED,
    ) -> None:
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


def route_of(scope: Scope) -> str:
    """The template of the route that answered, so that metrics have few labels."""
    return getattr(scope.get("route"), "path", _UNMATCHED)


@dataclass
class _OutgoingReply:
    """Holds the head of a cacheable reply back until its body comes, to send a 304 instead.

    `cacheable_reply` is the reply if it may be cached.
    """

    scope: Scope
    forward: Send
    is_cacheable: bool
    status: int = 0
    is_complete: bool = False
    cacheable_reply: CachedReply | None = None
    _held_start: Message | None = None
    _hint: CacheHint = field(default_factory=CacheHint)

    def __post_init__(self) -> None:
        self.scope[CACHE_HINT] = self._hint

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if header_value(message["headers"], _NO_SNIFFING[0]) is None:
                message["headers"] = [*message["headers"], _NO_SNIFFING]
            if self.is_cacheable and self.status == _OK:
                self._held_start = message
                return
        elif self._held_start is not None:
            start, self._held_start = self._held_start, None
            if not message.get("more_body", False):
                start = self._final_start(start, message)
            await self.forward(start)
            if start["status"] == _UNCHANGED:
                message = _EMPTY_BODY
        await self.forward(message)
        if message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)

    def _final_start(self, start: Message, body: Message) -> Message:
        """The head to send: that of the reply, or of a 304 if the caller has these bytes."""
        etag = header_value(start["headers"], b"etag")
        if etag is None:
            return start
        not_modified = unchanged(start)
        if self._hint.until is not None:
            self.cacheable_reply = CachedReply(
                etag=etag,
                start=start,
                body=body,
                unchanged=not_modified,
                route=route_of(self.scope),
                until=self._hint.until,
            )
        if_none_match = header_value(self.scope["headers"], b"if-none-match")
        if if_none_match is not None and matches(if_none_match, etag):
            self.status = _UNCHANGED
            return not_modified
        return start
