"""`GET /v1/stores` and `GET /v1/forecasts:batchGet`: totals by day of several stores."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.problems import ProblemError, problem_document
from api.routes import page_tokens
from api.routes.context import Context, RequestContext
from api.routes.documentation import AnswerSpec, documented
from api.routes.parameters import AsOf, ListedStoreId, MaxAge, PageSize, PageTokenText
from api.routes.replies import next_page_header, reply
from api.store.snapshot import Snapshot
from api.transport.negotiation import negotiate
from api.views.forecasts import AnswerBasis, check_showable, store_summary
from api.views.formats import MEDIA_TYPES, Format, encode
from api.views.schemas import Batch, StoreList
from api.views.tables import FORECAST_SCHEMA, forecast_rows
from ray_job.bucket.reasons import Outcome

router = APIRouter(tags=["stores"])

_OFFERED: tuple[Format, ...] = ("json", "csv", "parquet")
_MAX_INLINE_STORES = 50
"""An answer with more stores is made in a thread, so that no other request waits for it."""
_MAX_BATCH = 100


@router.get(
    "/v1/stores",
    operation_id="listStores",
    summary="The stores that the caller may see",
    **documented(
        AnswerSpec(StoreList, "A page of stores, by store id.", tabular=True),
        401, 406, 410, 422, 429, 503,
    ),
)  # fmt: skip
async def list_stores(
    context: Context,
    outcome: Annotated[
        Outcome | None, Query(description="Only stores of which the last run made this.")
    ] = None,
    stale: Annotated[
        bool | None, Query(description="Only stores that are stale (true), or are not (false).")
    ] = None,
    page_size: PageSize = 100,
    page_token: PageTokenText = None,
) -> Response:
    answer_format = negotiate(context.accept, _OFFERED)
    list_name = _list_name(outcome, stale)
    snapshot, first_row = context.service.current_snapshot(context.state), 0
    if page_token is not None:
        token = page_tokens.decode(page_token, list_name)
        snapshot = await context.service.snapshot_of(context.state, token.release)
        first_row = token.position
    basis = context.basis(snapshot)
    rows = _matching_rows(context, snapshot, outcome, stale, basis)
    begin = bisect_left(rows, first_row)
    page = list(rows[begin : begin + page_size + 1])
    next_token = None
    if len(page) > page_size:
        next_token = page_tokens.PageToken(list_name, snapshot.name, page.pop()).encode()

    def make_body() -> bytes:
        summaries = [store_summary(store, basis) for store in snapshot.forecasts_at(page)]
        answer = {
            "release": snapshot.name,
            "as_of": snapshot.entry.as_of,
            "unread_since": basis.unread_since,
            "stores_total": len(rows),
            "stores": summaries,
            "next_page_token": next_token,
        }
        return encode(answer_format, answer, _table_rows(summaries), FORECAST_SCHEMA)

    is_large = len(page) > _MAX_INLINE_STORES
    body = await asyncio.to_thread(make_body) if is_large else make_body()
    return reply(
        context,
        body,
        MEDIA_TYPES[answer_format],
        headers=next_page_header(context, next_token),
        published_at=snapshot.entry.published_at,
    )


@router.get(
    "/v1/forecasts:batchGet",
    operation_id="batchGetForecasts",
    summary="The coming days of several stores, of one release",
    **documented(
        AnswerSpec(
            Batch,
            "Totals by day in the order of the question, and a problem for each store that has"
            " none to show.",
            tabular=True,
        ),
        401, 404, 406, 422, 429, 503,
    ),
)  # fmt: skip
async def batch_get_forecasts(
    context: Context,
    store_id: Annotated[
        list[ListedStoreId],
        Query(
            min_length=1,
            max_length=_MAX_BATCH,
            description=f"Up to {_MAX_BATCH} store ids; repeated ones count once.",
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
            "release": snapshot.name,
            "as_of": snapshot.entry.as_of,
            "unread_since": basis.unread_since,
            "forecasts": summaries,
            "problems": problems,
        }
        return encode(answer_format, answer, _table_rows(summaries), FORECAST_SCHEMA)

    is_large = len(store_id) > _MAX_INLINE_STORES
    body = await asyncio.to_thread(make_body) if is_large else make_body()
    return reply(
        context, body, MEDIA_TYPES[answer_format], published_at=snapshot.entry.published_at
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


def _matching_rows(
    context: RequestContext,
    snapshot: Snapshot,
    outcome: str | None,
    stale: bool | None,
    basis: AnswerBasis,
) -> Sequence[int]:
    """The rows of the stores that match the filters and that the caller may see, sorted."""
    expected_as_of = basis.schedule.expected_as_of(basis.now)
    matching = snapshot.rows_where(
        outcome, expected_as_of if stale is not None else None, stale is True
    )
    if context.access.every_store:
        return matching
    matching_rows = set(matching)
    return [row for row in snapshot.visible_rows(context.access) if row in matching_rows]


def _table_rows(summaries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for summary in summaries:
        yield from forecast_rows(summary)


def _list_name(outcome: str | None, stale: bool | None) -> str:
    return f"stores/{outcome or ''}/{'' if stale is None else stale}"
