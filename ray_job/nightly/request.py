"""What a run is asked to do. It imports little: Ray begins to start before the rest is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from ray_job.bucket.errors import NothingPublishedError
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.receipts import BadDelivery

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a run is asked to do.

    `as_of` None means the newest date with sales, "current" the as-of of the current release.
    `bad_deliveries` are files that could not be brought in: the run goes on without them, and its
    receipt names them.
    """

    as_of: date | Literal["current"] | None = None
    stores: Sequence[str] | None = None
    publish: bool = True
    force: bool = False
    submission: str | None = None
    bad_deliveries: tuple[BadDelivery, ...] = ()


def requested_as_of(request: RunRequest, current: Pointer) -> date | None:
    """The as-of that is asked for; None is the newest. Raises NothingPublishedError."""
    if request.as_of != "current":
        return request.as_of
    entry = current.current_entry
    if entry is None:
        raise NothingPublishedError("--as-of current: nothing was published yet")
    return entry.as_of


def is_due(request: RunRequest, requested: date | None, current: Pointer, today: date) -> bool:
    """Whether a night without a mistake has work, as far as the pointer says.

    This is known before the histories are listed, which takes a second for 100,000 stores. With
    a list of stores a mistake is likelier, and should be told at once.
    """
    if request.stores is not None:
        return False
    newest = today - _DAY if requested is None else requested
    return newest < today and newest not in current.dates
