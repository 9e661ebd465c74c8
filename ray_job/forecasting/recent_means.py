"""The recent sales of series: what is usual, and what is scored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np

from ray_job.data.panel import Floats, Panel

_WEEK = 7
_RECENT_WEEKS = 4
_ODD = 8.0


def recent_weekday_mean(panel: Panel, targets: Sequence[date]) -> Floats:
    """(n, h): the mean sales of the target's weekday in the last four weeks, over days with sales.

    NaN where the series sold nothing on this weekday. A day above 8 times the median of these days
    does not count: one mistyped day would hide what is usual for four weeks.
    """
    days = panel.sales.shape[1]
    means = np.full((panel.n_series, len(targets)), np.nan)
    for place, target in enumerate(targets):
        ahead = panel.column(target) - (days - 1)
        newest = days - 1 + ahead - _WEEK * (-(-ahead // _WEEK))
        columns = [k for k in range(newest, newest - _WEEK * _RECENT_WEEKS, -_WEEK) if k >= 0]
        values = panel.sales[:, columns]
        counted = values > 0
        if columns:
            ordered = np.sort(np.where(counted, values, np.inf), axis=1)
            odd = np.flatnonzero(
                values.max(axis=1, where=counted, initial=0) > _ODD * ordered[:, 0]
            )
            middle, last = counted[odd].sum(axis=1) // 2, (counted[odd].sum(axis=1) - 1) // 2
            medians = (ordered[odd, middle] + ordered[odd, last]) / 2
            counted[odd] &= values[odd] <= _ODD * medians[:, None]
        number = counted.sum(axis=1)
        total = np.where(counted, values, 0.0).sum(axis=1)
        means[:, place] = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return means


def last_sales(panel: Panel, days: int) -> Floats:
    """(n, days): the sales of the last days, oldest first; NaN before the panel begins."""
    last = panel.sales[:, -days:]
    if last.shape[1] == days:
        return last
    missing = np.full((panel.n_series, days - last.shape[1]), np.nan)
    return np.concatenate([missing, last], axis=1)
