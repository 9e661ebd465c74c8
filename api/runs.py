"""`/v1/runs` and `/v1/releases`: for operators, where numbers come from."""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from api import paging
from api.documentation import Documented, documented
from api.forecasts import PageSize, PageTokenText
from api.formats import MEDIA_TYPES
from api.problems import ReleaseGoneError, UnknownRunError
from api.question import Ask, Question
from api.reply import reply, reply_json
from api.schemas import ReleaseList
from ray_job.bucket.errors import NotFoundError
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.receipts import Receipt

router = APIRouter(tags=["operators"])

_ISO_DATES = (8, 10)
"""Lengths of a date in ISO 8601, basic and extended."""
_LIST = "releases"


@router.get(
    "/v1/runs/current",
    operation_id="getCurrentRun",
    summary="The receipt of the run whose release is served",
    **documented(Documented(Receipt, "The run's receipt."), 401, 403, 404, 429, 503),
)
async def get_current_run(ask: Ask) -> Response:
    ask.require_operator()
    entry = ask.service.current(ask.served).entry
    return await _receipt(ask, entry.as_of, entry.run_id)


@router.get(
    "/v1/runs/{run_id}",
    operation_id="getRun",
    summary="The receipt of a run, published or not",
    **documented(Documented(Receipt, "The run's receipt."), 401, 403, 404, 422, 429, 503),
)
async def get_run(
    ask: Ask,
    run_id: Annotated[
        str,
        Path(
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
            description="The run's id, as answers and logs name it.",
        ),
    ],
) -> Response:
    ask.require_operator()
    as_of = _as_of(ask.served.pointer, run_id)
    if as_of is None:
        raise UnknownRunError(f"no run {run_id} is known")
    return await _receipt(ask, as_of, run_id)


@router.get(
    "/v1/releases",
    operation_id="listReleases",
    summary="What was published, newest first",
    **documented(Documented(ReleaseList, "A page of releases."), 401, 403, 410, 422, 429, 503),
)
async def list_releases(
    ask: Ask, page_size: PageSize = 100, page_token: PageTokenText = None
) -> Response:
    ask.require_operator()
    history = ask.served.pointer.history
    first = 0
    if page_token is not None:
        token = paging.decode(page_token, _LIST)
        names = [entry.release for entry in history]
        if token.release not in names:
            raise ReleaseGoneError(f"release {token.release} is gone: begin with the first page")
        first = names.index(token.release) + token.position
    shown = history[first : first + page_size]
    next_token = None
    if first + page_size < len(history):
        next_token = paging.PageToken(_LIST, shown[-1].release, 1).encode()
    return reply_json(ask, _releases(ask.served.pointer, shown, next_token))


def _releases(pointer: Pointer, shown: Any, next_token: str | None) -> dict[str, Any]:
    return {
        "current": pointer.current,
        "hold_through": pointer.hold_through,
        "releases": [
            {
                **entry.model_dump(),
                "is_current": entry.release == pointer.current,
                "is_bad": entry.release in pointer.bad,
            }
            for entry in shown
        ],
        "next_page_token": next_token,
    }


async def _receipt(ask: Question, as_of: date, run_id: str) -> Response:
    try:
        receipt = await ask.service.receipts.get(as_of, run_id)
    except NotFoundError:
        raise UnknownRunError(f"there is no receipt of run {run_id}") from None
    body = receipt.model_dump_json().encode()
    return reply(ask, body, MEDIA_TYPES["json"], published_at=receipt.finished_at)


def _as_of(pointer: Pointer, run_id: str) -> date | None:
    """The as-of of a run: from what was published, else from the label that its id is."""
    for entry in pointer.history:
        if entry.run_id == run_id:
            return entry.as_of
    for length in _ISO_DATES:
        with suppress(ValueError):
            return date.fromisoformat(run_id[:length])
    return None
