"""`GET /v1/stores` and `GET /v1/forecasts:batchGet`: totals by day of several stores."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.problems import (
    InvalidError,
    NotAcceptableError,
    ProblemError,
    ReleaseGoneError,
    UnknownAsOfError,
    problem_document,
)
from api.routes import page_tokens
from api.routes.context import Context, RequestContext
from api.routes.documentation import SIGNED_IN, STORED, AnswerSpec, documented
from api.routes.parameters import (
    AsOf,
    Dialect,
    ListedStoreId,
    MaxAge,
    PageSize,
    PageTokenText,
    check_selection,
    page_limit,
)
from api.routes.replies import next_page_header, reply, table_headers
from api.routes.store_selection import StoreOrder, StoreSelection
from api.store.snapshot import Snapshot
from api.transport.negotiation import negotiate
from api.views.forecasts import AnswerBasis, answer_fields, check_showable, store_summary
from api.views.formats import MEDIA_TYPES, PARTIAL_JSON, Format, encode
from api.views.schemas import Batch, PartialStoreList, StoreList, StoreSummary, fields_of
from api.views.tables import FORECAST_SCHEMA, forecast_rows
from ray_job.bucket.reasons import Outcome

router = APIRouter(tags=["stores"])

_OFFERED: tuple[Format, ...] = ("json", "csv", "parquet")
_MAX_INLINE_STORES = 20
"""An answer with more stores is made in a thread, so that no other request waits for it."""
_MAX_BATCH = 100
_ALWAYS = frozenset({"store_id", "stale"})
"""The fields that are in every selection."""

if TYPE_CHECKING:
    StoreField = str
else:
    StoreField = fields_of(StoreSummary)


@router.get(
    "/v1/stores",
    operation_id="listStores",
    summary="The stores that the caller may see",
    description=(
        "A page of stores with their totals by day. Search, filters and order hold for all pages."
    ),
    **documented(
        AnswerSpec(
            "stores",
            StoreList,
            "A page of stores.",
            rows="ForecastRow",
            partial=PartialStoreList,
        ),
        *SIGNED_IN, *STORED, ReleaseGoneError, InvalidError, NotAcceptableError,
    ),
)  # fmt: skip
async def list_stores(
    context: Context,
    dialect: Dialect,
    q: Annotated[
        str,
        Query(
            max_length=100,
            description="Only stores whose id, name and region together hold each of these words.",
            examples=["market SL"],
        ),
    ] = "",
    outcome: Annotated[
        Outcome | None, Query(description="Only stores of which the last run made this.")
    ] = None,
    stale: Annotated[
        bool | None, Query(description="Only stores that are stale (true), or are not (false).")
    ] = None,
    sort: Annotated[
        StoreOrder,
        Query(
            description=(
                "The order; with a minus sign it is descending. `predicted_sales` is the total of"
                " the coming days. `problems`: stores whose forecast is missing, stale or made"
                " without the newest sales come first."
            )
        ),
    ] = "store_id",
    fields: Annotated[
        list[StoreField] | None,
        Query(
            description=(
                "JSON only: the fields of each store that are wanted. Then the answer is of"
                f" {PARTIAL_JSON}."
            )
        ),
    ] = None,
    page_size: PageSize = None,
    page_token: PageTokenText = None,
) -> Response:
    answer_format = negotiate(context.accept, _OFFERED)
    check_selection(fields, answer_format)
    selection = StoreSelection(" ".join(q.split()), outcome, stale, sort)
    snapshot, position = context.service.current_snapshot(context.state), 0
    if page_token is not None:
        token = page_tokens.decode(page_token, selection.list_name)
        snapshot = await context.service.snapshot_of(context.state, token.release)
        position = token.position
    basis = context.basis(snapshot)
    rows = await selection.rows(context, snapshot, basis)
    size = page_limit(page_size, answer_format)
    # By id a token names the row of the release: stores that a grant adds move no page.
    is_by_id = selection.order == "store_id"
    begin = bisect_left(rows, position) if is_by_id else position
    page = list(rows[begin : begin + size])
    next_token = None
    if begin + size < len(rows):
        next_position = rows[begin + size] if is_by_id else begin + size
        next_token = context.page_token(selection.list_name, snapshot.name, next_position)

    def make_body() -> bytes:
        summaries = [store_summary(store, basis) for store in snapshot.forecasts_at(page)]
        answer = {
            **answer_fields(basis),
            "as_of": snapshot.entry.as_of,
            "stores_total": len(rows),
            "stores": _selected(summaries, fields) if fields else summaries,
            "next_page_token": next_token,
        }
        table = _table_rows(summaries, answer)
        return encode(answer_format, answer, table, FORECAST_SCHEMA, dialect)

    is_complete = next_token is None and page_token is None
    is_large = len(page) > _MAX_INLINE_STORES
    body = await context.compute(make_body) if is_large else make_body()
    return reply(
        context,
        body,
        PARTIAL_JSON if fields else MEDIA_TYPES[answer_format],
        headers={
            **table_headers(
                answer_format,
                f"stores-{snapshot.entry.as_of}{'' if is_complete else '-part'}",
                is_complete=is_complete,
            ),
            **next_page_header(context, next_token),
        },
        published_at=snapshot.entry.published_at,
    )


@router.get(
    "/v1/forecasts:batchGet",
    operation_id="batchGetForecasts",
    summary="The coming days of several stores, of one release",
    description=(
        "Totals by day. A store that has none to show costs the others nothing: JSON has its"
        " problem, CSV and Parquet lack its rows."
    ),
    **documented(
        AnswerSpec(
            "batch",
            Batch,
            "Totals by day in the order of the request, and a problem for each store that has"
            " none to show.",
            rows="ForecastRow",
        ),
        *SIGNED_IN, *STORED, UnknownAsOfError, ReleaseGoneError, InvalidError, NotAcceptableError,
    ),
)  # fmt: skip
async def batch_get_forecasts(
    context: Context,
    dialect: Dialect,
    store_id: Annotated[
        list[ListedStoreId],
        Query(
            min_length=1,
            max_length=_MAX_BATCH,
            description=f"Up to {_MAX_BATCH} store ids; repeated ones count once.",
            examples=[["17", "999"]],
        ),
    ],
    as_of: AsOf = None,
    max_age_days: MaxAge = None,
) -> Response:
    answer_format = negotiate(context.accept, _OFFERED)
    snapshot = await context.service.snapshot_as_of(context.state, as_of)
    basis = context.basis(snapshot, as_of)
    store_ids = list(dict.fromkeys(store_id))

    def make_body() -> bytes:
        summaries, problems = _batch(context, snapshot, basis, store_ids, max_age_days)
        answer = {
            **answer_fields(basis),
            "as_of": snapshot.entry.as_of,
            "forecasts": summaries,
            "problems": problems,
        }
        table = _table_rows(summaries, answer)
        return encode(answer_format, answer, table, FORECAST_SCHEMA, dialect)

    is_large = len(store_id) > _MAX_INLINE_STORES
    body = await context.compute(make_body) if is_large else make_body()
    return reply(
        context,
        body,
        MEDIA_TYPES[answer_format],
        headers=table_headers(answer_format, f"forecasts-{snapshot.entry.as_of}", is_complete=True),
        published_at=snapshot.entry.published_at,
    )


def _batch(
    context: RequestContext,
    snapshot: Snapshot,
    basis: AnswerBasis,
    store_ids: Sequence[str],
    max_age_days: int | None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The summaries of the stores with a forecast, and the problems of the others."""
    summaries: list[dict[str, Any]] = []
    problems: list[dict[str, Any]] = []
    for store_id in store_ids:
        try:
            store = context.store(snapshot, store_id)
            check_showable(store, basis, max_age_days)
        except ProblemError as error:
            problems.append(problem_document(error, store_id=store_id))
        else:
            summaries.append(store_summary(store, basis))
    return summaries, problems


def _selected(summaries: list[dict[str, Any]], fields: list[str]) -> list[dict[str, Any]]:
    wanted = _ALWAYS.union(fields)
    return [
        {name: value for name, value in summary.items() if name in wanted} for summary in summaries
    ]


def _table_rows(
    summaries: list[dict[str, Any]], answer: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    for summary in summaries:
        yield from forecast_rows(summary, answer)
