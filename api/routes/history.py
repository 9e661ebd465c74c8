"""`GET /v1/stores/{store_id}/history`: past days, what was forecast and what was sold."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.problems import ForbiddenError, InvalidError, NotAcceptableError, UnknownStoreError
from api.routes.context import Context, RequestContext
from api.routes.documentation import SIGNED_IN, STORED, AnswerSpec, documented
from api.routes.parameters import Dialect, StoreId
from api.routes.replies import reply, table_headers
from api.store.scores import PastDays
from api.store.storage_pool import DEADLINE_SECONDS
from api.transport.negotiation import negotiate
from api.views.formats import MEDIA_TYPES, Format, encode
from api.views.history import history_answer
from api.views.history_schemas import History
from api.views.tables import HISTORY_SCHEMA, history_rows

router = APIRouter(tags=["history"])

_OFFERED: tuple[Format, ...] = ("json", "csv", "parquet")
_DAY = timedelta(days=1)


@router.get(
    "/v1/stores/{store_id}/history",
    operation_id="getHistory",
    summary="How good the forecasts of a store have been",
    description=(
        "Past days of a store: the last forecast that was made before each ended, what was sold,"
        " and how far apart they are."
    ),
    **documented(
        AnswerSpec(
            "history", History, "The past days that were forecast, oldest first.", rows="HistoryRow"
        ),
        *SIGNED_IN, *STORED, ForbiddenError, UnknownStoreError, InvalidError, NotAcceptableError,
    ),
)  # fmt: skip
async def get_history(
    context: Context,
    dialect: Dialect,
    store_id: StoreId,
    days: Annotated[
        int, Query(ge=1, le=60, description="How many days back from today.", examples=[28])
    ] = 28,
) -> Response:
    answer_format = negotiate(context.accept, _OFFERED)
    context.check_store(store_id)
    snapshot = context.service.current_snapshot(context.state)
    context.store(snapshot, store_id)
    basis = context.basis(snapshot)
    past = await past_days(context, store_id, days)
    if past.unread is not None:
        raise past.unread
    answer = history_answer(store_id, basis, past.days)
    body = encode(answer_format, answer, history_rows(answer), HISTORY_SCHEMA, dialect)
    return reply(
        context,
        body,
        MEDIA_TYPES[answer_format],
        headers=table_headers(
            answer_format, f"store-{store_id}-history-{answer['today']}", is_complete=True
        ),
        published_at=snapshot.entry.published_at,
    )


async def past_days(
    context: RequestContext, store_id: str, days: int, seconds: float = DEADLINE_SECONDS
) -> PastDays:
    """The forecasts of the last `days` days before today, oldest first.

    What is not on the local disk is waited for `seconds` at most.
    """
    state = context.state
    today = state.schedule.today(context.now)
    dates = [today - back * _DAY for back in range(days, 0, -1)]
    return await context.service.scores.past_days(
        state.pointer, state.schedule, store_id, dates, seconds
    )
