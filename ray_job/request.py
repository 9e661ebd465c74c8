"""What a run is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from ray_job.bucket.receipts import BadDelivery


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. `as_of` None: the newest date with sales; "current": the live one's."""

    as_of: date | Literal["current"] | None = None
    stores: Sequence[str] | None = None
    publish: bool = True
    force: bool = False
    submission: str | None = None
    bad_deliveries: tuple[BadDelivery, ...] = ()
    """What could not be brought in before: the run goes on without it, and says so."""
