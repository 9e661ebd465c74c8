"""The as-of that should be live, as a table of cases with changes of the clocks."""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from ray_job.bucket.freshness import Schedule, judge

BERLIN = Schedule(ZoneInfo("Europe/Berlin"), time(6, 0))
TOKYO = Schedule(ZoneInfo("Asia/Tokyo"), time(6, 0))
SKIPPED = Schedule(ZoneInfo("Europe/Berlin"), time(2, 30))
"""A deadline that does not exist on a day in spring, and occurs twice on a day in autumn."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "now", "expected"),
    [
        # Winter: Berlin is one hour ahead, so the deadline is at 5:00 UTC.
        (BERLIN, "2026-01-15T04:59:59", date(2026, 1, 13)),
        (BERLIN, "2026-01-15T05:00:00", date(2026, 1, 14)),
        (BERLIN, "2026-01-15T23:30:00", date(2026, 1, 14)),  # already the 16th in Berlin
        # Summer: two hours ahead.
        (BERLIN, "2026-07-15T03:59:59", date(2026, 7, 13)),
        (BERLIN, "2026-07-15T04:00:00", date(2026, 7, 14)),
        # The night of 29 March has 23 hours, that of 25 October 25.
        (BERLIN, "2026-03-29T03:59:59", date(2026, 3, 27)),
        (BERLIN, "2026-03-29T04:00:00", date(2026, 3, 28)),
        (BERLIN, "2026-10-25T04:59:59", date(2026, 10, 23)),
        (BERLIN, "2026-10-25T05:00:00", date(2026, 10, 24)),
        # 2:30 does not exist on 29 March: after the leap it is past.
        (SKIPPED, "2026-03-29T00:59:59", date(2026, 3, 27)),
        (SKIPPED, "2026-03-29T01:00:00", date(2026, 3, 28)),
        # 2:30 comes twice on 25 October.
        (SKIPPED, "2026-10-25T00:29:59", date(2026, 10, 23)),
        (SKIPPED, "2026-10-25T01:30:00", date(2026, 10, 24)),
        (TOKYO, "2026-01-14T20:59:59", date(2026, 1, 13)),
        (TOKYO, "2026-01-14T21:00:00", date(2026, 1, 14)),
    ],
)
def test_the_as_of_that_should_be_live(schedule, now, expected):
    assert schedule.expected_as_of(at(now)) == expected


def test_today_is_that_of_the_zone():
    assert BERLIN.today(at("2026-07-14T22:30:00")) == date(2026, 7, 15)
    assert TOKYO.today(at("2026-07-14T14:59:59")) == date(2026, 7, 14)


@pytest.mark.parametrize(
    ("as_of", "now", "seconds"),
    [
        (date(2026, 1, 14), "2026-01-16T05:00:00", 0),
        (date(2026, 1, 14), "2026-01-16T06:00:00", 3600),
        (date(2026, 1, 14), "2026-01-15T05:00:00", -86400),
        (date(2026, 3, 27), "2026-03-29T05:00:00", 3600),  # a day of 23 hours
    ],
)
def test_seconds_past_the_deadline(as_of, now, seconds):
    assert BERLIN.seconds_past_deadline(as_of, at(now)) == seconds


def test_judgement():
    noon = at("2026-01-15T11:00:00")
    fresh = judge(date(2026, 1, 14), date(2026, 1, 14), BERLIN, noon)
    assert (fresh.stale, fresh.reason, fresh.data_age_days) == (False, None, 0)
    late = judge(date(2026, 1, 14), date(2026, 1, 11), BERLIN, noon)
    assert (late.stale, late.data_age_days) == (False, 3)
    stale = judge(date(2026, 1, 13), date(2026, 1, 13), BERLIN, noon)
    assert stale.stale
    assert "Tuesday 13 January 2026" in stale.reason
    assert "due on Thursday 15 January 2026 at 06:00" in stale.reason
    nothing = judge(None, None, BERLIN, noon)
    assert (nothing.stale, nothing.reason) == (True, "there is no forecast")
    ahead = judge(date(2026, 1, 15), date(2026, 1, 15), BERLIN, noon)
    assert not ahead.stale
