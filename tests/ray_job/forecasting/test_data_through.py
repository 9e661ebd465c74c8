"""Data through: which days are missing, and which days a store never delivers."""

from datetime import date, timedelta

import numpy as np
import pytest

from ray_job.data.panel import Panel
from ray_job.forecasting.data_through import data_through

SUNDAY = date(2026, 3, 29)
DAYS = 70
WEEKDAY = (np.arange(DAYS) + (SUNDAY - timedelta(days=DAYS - 1)).weekday()) % 7
NEVER_ON_SUNDAYS = WEEKDAY != 6
ALWAYS = np.ones(DAYS, dtype=bool)


def through(delivered, declared=None, as_of=SUNDAY):
    """Data through of a series: sales on `delivered` days, declared closed on `declared` days."""
    known = delivered if declared is None else delivered | declared
    first = SUNDAY - timedelta(days=DAYS - 1)
    days = (as_of - first).days + 1
    panel = Panel(
        store_ids=np.array(["s"], dtype=object),
        item_ids=np.array([""], dtype=object),
        first_day=first,
        sales=np.where(known[:days], 10.0, np.nan)[None],
        known_ahead={},
        delivered=np.array([int(np.flatnonzero(delivered[:days])[-1]) + 1]),
    )
    newest = np.datetime64(first) + np.flatnonzero(known[:days])[-1:]
    return data_through(panel, newest)[0].astype(date)


def without(delivered, *days):
    """`delivered` without the days that are so many days before the Sunday."""
    left = delivered.copy()
    left[[DAYS - 1 - back for back in days]] = False
    return left


@pytest.mark.parametrize(
    ("delivered", "age"),
    [
        (ALWAYS, 0),
        (NEVER_ON_SUNDAYS, 0),
        (without(ALWAYS, 0), 1),  # this Sunday is missing
        (without(NEVER_ON_SUNDAYS, 1), 2),  # Saturday is missing; Sunday is never delivered
        (without(NEVER_ON_SUNDAYS, 1, 2, 3, 4, 5), 6),
        (
            without(NEVER_ON_SUNDAYS, 1, 2, 3, 4, 5, 6),
            8,
        ),  # after a week a Sunday is missing as well
        (without(NEVER_ON_SUNDAYS, *range(1, 40)), 40),
        (
            NEVER_ON_SUNDAYS & (np.arange(DAYS) >= DAYS - 14),
            1,
        ),  # too short to tell which weekdays it delivers
    ],
)
def test_a_weekday_that_is_never_delivered_is_not_missing(delivered, age):
    assert through(delivered) == SUNDAY - timedelta(days=age)


def test_a_day_that_was_declared_closed_completes_a_series():
    assert through(without(ALWAYS, 0), declared=~NEVER_ON_SUNDAYS) == SUNDAY


def test_a_declared_day_makes_no_silent_store_younger():
    silent = without(ALWAYS, 0, 1, 2)
    assert through(silent, declared=~NEVER_ON_SUNDAYS & (np.arange(DAYS) < DAYS - 1)) == (
        SUNDAY - timedelta(days=3)
    )
