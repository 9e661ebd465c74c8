"""Naive rules. A model is useful only if it is better than all of them."""

from __future__ import annotations

from datetime import date

import numpy as np

from ray_job.data.panel import Floats, Panel
from ray_job.features.past import SalesSummary, baseline_and_same_kind

RULES = (
    "same_weekday_last_week",
    "last_open_day",
    "same_weekday_and_promo_8",
    "weekday_promo_mean_and_last_6",
)


def naive_forecasts(known: Panel, summary: SalesSummary, target: date) -> dict[str, Floats]:
    """The sales that each of RULES forecasts, each (n,); NaN where a rule has no day to use.

    `known` ends with the as-of and `summary` is its summary. A day counts as in `features.past`.

    - `same_weekday_last_week`: the sales one week before the target date; two weeks before it where
      one week before is after the as-of.
    - `last_open_day`: the sales of the last day that counts.
    - `same_weekday_and_promo_8`: the mean log of the last 8 days that count and have the target's
      weekday and promotion state.
    - `weekday_promo_mean_and_last_6`: the mean log of the target's weekday and promotion state over
      the whole history, plus the mean residual of the last 6 days that count.
    """
    days = known.sales.shape[1]
    column = known.column(target)
    promo = known.known_ahead.get("promo")
    promoted = np.zeros(known.n_series, dtype=np.bool_)
    if promo is not None and column < promo.shape[1]:
        promoted = np.nan_to_num(promo[:, column]) != 0
    baseline, same_kind = baseline_and_same_kind(summary, target, promoted)
    week_ago = column - 7 * -(-(column - days + 1) // 7)
    rows = np.arange(known.n_series)
    has_open_day = ~np.isnan(summary.last_open)
    last = (days - 1 + np.nan_to_num(summary.last_open)).astype(np.int64)
    unknown = np.full(known.n_series, np.nan)
    return {
        "same_weekday_last_week": _sales(known.sales[:, week_ago]) if week_ago >= 0 else unknown,
        "last_open_day": np.where(has_open_day, _sales(known.sales[rows, last]), np.nan),
        "same_weekday_and_promo_8": np.expm1(baseline + same_kind["residual_same_kind_8"]),
        "weekday_promo_mean_and_last_6": np.expm1(baseline + summary.per_as_of["residual_last_6"]),
    }


def _sales(values: Floats) -> Floats:
    """Negative sales (returns) as 0."""
    return np.asarray(np.maximum(values, 0.0), dtype=np.float64)
