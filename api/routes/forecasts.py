"""`GET /v1/stores/{store_id}/forecast` and its aliases under /results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.problems import (
    NotAcceptableError,
    ReleaseGoneError,
    TooOldError,
    UnknownAsOfError,
    UnknownItemError,
    UnknownTargetDateError,
)
from api.routes import page_tokens
from api.routes.context import Context, RequestContext
from api.routes.documentation import OF_A_STORE, SIGNED_IN, STORED, AnswerSpec, documented
from api.routes.parameters import (
    AsOf,
    Day,
    Dialect,
    MaxAge,
    PageSize,
    PageTokenText,
    StoreId,
    check_selection,
    page_limit,
)
from api.routes.replies import next_page_header, reply, table_headers
from api.store.items import NO_ITEMS, ItemPage, find_item, item_page
from api.store.snapshot import Snapshot, StoreForecast
from api.transport.negotiation import negotiate
from api.views.forecasts import AnswerBasis, check_showable, long_date, store_forecast
from api.views.formats import MEDIA_TYPES, PARTIAL_JSON, CsvDialect, Format, encode
from api.views.schemas import Forecast, PartialForecast, fields_of
from api.views.tables import FORECAST_SCHEMA, forecast_rows

router = APIRouter(tags=["forecasts"])

Result = TypeVar("Result")

_OFFERED: tuple[Format, ...] = ("json", "csv", "parquet")
_MAX_INLINE_ITEMS = 50
"""An answer with more items is written in a thread, so that no other request waits for it."""
_ALWAYS = frozenset({"store_id", "release", "stale", "next_page_token"})
"""The fields that are in every selection."""

if TYPE_CHECKING:
    ForecastField = str
else:
    ForecastField = fields_of(Forecast)


@dataclass(frozen=True, slots=True)
class _ForecastQuery:
    """The part of a store's forecast that the caller asks for."""

    as_of: date | None = None
    item_id: str | None = None
    target_date: date | None = None
    max_age_days: int | None = None
    page_size: int | None = None
    page_token: str | None = None
    fields: list[str] | None = None


@router.get(
    "/v1/stores/{store_id}/forecast",
    operation_id="getForecast",
    summary="The coming days of a store",
    description=(
        "The days that are left of the store's newest forecast, in all and by item. With `as_of`"
        " it is what was said on that night."
    ),
    **documented(
        AnswerSpec(
            "forecast",
            Forecast,
            "The days that are left, in all and by item.",
            rows="ForecastRow",
            partial=PartialForecast,
        ),
        *SIGNED_IN, *STORED, *OF_A_STORE, UnknownItemError, UnknownAsOfError,
        UnknownTargetDateError, TooOldError, ReleaseGoneError, NotAcceptableError,
    ),
)  # fmt: skip
async def get_forecast(
    context: Context,
    dialect: Dialect,
    store_id: StoreId,
    as_of: AsOf = None,
    item_id: Annotated[
        str | None, Query(max_length=1024, description="Only this item.", examples=["bread"])
    ] = None,
    target_date: Annotated[
        Day | None, Query(description="Only this day.", examples=["2026-11-25"])
    ] = None,
    max_age_days: MaxAge = None,
    fields: Annotated[
        list[ForecastField] | None,
        Query(
            description=(
                f"JSON only: the fields that are wanted. Then the answer is of {PARTIAL_JSON}."
            )
        ),
    ] = None,
    page_size: PageSize = None,
    page_token: PageTokenText = None,
) -> Response:
    selection = _ForecastQuery(
        as_of, item_id, target_date, max_age_days, page_size, page_token, fields
    )
    return await _answer(context, store_id, selection, negotiate(context.accept, _OFFERED), dialect)


@router.get(
    "/results/{store_id}.csv",
    operation_id="getResultsCsv",
    summary="The coming days of a store, as a CSV file",
    description="The short form for a link or a spreadsheet, whatever the Accept header says.",
    **documented(
        AnswerSpec("forecast", None, "As text/csv, whatever is accepted.", rows="ForecastRow"),
        *SIGNED_IN, *STORED, *OF_A_STORE, UnknownAsOfError, ReleaseGoneError,
    ),
)  # fmt: skip
async def get_results_csv(
    context: Context,
    dialect: Dialect,
    store_id: StoreId,
    as_of: AsOf = None,
    page_size: PageSize = None,
    page_token: PageTokenText = None,
) -> Response:
    selection = _ForecastQuery(as_of=as_of, page_size=page_size, page_token=page_token)
    return await _answer(context, store_id, selection, "csv", dialect)


@router.get(
    "/results/{store_id}",
    operation_id="getResults",
    summary="The coming days of a store, by its short address",
    description=(
        "The short form of `/v1/stores/{store_id}/forecast`, with the same answer. It stays."
    ),
    **documented(
        AnswerSpec(
            "forecast", Forecast, "As /v1/stores/{store_id}/forecast.", rows="ForecastRow"
        ),
        *SIGNED_IN, *STORED, *OF_A_STORE, UnknownAsOfError, ReleaseGoneError, NotAcceptableError,
    ),
)  # fmt: skip
async def get_results(
    context: Context,
    dialect: Dialect,
    store_id: StoreId,
    as_of: AsOf = None,
    page_size: PageSize = None,
    page_token: PageTokenText = None,
) -> Response:
    selection = _ForecastQuery(as_of=as_of, page_size=page_size, page_token=page_token)
    return await _answer(context, store_id, selection, negotiate(context.accept, _OFFERED), dialect)


async def _answer(
    context: RequestContext,
    store_id: str,
    selection: _ForecastQuery,
    answer_format: Format,
    dialect: CsvDialect,
) -> Response:
    check_selection(selection.fields, answer_format)
    context.check_store(store_id)
    snapshot, first_row = await _page_start(context, store_id, selection)
    store = context.store(snapshot, store_id)
    basis = context.basis(snapshot, selection.as_of)
    check_showable(store, basis, selection.max_age_days)
    _check_target_date(store, basis, selection.target_date)
    size = page_limit(selection.page_size, answer_format)

    def make_body(page: ItemPage) -> tuple[bytes, str | None]:
        """The body and the token of the next page."""
        next_token = None
        if page.next_row is not None:
            next_token = context.page_token(_list_name(store_id), snapshot.name, page.next_row)
        answer = store_forecast(
            store, basis, page, target_date=selection.target_date, next_page_token=next_token
        )
        rows = forecast_rows(answer)
        if selection.fields:
            wanted = _ALWAYS.union(selection.fields)
            answer = {name: value for name, value in answer.items() if name in wanted}
        return encode(answer_format, answer, rows, FORECAST_SCHEMA, dialect), next_token

    body, next_token = await _with_items(
        context, snapshot, store, selection, (first_row, size), make_body
    )
    is_complete = next_token is None and selection.page_token is None
    file_name = f"store-{store_id}-{store.as_of}{'' if is_complete else '-part'}"
    return reply(
        context,
        body,
        PARTIAL_JSON if selection.fields else MEDIA_TYPES[answer_format],
        headers={
            **table_headers(answer_format, file_name, is_complete=is_complete),
            **next_page_header(context, next_token),
        },
        published_at=snapshot.entry.published_at,
    )


async def _page_start(
    context: RequestContext, store_id: str, selection: _ForecastQuery
) -> tuple[Snapshot, int]:
    """The release to answer from, and the row of the store with which the page begins."""
    if selection.page_token is None:
        return await context.service.snapshot_as_of(context.state, selection.as_of), 0
    token = page_tokens.decode(selection.page_token, _list_name(store_id))
    context.service.current_snapshot(context.state)
    return await context.service.snapshot_of(context.state, token.release), token.position


def _check_target_date(store: StoreForecast, basis: AnswerBasis, target_date: date | None) -> None:
    """Raise UnknownTargetDateError for a day that the forecast does not contain."""
    target_dates = [day.target_date for day in store.days if basis.includes(day)]
    if target_date is not None and target_date not in target_dates:
        raise UnknownTargetDateError(
            f"the forecast says nothing of {long_date(target_date)}",
            store_id=store.store_id,
            target_dates=target_dates,
        )


async def _with_items(
    context: RequestContext,
    snapshot: Snapshot,
    store: StoreForecast,
    selection: _ForecastQuery,
    position: tuple[int, int],
    make: Callable[[ItemPage], Result],
) -> Result:
    """What `make` does with the page that begins at a row of the store, of a size.

    An item or a small page is read in this thread if the parts are mapped, as those of the current
    snapshot are. A large one is read and written in one piece of work, so that its items are not
    in memory while the caller's other work is done.
    """
    parts = context.service.parts
    first_row, size = position

    def read() -> ItemPage:
        if selection.item_id is None:
            return item_page(parts, store, first_row, size)
        item = find_item(parts, store, selection.item_id)
        if item is None:
            raise UnknownItemError(
                f"store {store.store_id} has no item {selection.item_id}",
                store_id=store.store_id,
                item_id=selection.item_id,
            )
        return ItemPage((item,), store.items, None)

    if selection.item_id is None and store.items <= 1 and not store.parts:
        return make(NO_ITEMS)
    is_small = selection.item_id is not None or min(store.items, size) <= _MAX_INLINE_ITEMS
    if snapshot is context.state.snapshot and is_small:
        return make(read())
    if parts.is_local(store.parts):
        return await context.compute(lambda: make(read()))
    key = ("items", snapshot.name, store.store_id, selection.item_id, first_row, size)
    page = await context.service.storage_pool.run(key, read)
    return make(page) if is_small else await context.compute(lambda: make(page))


def _list_name(store_id: str) -> str:
    return f"forecast/{store_id}"
