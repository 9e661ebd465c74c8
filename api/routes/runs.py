"""`/v1/runs` and `/v1/releases`: receipts and publications, for operators."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from api.problems import ForbiddenError, InvalidError, ReleaseGoneError, UnknownRunError
from api.routes import page_tokens
from api.routes.context import Context, RequestContext
from api.routes.documentation import SIGNED_IN, STORED, AnswerSpec, documented
from api.routes.parameters import PageSize, PageTokenText, page_limit
from api.routes.replies import reply, reply_json
from api.views.access_schemas import ReleaseList
from api.views.forecasts import schedule_fields
from api.views.formats import MEDIA_TYPES
from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.receipts import Receipt

router = APIRouter(tags=["operators"])

_ISO_DATE_LENGTHS = (8, 10)
"""Characters of a date in ISO 8601, basic and extended."""
_LIST_NAME = "releases"


@router.get(
    "/v1/runs/current",
    operation_id="getCurrentRun",
    summary="The receipt of the run whose release is served",
    description="What the run did, store by store and chunk by chunk. For operators.",
    **documented(
        AnswerSpec("run", Receipt, "The run's receipt."),
        *SIGNED_IN, *STORED, ForbiddenError, UnknownRunError,
    ),
)  # fmt: skip
async def get_current_run(context: Context) -> Response:
    context.check_operator()
    entry = context.service.current_snapshot(context.state).entry
    return await _receipt(context, entry.as_of, entry.run_id)


@router.get(
    "/v1/runs/{run_id}",
    operation_id="getRun",
    summary="The receipt of a run, published or not",
    description="What the run did, store by store and chunk by chunk. For operators.",
    **documented(
        AnswerSpec("run", Receipt, "The run's receipt."),
        *SIGNED_IN, StorageError, CorruptError, ForbiddenError, UnknownRunError, InvalidError,
    ),
)  # fmt: skip
async def get_run(
    context: Context,
    run_id: Annotated[
        str,
        Path(
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
            description="The run's id, as answers and logs name it.",
            examples=["20261122-20261123T001502Z-5f3a"],
        ),
    ],
) -> Response:
    context.check_operator()
    as_of = _as_of_run(context.state.pointer, run_id)
    if as_of is None:
        raise UnknownRunError(f"no run {run_id} is known", run_id=run_id)
    return await _receipt(context, as_of, run_id)


@router.get(
    "/v1/releases",
    operation_id="listReleases",
    summary="What was published, newest first",
    description="Every publication that the pointer remembers. For operators.",
    **documented(
        AnswerSpec("releases", ReleaseList, "A page of releases."),
        *SIGNED_IN, ForbiddenError, ReleaseGoneError, InvalidError,
    ),
)  # fmt: skip
async def list_releases(
    context: Context, page_size: PageSize = None, page_token: PageTokenText = None
) -> Response:
    context.check_operator()
    size = page_limit(page_size, "json")
    pointer = context.state.pointer
    first = 0
    if page_token is not None:
        token = page_tokens.decode(page_token, _LIST_NAME)
        pointer = (await context.service.state_with(context.state, token.release)).pointer
        names = [entry.release for entry in pointer.history]
        if token.release not in names:
            raise ReleaseGoneError(f"release {token.release} is gone: begin with the first page")
        first = names.index(token.release) + token.position
    page = pointer.history[first : first + size]
    next_token = None
    if first + size < len(pointer.history):
        next_token = context.page_token(_LIST_NAME, page[-1].release, 1)
    return reply_json(context, _releases(context, pointer, page, next_token))


def _releases(
    context: RequestContext, pointer: Pointer, page: Sequence[Published], next_token: str | None
) -> dict[str, Any]:
    return {
        "current": pointer.current,
        "hold_through": pointer.hold_through,
        **schedule_fields(context.state.schedule, context.now),
        "releases": [
            {
                **entry.model_dump(),
                "published_at": entry.published_at.astimezone(UTC),
                "is_current": entry.release == pointer.current,
                "is_bad": entry.release in pointer.bad,
            }
            for entry in page
        ],
        "next_page_token": next_token,
    }


async def _receipt(context: RequestContext, as_of: date, run_id: str) -> Response:
    try:
        receipt = await context.service.receipts.get(as_of, run_id)
    except NotFoundError:
        raise UnknownRunError(f"there is no receipt of run {run_id}", run_id=run_id) from None
    body = receipt.model_dump_json().encode()
    return reply(context, body, MEDIA_TYPES["json"], published_at=receipt.finished_at)


def _as_of_run(pointer: Pointer, run_id: str) -> date | None:
    """The as-of of a run: from the pointer, else from the date with which a run id begins."""
    for entry in pointer.history:
        if entry.run_id == run_id:
            return entry.as_of
    for length in _ISO_DATE_LENGTHS:
        with suppress(ValueError):
            return date.fromisoformat(run_id[:length])
    return None
