"""Freshness: what should be live by now, and how old what is live is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a night's forecast should be live: by `deadline`, local time of `zone`."""

    zone: ZoneInfo
    deadline: time

    def today(self, now: datetime) -> date:
        return now.astimezone(self.zone).date()

    def expected_as_of(self, now: datetime) -> date:
        """The as-of that should be live at `now`: yesterday, before the deadline the day before."""
        local = now.astimezone(self.zone)
        night = local.date() if local.time() >= self.deadline else local.date() - _DAY
        return night - _DAY

    def due(self, as_of: date) -> datetime:
        """The moment by which the forecast of `as_of` should be live."""
        return datetime.combine(as_of + _DAY, self.deadline, self.zone)

    def seconds_past_deadline(self, as_of: date, now: datetime) -> float:
        """Seconds since the next night's forecast was due; negative while there is time left."""
        return (now - self.due(as_of + _DAY)).total_seconds()


@dataclass(frozen=True, slots=True)
class Freshness:
    stale: bool
    reason: str | None
    data_age_days: int | None


def judge(
    as_of: date | None, data_through: date | None, schedule: Schedule, now: datetime
) -> Freshness:
    """How fresh a forecast is at `now`.

    Stale is a forecast whose as-of is older than the one that should be live. The data age is
    counted in days from data through to the forecast's as-of.
    """
    expected = schedule.expected_as_of(now)
    age = None if as_of is None or data_through is None else (as_of - data_through).days
    if as_of is None:
        return Freshness(stale=True, reason="there is no forecast", data_age_days=age)
    if as_of >= expected:
        return Freshness(stale=False, reason=None, data_age_days=age)
    due = schedule.due(as_of + _DAY)
    return Freshness(
        stale=True,
        reason=(
            f"made from sales through {as_of:%A %-d %B %Y} or earlier; a newer forecast was due"
            f" on {due:%A %-d %B %Y at %H:%M}"
        ),
        data_age_days=age,
    )
