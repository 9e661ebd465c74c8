"""What is served at a moment. It is replaced as a whole, so that no answer mixes two releases."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from api.auth.grants import DENY_ALL, Grants
from api.store.snapshot import Snapshot
from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.pointer import Pointer

_DAY = timedelta(days=1)


@dataclass(frozen=True, eq=False)
class ServedState:
    """States are compared by identity: with another state, answers may differ.

    `unread_since`: since then the bucket cannot be read. `refused`: why the release that the
    pointer names is not the one that is served. `grants_refused`: why the grants of the bucket are
    not known to be those in force.
    """

    pointer: Pointer = field(default_factory=Pointer)
    generation: str | None = None
    snapshot: Snapshot | None = None
    schedule: Schedule = field(default_factory=lambda: schedule_of(Pointer()))
    grants: Grants = DENY_ALL
    grants_refused: str | None = None
    unread_since: datetime | None = None
    refused: str | None = None


def schedule_of(pointer: Pointer) -> Schedule:
    """Raises CorruptError for a time zone that does not exist."""
    try:
        return Schedule(ZoneInfo(pointer.time_zone), pointer.deadline)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise CorruptError(f"{keys.POINTER}: there is no time zone {pointer.time_zone}") from error


def last_change(schedule: Schedule, now: datetime) -> datetime:
    """When the clock changed the answers last: at local midnight or at the deadline."""
    return max(moment for moment in _changes(schedule, now) if moment <= now)


def next_change(schedule: Schedule, now: datetime) -> datetime:
    """When the clock changes the answers next: at local midnight or at the deadline."""
    return min(moment for moment in _changes(schedule, now) if moment > now)


def _changes(schedule: Schedule, now: datetime) -> list[datetime]:
    """Midnights and deadlines of yesterday, today and tomorrow."""
    return _changes_around(schedule, schedule.today(now))


@lru_cache(maxsize=8)
def _changes_around(schedule: Schedule, today: date) -> list[datetime]:
    days = (today - _DAY, today, today + _DAY)
    midnight = Schedule(schedule.zone, time.min)
    return [daily.due(day - _DAY).astimezone(UTC) for day in days for daily in (midnight, schedule)]
