"""`GET /v1/stores/{store_id}/forecast` and its aliases under /results."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api import answers, flat, items, paging
from api.documentation import Documented, documented
from api.formats import MEDIA_TYPES, Format, negotiate
from api.items import NO_ITEMS, Item, ItemPage
from api.problems import UnknownItemError, UnknownTargetDateError
from api.question import Ask, Question
from api.reply import render, reply
from api.schemas import Forecast
from api.snapshot import Snapshot, StoreForecast

router = APIRouter(tags=["forecasts"])

_OFFERED: tuple[Format, ...] = ("json", "csv", "parquet")
_INLINE_ITEMS = 50
"""More items than these are written in a thread, so that nobody waits behind them."""

StoreId = Annotated[
    str,
    Path(
        pattern="^[A-Za-z0-9_-]{1,64}$",
        description="The store's id, as it was delivered.",
        examples=["17"],
    ),
]
AsOf = Annotated[
    date | None,
    Query(description="What was said on that night, past days included.", examples=["2026-11-22"]),
]
MaxAge = Annotated[
    int | None,
    Query(
        ge=0,
        le=10_000,
        description=(
            "409 instead of an answer that knows less: days between data through and the as-of"
            " that should be live by now."
        ),
    ),
]
PageSize = Annotated[int, Query(ge=1, le=1000, description="Entries on a page.")]
PageTokenText = Annotated[
    str | None,
    Query(
        max_length=512,
        description="`next_page_token` of the page before: the same release goes on.",
    ),
]


@dataclass(frozen=True, slots=True)
class _Wanted:
    as_of: date | None = None
    item_id: str | None = None
    target_date: date | None = None
    max_age_days: int | None = None
    page_size: int = 100
    page_token: str | None = None


@router.get(
    "/v1/stores/{store_id}/forecast",
    operation_id="getForecast",
    summary="The coming days of a store",
    **documented(
        Documented(Forecast, "The days that are left, in all and by item.", tabular=True),
        401, 403, 404, 406, 409, 410, 422, 429, 503,
    ),
)  # fmt: skip
async def get_forecast(
    ask: Ask,
    store_id: StoreId,
    as_of: AsOf = None,
    item_id: Annotated[str | None, Query(max_length=1024, description="Only this item.")] = None,
    target_date: Annotated[date | None, Query(description="Only this day.")] = None,
    max_age_days: MaxAge = None,
    page_size: PageSize = 100,
    page_token: PageTokenText = None,
) -> Response:
    wanted = _Wanted(as_of, item_id, target_date, max_age_days, page_size, page_token)
    accept = ask.request.headers.get("accept", "")
    return await _answer(ask, store_id, wanted, negotiate(accept, _OFFERED))


@router.get(
    "/results/{store_id}.csv",
    operation_id="getResultsCsv",
    summary="The coming days of a store, as CSV",
    **documented(
        Documented(None, "As text/csv, whatever is accepted.", tabular=True),
        401, 403, 404, 410, 422, 429, 503,
    ),
)  # fmt: skip
async def get_results_csv(
    ask: Ask,
    store_id: StoreId,
    as_of: AsOf = None,
    page_size: PageSize = 100,
    page_token: PageTokenText = None,
) -> Response:
    wanted = _Wanted(as_of=as_of, page_size=page_size, page_token=page_token)
    return await _answer(ask, store_id, wanted, "csv")


@router.get(
    "/results/{store_id}",
    operation_id="getResults",
    summary="The coming days of a store, by its earlier address",
    **documented(
        Documented(Forecast, "As /v1/stores/{store_id}/forecast.", tabular=True),
        401, 403, 404, 406, 410, 422, 429, 503,
    ),
)  # fmt: skip
async def get_results(
    ask: Ask,
    store_id: StoreId,
    as_of: AsOf = None,
    page_size: PageSize = 100,
    page_token: PageTokenText = None,
) -> Response:
    wanted = _Wanted(as_of=as_of, page_size=page_size, page_token=page_token)
    accept = ask.request.headers.get("accept", "")
    return await _answer(ask, store_id, wanted, negotiate(accept, _OFFERED))


async def _answer(ask: Question, store_id: str, wanted: _Wanted, form: Format) -> Response:
    ask.require_store(store_id)
    snapshot, first_row = await _page(ask, store_id, wanted)
    store = ask.store(snapshot, store_id)
    view = ask.service.view(ask.served, snapshot, ask.now, wanted.as_of)
    answers.require(store, view, wanted.max_age_days)
    if wanted.target_date is not None and not any(
        view.shows(day) and day.target_date == wanted.target_date for day in store.days
    ):
        raise UnknownTargetDateError(
            f"the forecast says nothing of {answers.spoken(wanted.target_date)}",
            store_id=store_id,
            target_dates=[day.target_date for day in store.days if view.shows(day)],
        )
    page = await _items(ask, snapshot, store, wanted, first_row)
    next_token = None
    if page.next_row is not None:
        next_token = paging.PageToken(_list_of(store_id), snapshot.name, page.next_row).encode()
    answer = answers.forecast(
        store, view, page, target_date=wanted.target_date, next_page_token=next_token
    )
    if len(page.items) > _INLINE_ITEMS:
        body = await asyncio.to_thread(
            render, form, answer, flat.of_forecast(answer), flat.FORECAST
        )
    else:
        body = render(form, answer, flat.of_forecast(answer), flat.FORECAST)
    return reply(
        ask,
        body,
        MEDIA_TYPES[form],
        headers=next_link(ask, next_token),
        published_at=snapshot.entry.published_at,
    )


async def _page(ask: Question, store_id: str, wanted: _Wanted) -> tuple[Snapshot, int]:
    """The release to answer from, and where among the store's rows to begin."""
    if wanted.page_token is None:
        return await ask.service.as_of(ask.served, wanted.as_of), 0
    token = paging.decode(wanted.page_token, _list_of(store_id))
    ask.service.current(ask.served)
    return await ask.service.release(ask.served, token.release), token.position


async def _items(
    ask: Question, snapshot: Snapshot, store: StoreForecast, wanted: _Wanted, first_row: int
) -> ItemPage:
    """Read at once from the parts of what is served; other parts may have to be fetched."""

    def read() -> ItemPage:
        if wanted.item_id is None:
            return ask.service.items(store, first_row, wanted.page_size)
        found: Item | None = items.one(ask.service.parts, store, wanted.item_id)
        if found is None:
            raise UnknownItemError(
                f"store {store.store_id} has no item {wanted.item_id}", store_id=store.store_id
            )
        return ItemPage((found,), store.items, None)

    if wanted.item_id is None and store.items <= 1 and not store.parts:
        return NO_ITEMS
    return read() if snapshot is ask.served.snapshot else await asyncio.to_thread(read)


def next_link(ask: Question, next_token: str | None) -> dict[str, str]:
    """RFC 8288, for formats that have no place for a token."""
    if next_token is None:
        return {}
    url = ask.request.url.include_query_params(page_token=next_token)
    return {"Link": f'<{url.path}?{url.query}>; rel="next"'}


def _list_of(store_id: str) -> str:
    return f"forecast/{store_id}"
