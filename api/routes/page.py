"""The page for managers at `/`: the stores that the caller may see, or one store."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.problems import ProblemError, kind_of
from api.routes.context import RequestContext, request_context
from api.routes.history import past_days
from api.routes.replies import HTML, PAGE_HEADERS, reply
from api.store.items import NO_ITEMS, item_page
from api.store.snapshot import Snapshot
from api.views.pages import (
    problem_page,
    store_list_page,
    store_page,
)
from api.views.rendering import style_sheet

router = APIRouter(include_in_schema=False)

_ITEMS_ON_A_PAGE = 50
_PAST_DAYS = 28
_HISTORY_SECONDS = 1.5
"""The page waits no longer for a history that has to be read from the bucket."""


@router.get("/")
async def get_page(
    request: Request,
    store_id: Annotated[str | None, Query(max_length=64)] = None,
    first: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Response:
    """The page of `store_id`, or of the only store that the caller may see, or the list."""
    try:
        context = await request_context(request)
        snapshot = context.service.current_snapshot(context.state)
        is_complete = True
        store_id = (store_id or "").strip() or _only_store(context, snapshot)
        if store_id is None:
            html = store_list_page(
                snapshot,
                context.basis(snapshot),
                snapshot.visible_rows(context.access),
                first,
                context.state.pointer.silent_days,
            )
        else:
            html, is_complete = await _store_page(context, snapshot, store_id)
    except ProblemError as error:
        return _problem_reply(error)
    return reply(
        context,
        html.encode(),
        HTML,
        headers=PAGE_HEADERS,
        published_at=snapshot.entry.published_at,
        is_complete=is_complete,
    )


@router.get("/page.css")
async def get_style() -> Response:
    return Response(
        style_sheet(),
        headers={"Content-Type": "text/css; charset=utf-8", "Cache-Control": "max-age=3600"},
    )


def _only_store(context: RequestContext, snapshot: Snapshot) -> str | None:
    rows = snapshot.visible_rows(context.access)
    return snapshot.ids[rows[0]] if len(rows) == 1 else None


async def _store_page(
    context: RequestContext, snapshot: Snapshot, store_id: str
) -> tuple[str, bool]:
    """The page, and whether it has all that there is to show."""
    store = context.store(snapshot, store_id)
    past = await past_days(context, store_id, _PAST_DAYS, _HISTORY_SECONDS)
    parts = context.service.parts
    page = item_page(parts, store, 0, _ITEMS_ON_A_PAGE) if store.parts else NO_ITEMS
    html = store_page(
        snapshot,
        context.basis(snapshot),
        store,
        page.items,
        past.days,
        context.state.pointer.silent_days,
        is_history_unread=past.unread is not None,
    )
    return html, past.unread is None


def _problem_reply(error: ProblemError) -> Response:
    kind = kind_of(error)
    if kind is None:
        raise error
    html = problem_page(kind.title, str(error))
    headers = {**PAGE_HEADERS, **error.headers, "Content-Type": HTML, "Cache-Control": "no-store"}
    return Response(html.encode(), kind.status, headers)
