# ruff: noqa: INP001 - a script beside the one that calls it
"""Cron expressions, and the nights on which their minute does not exist.

setup runs `schedules.py ZONE MANIFEST…` and `schedules.py --window ZONE`. Some zones set their
clocks forward at midnight. A CronJob skips a minute that does not exist, so the job would not run
in that night. Needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))


def parse(expression: str) -> dict[str, set[int]]:
    """The values of the five fields. Raises ValueError for an expression that is not valid."""
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"{expression!r} has {len(parts)} fields, not {len(_FIELDS)}")
    return {
        name: _values(part, low, high)
        for part, (name, low, high) in zip(parts, _FIELDS, strict=True)
    }


def _values(field: str, low: int, high: int) -> set[int]:
    allowed: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        values = range(int(first), int(last or first) + 1, int(step or 1))
        if not values or values[0] < low or values[-1] > high:
            raise ValueError(f"{part!r} is not within {low} to {high}")
        allowed.update(values)
    return allowed


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
    """Whether the clocks of `zone` show that time; a skipped time is another one after UTC."""
    from_utc = local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
    return from_utc.replace(tzinfo=None) == local


def main(zone: str, manifests: list[str]) -> str | None:
    """The first error, in one sentence; None if there is none."""
    try:
        time_zone = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        return f"TIME_ZONE={zone} is no time zone"
    for manifest in manifests:
        for expression in re.findall(
            r"^  schedule: (.+)$", Path(manifest).read_text(), re.MULTILINE
        ):
            skipped = skipped_nights(expression, time_zone, datetime.now(UTC).date())
            if skipped:
                return (
                    f"TIME_ZONE={zone}: the clock skips the minute of {expression!r} on"
                    f" {skipped[0]}, so that night would not run; change the schedule in {manifest}"
                )
    return None


def maintenance_window(zone: ZoneInfo) -> tuple[datetime, datetime]:
    """10:00 to 16:00 of `zone` on a winter's day, in UTC: the start and the end of GKE's window.

    GKE repeats it in UTC, so it moves by an hour in summer. Neither the night's run nor its
    deadline is ever inside.
    """
    start = datetime(2026, 1, 1, 10, tzinfo=zone).astimezone(UTC)
    return start, start + timedelta(hours=6)


if __name__ == "__main__":
    if sys.argv[1] == "--window":
        window = maintenance_window(ZoneInfo(sys.argv[2]))
        sys.stdout.write(" ".join(f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in window) + "\n")
    else:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
