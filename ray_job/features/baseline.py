"""The baseline of a series: its mean log of sales by weekday and promotion state."""

from __future__ import annotations

from datetime import date

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats

Flags = npt.NDArray[np.bool_]

_PRIOR = 2.0
"""The coarser mean has the weight of so many days in the mean of a cell of the baseline."""


def baseline_of(
    logs: Floats, counted: Flags, promo: Flags, last_day: date
) -> tuple[Floats, Floats, Floats]:
    """The baseline (n, 7, 2), the mean log (n,) and the effect of a promotion on the log (n,).

    `logs` is 0 where a day does not count. A cell is drawn towards the series' mean plus the
    effects of weekday and promotion; each effect is drawn towards 0.
    """
    sums, days = _by_weekday(logs, last_day), _by_weekday(counted, last_day)
    promoted = counted & promo
    promo_sums, promo_days = (
        _by_weekday(np.where(promoted, logs, 0.0), last_day),
        _by_weekday(promoted, last_day),
    )
    total, number = sums.sum(axis=1), days.sum(axis=1)
    level = np.where(number > 0, total / np.maximum(number, 1.0), np.nan)
    weekday = (sums - days * level[:, None]) / (days + _PRIOR)
    expected = level[:, None] + weekday
    effect = np.empty((*level.shape, 2))
    cells = np.empty((*sums.shape, 2))
    for state, (state_sums, state_days) in enumerate(
        ((sums - promo_sums, days - promo_days), (promo_sums, promo_days))
    ):
        above = (state_sums - np.where(state_days > 0, state_days * expected, 0.0)).sum(axis=1)
        effect[:, state] = above / (state_days.sum(axis=1) + _PRIOR)
        prior = expected + effect[:, state][:, None]
        cells[:, :, state] = (state_sums + _PRIOR * prior) / (state_days + _PRIOR)
    return cells, level, effect[:, 1] - effect[:, 0]


def baseline_of_days(baseline: Floats, promo: Flags, last_day: date) -> Floats:
    """The baseline of each of d days: (n, d).

    `promo`: (n, d), the days with promotion. `last_day` is the last of the days.
    """
    days = promo.shape[1]
    weekdays = (last_day.weekday() - days + 1 + np.arange(days)) % 7
    cells_of_series = baseline.shape[1] * baseline.shape[2]
    cells = promo + 2 * weekdays + cells_of_series * np.arange(len(promo))[:, None]
    values: Floats = baseline.ravel().take(cells)
    return values


def _by_weekday(values: Floats | Flags, last_day: date) -> Floats:
    """Sums over the days of each weekday, Monday first: (n, 7)."""
    sums = np.empty((len(values), 7))
    days = values.shape[1]
    for weekday in range(7):
        first = (weekday - last_day.weekday() + days - 1) % 7
        part = np.ascontiguousarray(values[:, first::7], dtype=np.float64)
        sums[:, weekday] = part.sum(axis=1)
    return sums
