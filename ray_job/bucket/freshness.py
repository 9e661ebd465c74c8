"""Freshness: which forecast should be live now, and how old the live forecast is. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A night's forecast should be live by `deadline`, the local time of `zone`."""

    zone: ZoneInfo
    deadline: time

    def today(self, now: datetime) -> date:
        """The local date at `now`, which has a time zone."""
        return now.astimezone(self.zone).date()

    def expected_as_of(self, now: datetime) -> date:
        """The as-of that should be live at `now`.

        It is yesterday from the deadline on, and the day before yesterday until the deadline.
        """
        local = now.astimezone(self.zone)
        night = local.date() if local.time() >= self.deadline else local.date() - _DAY
        return night - _DAY

    def due(self, as_of: date) -> datetime:
        """The moment at which the forecast of `as_of` should be live."""
        return datetime.combine(as_of + _DAY, self.deadline, self.zone)

    def seconds_past_deadline(self, as_of: date, now: datetime) -> float:
        """Seconds since the forecast of the next as-of was due; negative before that moment."""
        return (now - self.due(as_of + _DAY)).total_seconds()


@dataclass(frozen=True, slots=True)
class Freshness:
    """`reason` is a sentence if the forecast is stale. `data_age_days` is None without data."""

    stale: bool
    reason: str | None
    data_age_days: int | None


def judge(
    as_of: date | None, data_through: date | None, schedule: Schedule, now: datetime
) -> Freshness:
    """The freshness at `now` of a forecast of `as_of`, made from sales through `data_through`.

    A forecast is stale if its as-of is older than the one that should be live. The data age is the
    number of days from `data_through` to `as_of`. `as_of` None means that there is no forecast.
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
