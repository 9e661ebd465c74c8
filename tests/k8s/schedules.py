"""Cron expressions, and whether every night has the minute that they name."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))


def parse(expression: str) -> dict[str, set[int]]:
    """The values of the five fields. Raises ValueError for what Kubernetes would refuse too."""
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"{expression!r} has {len(parts)} fields, not {len(_FIELDS)}")
    return {
        name: _values(part, low, high)
        for part, (name, low, high) in zip(parts, _FIELDS, strict=True)
    }


def _values(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        values = range(int(first), int(last or first) + 1, int(step or 1))
        if not values or values[0] < low or values[-1] > high:
            raise ValueError(f"{item!r} is not within {low} to {high}")
        found.update(values)
    return found


def skipped_nights(expression: str, zone: ZoneInfo, first: date, years: int = 10) -> list[date]:
    """The days on which the clock jumps over a minute that `expression` names."""
    fields = parse(expression)
    moments = [time(hour, minute) for hour in fields["hour"] for minute in fields["minute"]]
    days = [first + timedelta(days=number) for number in range(365 * years)]
    return [
        day
        for day in days
        if day.month in fields["month"]
        and day.day in fields["day"]
        and any(not _exists(datetime.combine(day, moment), zone) for moment in moments)
    ]


def _exists(local: datetime, zone: ZoneInfo) -> bool:
    there_and_back = local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
    return there_and_back.replace(tzinfo=None) == local
