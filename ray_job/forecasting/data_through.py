"""The last day whose sales are known of a series: `data_through`, beside every number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Panel

Flags = npt.NDArray[np.bool_]
Days = npt.NDArray[np.datetime64]

_WEEK = 7
_WEEKS = 4
"""A weekday without known sales for so many weeks is one on which the series never sells."""


def data_through(panel: Panel, known_through: Days) -> Days:
    """(n,): the as-of where no sales of a series are missing, else the last delivered day.

    `known_through` is (n,): the newest day that is known, NaT where none is. Days that were
    declared closed in advance count as known as long as no open day before them is missing. After
    the first missing open day they do not count: otherwise a store whose deliveries stopped would
    seem younger after each closed Sunday.
    """
    if panel.delivered is None:
        return known_through
    first, as_of = np.datetime64(panel.first_day, "D"), np.datetime64(panel.last_day, "D")
    delivered = np.where(panel.delivered > 0, first + panel.delivered - 1, np.datetime64("NaT"))
    is_complete = (known_through == as_of) | _without_trade(panel, as_of - known_through)
    return np.where(is_complete, as_of, delivered)


def _without_trade(panel: Panel, gap: npt.NDArray[np.timedelta64]) -> Flags:
    """(n,): whether all days after the newest known day are weekdays without recent sales.

    A chain that delivers no rows for its closed Sundays is not late on Sunday night. A gap of a
    week or more contains every weekday, so that it is never of this kind. A series that is younger
    than the weeks that are compared has no such weekdays.
    """
    days = np.nan_to_num(gap / np.timedelta64(1, "D"), nan=_WEEK)
    result: Flags = np.zeros(len(days), dtype=np.bool_)
    width = panel.sales.shape[1]
    rows = np.flatnonzero((days > 0) & (days < _WEEK))
    if not len(rows) or width < _WEEK * (_WEEKS + 2):
        return result
    known = ~np.isnan(panel.sales[rows, -_WEEK * (_WEEKS + 2) :]).reshape(len(rows), -1, _WEEK)
    # The last column of the last axis is the weekday of the as-of.
    recently: Flags = np.asarray(known[:, -_WEEKS - 1 : -1].any(axis=1))
    never = ~recently[:, ::-1]
    missing = np.arange(_WEEK) < days[rows, None]
    result[rows] = (never | ~missing).all(axis=1) & known[:, 0].any(axis=1)
    return result
