"""`GET /v1/stores` and `GET /v1/forecasts:batchGet`: totals by day of several stores at once."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import StringConstraints
from starlette.responses import Response

from api import answers, flat, paging, problems
from api.answers import View
from api.documentation import Documented, documented
from api.forecasts import (
    AsOf,
    MaxAge,
    PageSize,
    PageTokenText,
    next_link,
)
from api.formats import MEDIA_TYPES, Format, negotiate
from api.problems import ProblemError
from api.question import Ask, Question
from api.reply import render, reply
from api.schemas import Batch, Outcome, StoreList
from api.snapshot import Snapshot, StoreForecast

router = APIRouter(tags=["stores"])

_OFFERED: tuple[Format, ...] = ("json", "csv", "parquet")
_INLINE_STORES = 50
_MOST_IN_A_BATCH = 100


@router.get(
    "/v1/stores",
    operation_id="listStores",
    summary="The stores that the caller may see",
    **documented(
        Documented(StoreList, "A page of stores, by store id.", tabular=True),
        401, 406, 410, 422, 429, 503,
    ),
)  # fmt: skip
async def list_stores(
    ask: Ask,
    outcome: Annotated[
        Outcome | None, Query(description="Only stores of which the last run made this.")
    ] = None,
    stale: Annotated[
        bool | None, Query(description="Only stores that are stale (true), or are not (false).")
    ] = None,
    page_size: PageSize = 100,
    page_token: PageTokenText = None,
) -> Response:
    form = negotiate(ask.request.headers.get("accept", ""), _OFFERED)
    snapshot, position = ask.service.current(ask.served), 0
    if page_token is not None:
        token = paging.decode(page_token, _list_of(outcome, stale))
        snapshot = await ask.service.release(ask.served, token.release)
        position = token.position
    view = ask.service.view(ask.served, snapshot, ask.now)
    seen = _seen(ask, snapshot, outcome, stale, view)
    begin = bisect_left(seen, position)
    page = list(seen[begin : begin + page_size + 1])
    next_token = None
    if len(page) > page_size:
        next_token = paging.PageToken(_list_of(outcome, stale), snapshot.name, page.pop()).encode()

    def make() -> bytes:
        summaries = [answers.summary(store, view) for store in snapshot.at(page)]
        answer = {
            "release": snapshot.name,
            "as_of": snapshot.entry.as_of,
            "unread_since": view.unread_since,
            "stores_total": len(seen),
            "stores": summaries,
            "next_page_token": next_token,
        }
        return render(form, answer, _rows(summaries), flat.FORECAST)

    body = await asyncio.to_thread(make) if len(page) > _INLINE_STORES else make()
    return reply(
        ask,
        body,
        MEDIA_TYPES[form],
        headers=next_link(ask, next_token),
        published_at=snapshot.entry.published_at,
    )


@router.get(
    "/v1/forecasts:batchGet",
    operation_id="batchGetForecasts",
    summary="The coming days of several stores, of one release",
    **documented(
        Documented(
            Batch,
            "Totals by day in the order of the question, and a problem for each store that has"
            " none to show.",
            tabular=True,
        ),
        401, 404, 406, 422, 429, 503,
    ),
)  # fmt: skip
async def batch_get_forecasts(
    ask: Ask,
    store_id: Annotated[
        list[Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]{1,64}$")]],
        Query(
            min_length=1,
            max_length=_MOST_IN_A_BATCH,
            description=f"Up to {_MOST_IN_A_BATCH} store ids; repeated ones count once.",
        ),
    ],
    as_of: AsOf = None,
    max_age_days: MaxAge = None,
) -> Response:
    form = negotiate(ask.request.headers.get("accept", ""), _OFFERED)
    snapshot = await ask.service.as_of(ask.served, as_of)
    view = ask.service.view(ask.served, snapshot, ask.now, as_of)

    def make() -> bytes:
        batch = _batch(ask, snapshot, view, list(dict.fromkeys(store_id)), max_age_days)
        answer = {
            "release": snapshot.name,
            "as_of": snapshot.entry.as_of,
            "unread_since": view.unread_since,
            "forecasts": batch.found,
            "problems": batch.problems,
        }
        return render(form, answer, _rows(batch.found), flat.FORECAST)

    body = await asyncio.to_thread(make) if len(store_id) > _INLINE_STORES else make()
    return reply(ask, body, MEDIA_TYPES[form], published_at=snapshot.entry.published_at)


@dataclass(frozen=True, slots=True)
class _Batch:
    found: list[dict[str, Any]]
    problems: list[dict[str, Any]]


def _batch(
    ask: Question, snapshot: Snapshot, view: View, ids: list[str], max_age_days: int | None
) -> _Batch:
    batch = _Batch([], [])
    for store_id in ids:
        try:
            store: StoreForecast = ask.store(snapshot, store_id)
            answers.require(store, view, max_age_days)
        except ProblemError as error:
            batch.problems.append(problems.document_of(error, store_id=store_id))
        else:
            batch.found.append(answers.summary(store, view))
    return batch


def _seen(
    ask: Question, snapshot: Snapshot, outcome: str | None, stale: bool | None, view: View
) -> Sequence[int]:
    """The rows of the release that the caller may and wants to see, in order of store ids."""
    expected = view.schedule.expected_as_of(view.now)
    rows = snapshot.rows_where(outcome, expected if stale is not None else None, stale is True)
    if ask.access.every_store:
        return rows
    wanted = set(rows)
    return [row for row in snapshot.seen_by(ask.access) if row in wanted]


def _rows(summaries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in summaries:
        yield from flat.of_forecast(each)


def _list_of(outcome: str | None, stale: bool | None) -> str:
    return f"stores/{outcome or ''}/{'' if stale is None else stale}"
