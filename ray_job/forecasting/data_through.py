"""How far the sales of a series reach: what `data_through` says beside every number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Panel

Flags = npt.NDArray[np.bool_]
Days = npt.NDArray[np.datetime64]

_WEEK = 7
_WEEKS = 4
"""A weekday of which nothing was known for so long is one on which the series never sells."""


def data_through(panel: Panel, known_through: Days) -> Days:
    """(n,): the as-of where nothing of a series is missing, else the last day that was delivered.

    `known_through` is the newest day that is known, NaT where none is. Days that were declared
    closed before anybody could deliver them complete a series as long as only they are left. Once
    the sales of an open day are missing they count for nothing: else a store whose deliveries
    stopped would look younger after each Sunday.
    """
    if panel.delivered is None:
        return known_through
    first, as_of = np.datetime64(panel.first_day, "D"), np.datetime64(panel.last_day, "D")
    delivered = np.where(panel.delivered > 0, first + panel.delivered - 1, np.datetime64("NaT"))
    whole = (known_through == as_of) | _without_trade(panel, as_of - known_through)
    return np.where(whole, as_of, delivered)


def _without_trade(panel: Panel, gap: npt.NDArray[np.timedelta64]) -> Flags:
    """(n,): whether all days after the newest known one are of weekdays without sales lately.

    A chain that has no rows of its closed Sundays is not late on Sunday night. A gap of a week is
    one of any day, and a series that is younger than the weeks looked at has no such habits.
    """
    days = np.nan_to_num(gap / np.timedelta64(1, "D"), nan=_WEEK)
    found: Flags = np.zeros(len(days), dtype=np.bool_)
    width = panel.sales.shape[1]
    rows = np.flatnonzero((days > 0) & (days < _WEEK))
    if not len(rows) or width < _WEEK * (_WEEKS + 2):
        return found
    known = ~np.isnan(panel.sales[rows, -_WEEK * (_WEEKS + 2) :]).reshape(len(rows), -1, _WEEK)
    # The last column of the last axis is the as-of's weekday.
    lately: Flags = np.asarray(known[:, -_WEEKS - 1 : -1].any(axis=1))
    never = ~lately[:, ::-1]
    missing = np.arange(_WEEK) < days[rows, None]
    found[rows] = (never | ~missing).all(axis=1) & known[:, 0].any(axis=1)
    return found
