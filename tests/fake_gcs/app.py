"""The ASGI application: reads a request, lets faults strike, has it carried out, answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from .answer import Answer
from .objects import Refusal
from .request import Request, read
from .service import refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .faults import Fault
    from .service import Service

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE"})
_REASONS: Final = {403: "forbidden", 429: "tooManyRequests"}


class _OutdatedError(Exception):
    """The service was reset since the request came: an earlier test sent it."""


class App:
    """Serves one `Service`; the server puts a connection's transport into the scope."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.stopping = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        epoch = self.service.epoch
        body = b"" if method in _BODILESS else await _body(receive)
        if body is None:
            return
        service = self.service
        try:
            request = read(
                method,
                scope["raw_path"],
                scope["query_string"],
                scope["headers"],
                body,
                service.uploads,
            )
        except Refusal as refusal:
            request = Request(method, "json", "unknown", "", "", {}, {}, body)
            await self._send(refused(refusal, request), request, send)
            return
        request.epoch = epoch
        fault = service.faults.strike(request) if service.serves(request) else None
        try:
            await self._pause(service.latency)
            if fault is None:
                await self._send(await self._carried_out(request), request, send)
            elif not await self._spoilt(fault, request, send):
                await _close(scope, receive, abruptly=fault.kind != "truncate")
        except _OutdatedError:
            await _close(scope, receive, abruptly=True)

    async def _carried_out(self, request: Request) -> Answer:
        if request.epoch != self.service.epoch:
            raise _OutdatedError
        if self.service.hooked:
            return await asyncio.to_thread(self.service.carry_out, request)
        return self.service.carry_out(request)

    async def _spoilt(self, fault: Fault, request: Request, send: Send) -> bool:
        """Meet the fault; False where the connection must be closed to bring it about."""
        whole = True
        match fault.kind:
            case "status":
                await self._send(_injected(fault, request), request, send, fault=fault.kind)
            case "reset":
                self.service.note(request, 0, 0, fault.kind)
                whole = False
            case "ack_lost":
                await self._carried_out(request)
                whole = fault.status is not None
                if whole:
                    await self._send(_injected(fault, request), request, send, fault=fault.kind)
                else:
                    self.service.note(request, 0, 0, fault.kind)
            case "corrupt":
                answer = await self._carried_out(request)
                answer.body = _flipped(answer.body, fault.at)
                await self._send(answer, request, send, fault=fault.kind)
            case "truncate":
                answer = await self._carried_out(request)
                kept = len(answer.body) // 2 if fault.at is None else fault.at
                whole = fault.clean or kept >= len(answer.body)
                if fault.clean:
                    answer.body = answer.body[:kept]
                await self._send(
                    answer, request, send, fault=fault.kind, cut=None if whole else kept
                )
            case "stall":
                if fault.at is None:
                    await self._pause(fault.seconds)
                answer = await self._carried_out(request)
                await self._send(
                    answer, request, send, fault=fault.kind, cut=fault.at, pause=fault.seconds
                )
        return whole

    async def _send(
        self,
        answer: Answer,
        request: Request,
        send: Send,
        *,
        fault: str = "",
        cut: int | None = None,
        pause: float = 0.0,
    ) -> None:
        """Send the answer: whole, or `cut` bytes of its body and, after a pause, the rest."""
        body = b"" if answer.status in (204, 304) else answer.body
        first = body if cut is None else body[:cut]
        self.service.note(request, answer.status, len(first if not pause else body), fault)
        headers = list(answer.headers)
        if answer.status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": first, "more_body": cut is not None})
        if cut is not None and pause:
            await self._pause(pause)
            await send({"type": "http.response.body", "body": body[cut:]})

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the server."""
        if seconds > 0 and not self.stopping.is_set():
            stopping = asyncio.create_task(self.stopping.wait())
            await asyncio.wait([stopping], timeout=seconds)
            stopping.cancel()


async def _body(receive: Receive) -> bytes | None:
    """The body of the request, or None when the client left before its end."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message["body"])
        if not message["more_body"]:
            return b"".join(chunks)


async def _close(scope: Scope, receive: Receive, *, abruptly: bool) -> None:
    """Close the connection; what was sent goes out first unless `abruptly`."""
    transport: asyncio.Transport = scope["extensions"]["fake_gcs"]["transport"]
    if abruptly:
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        continue


def _flipped(body: bytes, at: int | None) -> bytes:
    if not body:
        return body
    place = len(body) // 2 if at is None else at
    return body[:place] + bytes([body[place] ^ 0xFF]) + body[place + 1 :]


def _injected(fault: Fault, request: Request) -> Answer:
    status = fault.status or 503
    reason = _REASONS.get(status, "backendError")
    answer = refused(Refusal(status, reason, f"Injected fault: {status}."), request)
    if fault.retry_after is not None:
        answer.headers.append((b"retry-after", b"%d" % fault.retry_after))
    return answer
