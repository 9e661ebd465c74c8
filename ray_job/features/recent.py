"""Features of a series' last days: how its sales lie above or below its baseline of late."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats
from ray_job.features.day_statistics import Ranks, means_of_last, rank_from_end, spread_of

Flags = npt.NDArray[np.bool_]

LAST = (1, 3, 6, 12, 25, 50, 100)
"""Numbers of last days that count, for means of residuals."""
HALF_LIVES = (5, 15, 40)
"""In days, for weighted means of residuals."""

LAST_DAYS = (0, 1, 2, 3, 4, 5, 6)
"""Days before the as-of whose residuals are features by themselves."""

_SPREAD_DAYS = 50
_EXTREME_DAYS = 12


def recent_residuals(
    residuals: Floats, counted: Flags, promo: Flags, rank: Ranks
) -> dict[str, Floats]:
    """The features of the last RECENT_DAYS days, each (n,), and `promo_6` and `plain_6`.

    All arguments are (n, RECENT_DAYS or fewer); `rank` is `rank_from_end(counted)`. See `last_6`.
    """
    values = np.where(counted, residuals, 0.0)
    columns = means_of_last(values, counted, {f"residual_last_{k}": k for k in LAST}, rank)
    promoted = counted & promo
    promo_rank = rank_from_end(promoted)
    columns |= means_of_last(values, promoted, {"promo_6": 6}, promo_rank)
    columns |= means_of_last(values, counted & ~promo, {"plain_6": 6}, rank - promo_rank)
    ages = np.arange(values.shape[1])[::-1]
    for half_life in HALF_LIVES:
        weights = np.where(counted, 0.5 ** (ages / half_life), 0.0)
        total = weights.sum(axis=1)
        known = total > 0
        columns[f"residual_half_life_{half_life}"] = np.where(
            known, (values * weights).sum(axis=1) / np.where(known, total, 1.0), np.nan
        )
    for k in LAST_DAYS:
        day = values.shape[1] - 1 - k
        columns[f"lag_residual_{k}"] = (
            np.where(counted[:, day], residuals[:, day], np.nan)
            if day >= 0
            else np.full(len(values), np.nan)
        )
    before_last = np.where(counted & (rank == 2), values, 0.0).sum(axis=1)  # noqa: PLR2004
    columns["residual_before_last"] = np.where(rank[:, 0] > 1, before_last, np.nan)
    for name, days in (("spread_6", 6), ("spread", _SPREAD_DAYS)):
        last = counted & (rank <= days)
        columns[name] = spread_of(np.where(last, values, 0.0), last)
    last = counted & (rank <= _EXTREME_DAYS)
    any_day = last.any(axis=1)
    for name, extreme, neutral in (
        ("residual_least_12", np.min, np.inf),
        ("residual_most_12", np.max, -np.inf),
    ):
        columns[name] = np.where(any_day, extreme(np.where(last, values, neutral), axis=1), np.nan)
    return columns
