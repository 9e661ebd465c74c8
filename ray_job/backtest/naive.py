"""Naive rules: what a model must beat to be worth its keep."""

from __future__ import annotations

from datetime import date

import numpy as np

from ray_job.data.panel import Floats, Panel
from ray_job.features.past import History, history_features

RULES = (
    "same_weekday_last_week",
    "last_open_day",
    "same_weekday_and_promo_8",
    "weekday_promo_mean_and_last_6",
)


def naive_forecasts(known: Panel, history: History, target: date) -> dict[str, Floats]:
    """RULES, each (n,), for a panel that ends with the as-of; NaN where a rule knows nothing.

    `same_weekday_last_week`: the sales a week before, or two where that is after the as-of.
    `last_open_day`: those of the last day that counts. `same_weekday_and_promo_8`: the mean log of
    the last 8 such days with the same promotion state. `weekday_promo_mean_and_last_6`: the mean
    log of such days in all history, plus the mean residual of the last 6 days that count.
    """
    days = known.sales.shape[1]
    column = known.column(target)
    promo = known.known_ahead.get("promo")
    promoted = np.zeros(known.n_series, dtype=np.bool_)
    if promo is not None and column < promo.shape[1]:
        promoted = np.nan_to_num(promo[:, column]) != 0
    found = history_features(history, target, promoted)
    week_ago = column - 7 * -(-(column - days + 1) // 7)
    rows = np.arange(known.n_series)
    opened = ~np.isnan(history.last_open)
    last = (days - 1 + np.nan_to_num(history.last_open)).astype(np.int64)
    nothing = np.full(known.n_series, np.nan)
    return {
        "same_weekday_last_week": _sales(known.sales[:, week_ago]) if week_ago >= 0 else nothing,
        "last_open_day": np.where(opened, _sales(known.sales[rows, last]), np.nan),
        "same_weekday_and_promo_8": np.expm1(found["baseline"] + found["residual_same_kind_8"]),
        "weekday_promo_mean_and_last_6": np.expm1(
            found["baseline"] + history.per_as_of["residual_last_6"]
        ),
    }


def _sales(values: Floats) -> Floats:
    return np.asarray(np.maximum(values, 0.0), dtype=np.float64)
