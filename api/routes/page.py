"""The page for managers at `/`: the stores that the caller may see, or one store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import astuple, dataclass, replace
from datetime import timedelta
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from api.problems import ProblemError, invalid_parameters
from api.routes.context import RequestContext, request_context, service_of
from api.routes.history import past_days
from api.routes.replies import reply
from api.routes.store_selection import StoreOrder, StoreSelection
from api.service import Service
from api.store.items import ItemPage, item_accuracy, search_items
from api.store.snapshot import Snapshot, StoreForecast
from api.transport.page_problems import HTML, PAGE_HEADERS, PAGE_VARY, page_problem
from api.views.language import Language, choose
from api.views.pages import (
    ITEMS_ON_A_PAGE,
    PAST_DAYS,
    ItemsShown,
    ListQuery,
    PageBasis,
    StoreRows,
    store_list_page,
    store_page,
)
from api.views.rendering import style_sheet
from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError


class _PageRoute(APIRoute):
    """Parameters that cannot be read are a problem on a page, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_request(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                service = await service_of(request)
                return page_problem(
                    invalid_parameters(error), _language(request, service), ListQuery()
                )

        return handle_request


router = APIRouter(include_in_schema=False, route_class=_PageRoute)

_UNREADABLE = (NotFoundError, StorageError, CorruptError)
"""Errors after which the page comes without what could not be read."""
_MAX_PAGE = 2**31
_WEEK = timedelta(days=7)
_HISTORY_SECONDS = 1.5
"""The page waits no longer for a history that has to be read from the bucket."""
_Order = Literal["problems", "store_id", "name", "region", "predicted_sales"]
_PageNumber = Annotated[int, Query(ge=1, le=_MAX_PAGE)]
_Search = Annotated[str, Query(max_length=100)]


@dataclass(frozen=True, slots=True)
class _StoreQuery:
    """Which page of a store's items is shown."""

    store_id: str
    search: str
    page: int


@router.get("/")
async def get_page(
    request: Request,
    store_id: Annotated[str | None, Query(max_length=64)] = None,
    q: _Search = "",
    order: _Order = "problems",
    only: Literal["", "problems"] = "",
    page: _PageNumber = 1,
    item: _Search = "",
    items: _PageNumber = 1,
) -> Response:
    """The page of `store_id`, or of the only store that the caller may see, or the list.

    `q`, `order`, `only` and `page` choose a part of the list, `item` and `items` of a store's
    items. A search for a store's id leads to the store.
    """
    service = await service_of(request)
    language = _language(request, service)
    query = ListQuery(" ".join(q.split()), order, only == "problems", page)
    try:
        context = await request_context(request)
        snapshot = context.service.current_snapshot(context.state)
        shown = PageBasis(
            snapshot, context.basis(snapshot), language, context.state.pointer.silent_days, query
        )
        if not store_id and query.search in snapshot.rows and context.access.may_see(query.search):
            return _to_store(query)
        wanted = (store_id or "").strip() or _only_store(context, snapshot)
        is_complete = True
        if wanted is None:
            html = await _list_page(context, shown)
        else:
            of_store = _StoreQuery(wanted, item.strip(), items)
            html, is_complete = await _store_page(context, shown, of_store)
    except ProblemError as error:
        return page_problem(error, language, query)
    return reply(
        context,
        html.encode(),
        HTML,
        headers={**PAGE_HEADERS, **PAGE_VARY, "Content-Language": language.name},
        published_at=snapshot.entry.published_at,
        is_cacheable=is_complete,
    )


@router.get("/page.css")
async def get_style() -> Response:
    return Response(
        style_sheet(),
        headers={"Content-Type": "text/css; charset=utf-8", "Cache-Control": "max-age=3600"},
    )


def _language(request: Request, service: Service) -> Language:
    return choose(request.headers.get("accept-language", ""), service.settings.locale)


def _to_store(query: ListQuery) -> Response:
    """Lead on to the store whose id is searched for. The address names no host."""
    parameters = {"store_id": query.search, **replace(query, search="", page=1).parameters()}
    headers = {**PAGE_VARY, "Location": f"/?{urlencode(parameters)}", "Cache-Control": "no-store"}
    return Response(status_code=303, headers=headers)


def _only_store(context: RequestContext, snapshot: Snapshot) -> str | None:
    rows = snapshot.visible_rows(context.access)
    return snapshot.ids[rows[0]] if len(rows) == 1 else None


async def _list_page(context: RequestContext, shown: PageBasis) -> str:
    snapshot, query = shown.snapshot, shown.query
    order = f"-{query.order}" if query.order == "predicted_sales" else query.order
    selection = StoreSelection(query.search, order=cast("StoreOrder", order))
    rows = await selection.rows(context, snapshot, shown.basis)

    def make_page() -> str:
        expected_as_of = shown.basis.schedule.expected_as_of(shown.basis.now)
        problems = snapshot.rows_with_problems(expected_as_of)
        wanted = [row for row in rows if row in problems] if query.problems_only else rows
        visible = snapshot.visible_rows(context.access)
        return store_list_page(shown, StoreRows(wanted, visible, problems))

    return await context.compute(make_page)


async def _store_page(
    context: RequestContext, shown: PageBasis, query: _StoreQuery
) -> tuple[str, bool]:
    """The page, and whether it has all that there is to show."""
    store = context.store(shown.snapshot, query.store_id)
    past = await past_days(context, query.store_id, PAST_DAYS, _HISTORY_SECONDS)
    items = await _items_shown(context, shown.snapshot, store, query)
    is_complete = past.unread is None and items.items is not None
    if items.items is not None and items.items.items:
        try:
            accuracy = await _item_accuracy(context, store, items.items)
            items = replace(items, accuracy=accuracy)
        except (*_UNREADABLE, TimeoutError):
            is_complete = False
    is_history_unread = past.unread is not None

    def make_page() -> str:
        return store_page(shown, store, items, past.days, is_history_unread=is_history_unread)

    return await context.compute(make_page), is_complete


async def _item_accuracy(
    context: RequestContext, store: StoreForecast, page: ItemPage
) -> dict[str, float]:
    """How far the forecast of a week ago was off, by item. Empty if there is none of that as-of.

    Raises an error of the storage, or TimeoutError.
    """
    service, pointer = context.service, context.state.pointer
    as_of = None if store.as_of is None else store.as_of - _WEEK
    name = None if as_of is None else pointer.dates.get(as_of)
    entry = None if name is None or name in pointer.bad else pointer.entry(name)
    if entry is None:
        return {}
    async with asyncio.timeout(_HISTORY_SECONDS):
        snapshot = await service.releases.get(entry)
        earlier = snapshot.store(store.store_id)
        if earlier is None or earlier.as_of != as_of:
            return {}
        item_ids = [item.item_id for item in page.items]
        key = ("items", entry.release, store.store_id, *item_ids)
        return await service.storage_pool.run(
            key,
            lambda: item_accuracy(service.parts, store, earlier, item_ids),
            _HISTORY_SECONDS,
        )


async def _items_shown(
    context: RequestContext, snapshot: Snapshot, store: StoreForecast, query: _StoreQuery
) -> ItemsShown:
    """A page of the items. A part that is not on the disk is fetched with a deadline."""
    parts = context.service.parts

    def read() -> ItemsShown:
        page, matching = search_items(
            parts, store, query.search, (query.page - 1) * ITEMS_ON_A_PAGE, ITEMS_ON_A_PAGE
        )
        return ItemsShown(page, query.search, query.page, matching)

    try:
        if parts.is_local(store.parts):
            return await context.compute(read)
        key = ("items", snapshot.name, *astuple(query))
        return await context.service.storage_pool.run(key, read, _HISTORY_SECONDS)
    except (*_UNREADABLE, TimeoutError):
        return ItemsShown(None, query.search, query.page)
