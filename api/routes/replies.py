"""Replies: the bytes of an answer with the headers that caches need."""

from __future__ import annotations

import gzip
import hashlib
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.auth.rate_limits import COST_BYTES
from api.routes.context import RequestContext
from api.store.state import last_change, next_change
from api.transport.negotiation import accepts_gzip
from api.transport.page_problems import VARY
from api.transport.reply_cache import CACHE_HINT, CacheHint
from api.views.formats import MEDIA_TYPES, Format, to_json

_MIN_COMPRESSED_BYTES = 1024
_MAX_INLINE_BYTES = 65_536
"""A larger answer is compressed in a thread, so that no other request waits for it."""
COMPLETE = "Storecast-Complete"
"""The header of a CSV or Parquet file that says whether it has all rows."""


def reply(
    context: RequestContext,
    body: bytes,
    media_type: str,
    *,
    headers: dict[str, str] | None = None,
    published_at: datetime | None = None,
    is_cacheable: bool = True,
) -> Response:
    """The reply with a strong ETag, the digest of its bytes.

    The bytes hold release, store, day and staleness, so the ETag changes when one of them does.
    The middleware compares it with If-None-Match and sends a 304. A reply that depends on more than
    the caller's rights, or lacks what cannot be read at the moment, must not be cached.
    """
    state, now = context.state, context.now
    context.service.rate_limiter.charge(context.caller.name, len(body) // COST_BYTES, now)
    changes = [last_change(state.schedule, now), published_at, state.unread_since]
    last_modified = max(moment for moment in changes if moment is not None)
    if is_cacheable:
        _allow_caching(context)
    all_headers = {
        "Content-Type": media_type,
        "Last-Modified": format_datetime(last_modified.astimezone(UTC), usegmt=True),
        "Cache-Control": "private, no-cache",
        "Vary": VARY,
        **(headers or {}),
    }
    is_compressed = len(body) >= _MIN_COMPRESSED_BYTES and accepts_gzip(
        context.request.headers.get("accept-encoding", "")
    )
    if len(body) > _MAX_INLINE_BYTES:
        return _LargeReply(context, body, all_headers, is_compressed=is_compressed)
    body, further_headers = _encoded(body, is_compressed=is_compressed)
    return Response(body, headers={**all_headers, **further_headers})


class _LargeReply(Response):
    """A reply that is compressed in a thread before it is sent."""

    def __init__(
        self, context: RequestContext, body: bytes, headers: dict[str, str], *, is_compressed: bool
    ) -> None:
        super().__init__(body, headers=headers)
        self._context = context
        self._is_compressed = is_compressed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytes(self.body)
        context = self._context
        # It is paid for already.
        self.body, headers = await context.service.workers.run(
            context.caller.name, lambda: _encoded(body, is_compressed=self._is_compressed)
        )
        self.headers.update(headers)
        self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def _encoded(body: bytes, *, is_compressed: bool) -> tuple[bytes, dict[str, str]]:
    """The bytes to send, with their ETag and their encoding."""
    headers = {}
    if is_compressed:
        body = gzip.compress(body, compresslevel=5, mtime=0)
        headers["Content-Encoding"] = "gzip"
    digest = hashlib.blake2b(body, digest_size=15).hexdigest()
    return body, {"ETag": f'"{digest}"', **headers}


def reply_json(context: RequestContext, answer: Any, *, is_cacheable: bool = True) -> Response:
    return reply(context, to_json(answer), MEDIA_TYPES["json"], is_cacheable=is_cacheable)


def table_headers(answer_format: Format, name: str, *, is_complete: bool) -> dict[str, str]:
    """The headers of an answer that is a file: its name, and whether it has all rows.

    `name` has no character that would end a quoted string. Empty for JSON.
    """
    if answer_format == "json":
        return {}
    return {
        "Content-Disposition": f'attachment; filename="{name}.{answer_format}"',
        COMPLETE: "true" if is_complete else "false",
    }


def next_page_header(context: RequestContext, next_token: str | None) -> dict[str, str]:
    """A Link header (RFC 8288) to the next page, for formats without a field for the token."""
    if next_token is None:
        return {}
    url = context.request.url.include_query_params(page_token=next_token)
    return {"Link": f'<{url.path}?{url.query}>; rel="next"'}


def _allow_caching(context: RequestContext) -> None:
    """Tell the middleware how long the reply is right for the same request."""
    hint: CacheHint | None = context.request.scope.get(CACHE_HINT)
    if hint is not None:
        hint.until = next_change(context.state.schedule, context.now)
