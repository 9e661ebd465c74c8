"""`GET /v1/stores/{store_id}/history`: the last days, what was said of them and what was sold."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api import flat
from api.documentation import Documented, documented
from api.forecasts import StoreId
from api.formats import MEDIA_TYPES, Format, negotiate
from api.question import Ask, Question
from api.reply import render, reply
from api.schemas import History
from api.scores import Scored, summarise

router = APIRouter(tags=["forecasts"])

_OFFERED: tuple[Format, ...] = ("json", "csv", "parquet")
_DAY = timedelta(days=1)


@router.get(
    "/v1/stores/{store_id}/history",
    operation_id="getHistory",
    summary="How good the forecasts of a store have been",
    **documented(
        Documented(History, "The past days that were forecast, oldest first.", tabular=True),
        401, 403, 404, 406, 422, 429, 503,
    ),
)  # fmt: skip
async def get_history(
    ask: Ask,
    store_id: StoreId,
    days: Annotated[int, Query(ge=1, le=60, description="How many days back from today.")] = 28,
) -> Response:
    form = negotiate(ask.request.headers.get("accept", ""), _OFFERED)
    ask.require_store(store_id)
    snapshot = ask.service.current(ask.served)
    ask.store(snapshot, store_id)
    answer = history_answer(ask, store_id, snapshot.name, await scored(ask, store_id, days))
    body = render(form, answer, flat.of_history(answer), flat.HISTORY)
    return reply(ask, body, MEDIA_TYPES[form], published_at=snapshot.entry.published_at)


async def scored(ask: Question, store_id: str, days: int) -> list[Scored]:
    today = ask.served.schedule.today(ask.now)
    wanted: list[date] = [today - back * _DAY for back in range(days, 0, -1)]
    return await asyncio.to_thread(
        ask.service.scores.history, ask.served.pointer, ask.served.schedule, store_id, wanted
    )


def history_answer(
    ask: Question, store_id: str, release: str, days: list[Scored]
) -> dict[str, Any]:
    return {
        "store_id": store_id,
        "release": release,
        "unread_since": ask.served.unread_since,
        "summary": asdict(summarise(days)),
        "days": [
            {
                "target_date": day.target_date,
                "weekday": f"{day.target_date:%A}",
                "as_of": day.as_of,
                "days_ahead": day.days_ahead,
                "predicted_sales": day.predicted,
                "lower_80": day.lower,
                "upper_80": day.upper,
                "actual_sales": day.actual,
                "naive_sales": day.naive,
                "error": day.error,
                "run_id": day.run_id,
            }
            for day in days
        ],
    }
