"""Replies: an answer's bytes with what caches need to know of them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response

from api.formats import MEDIA_TYPES, Format, to_csv, to_json, to_parquet
from api.question import Question
from api.served import last_change, next_change

VARY = "Accept, Accept-Encoding, Authorization, X-Goog-IAP-JWT-Assertion"
REMEMBER = "storecast.remember"
_WORTH_COMPRESSING = 1024


@dataclass(slots=True)
class Remember:
    """Until when this reply is the right one for the same request; None: not to be remembered."""

    until: datetime | None = None
    caller: str = ""


def render(
    form: Format, answer: dict[str, Any], rows: Iterable[dict[str, Any]], columns: pa.Schema
) -> bytes:
    """The answer in a format: JSON as it is, the others as rows of a table."""
    if form == "json":
        return to_json(answer)
    return to_csv(rows, columns) if form == "csv" else to_parquet(rows, columns)


def reply(
    question: Question,
    body: bytes,
    media_type: str,
    *,
    headers: dict[str, str] | None = None,
    published_at: datetime | None = None,
) -> Response:
    """The reply with a strong ETag over its bytes.

    The bytes hold the release, the store, the day and the staleness: they change when one of these
    does. Whether the caller has them already (304) is decided where replies are remembered.
    """
    served, now = question.served, question.now
    encoding = {}
    if len(body) >= _WORTH_COMPRESSING and accepts_gzip(question.request):
        body = gzip.compress(body, compresslevel=5, mtime=0)
        encoding = {"Content-Encoding": "gzip"}
    changed = [last_change(served.schedule, now)]
    if published_at is not None:
        changed.append(published_at)
    if served.unread_since is not None:
        changed.append(served.unread_since)
    remember: Remember | None = question.request.scope.get(REMEMBER)
    if remember is not None:
        until = next_change(served.schedule, now)
        expires = question.caller.expires
        remember.caller = question.caller.name
        remember.until = until if expires is None else min(until, expires)
    digest = hashlib.blake2b(body, digest_size=15).hexdigest()
    return Response(
        body,
        headers={
            "Content-Type": media_type,
            "ETag": f'"{digest}"',
            "Last-Modified": format_datetime(max(changed).astimezone(UTC), usegmt=True),
            "Cache-Control": "private, no-cache",
            "Vary": VARY,
            **encoding,
            **(headers or {}),
        },
    )


def reply_json(question: Question, answer: Any, published_at: datetime | None = None) -> Response:
    return reply(question, to_json(answer), MEDIA_TYPES["json"], published_at=published_at)


def accepts_gzip(request: Request) -> bool:
    for each in request.headers.get("accept-encoding", "").split(","):
        name, _, parameters = each.partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return parameters.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
