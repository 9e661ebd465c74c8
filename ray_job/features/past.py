"""Features of a series' own past: its baseline, and its sales compared with the baseline.

A day counts where the series was open and its sales are known. A day without sales counts only for
a series that has such days often; for other series it means that the store was shut.

The baseline is the mean log(1 + sales) of a weekday, with or without promotion. A residual is a
day's log(1 + sales) less its baseline.

The computation goes by blocks of series that fit into the processor's cache. The block's size
changes no bit, since each sum runs along the days of one series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from ray_job.data.context.calendar_days import same_day_of_month, same_season
from ray_job.data.panel import Floats, Floats32
from ray_job.features.amounts import AMOUNTS, AMOUNTS_OF_WEEKDAY, amounts, amounts_of_weekday
from ray_job.features.baseline import baseline_of, baseline_of_days
from ray_job.features.day_statistics import (
    last_flagged,
    mean_between,
    mean_known,
    means_of_last,
    rank_from_end,
    spread_of,
)

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

LAST = (1, 3, 6, 12, 25, 50, 100)
"""Numbers of last days that count, for means of residuals."""
HALF_LIVES = (5, 15, 40)
"""In days, for weighted means of residuals."""
SAME_KIND = (1, 2, 4, 8)
"""Numbers of last days of the target's weekday and promotion state."""
SAME_WEEKDAY = (1, 4)
"""Numbers of last days of the target's weekday."""

_BLOCK = 256
_OFTEN_WITHOUT_SALES = 0.05
"""A series has days without sales often where they are a larger share of its open days."""
_RECENT_DAYS = 210
_SAME_KIND_WEEKS = 52
_LONG_CLOSURE = 7
_LONG_HISTORY = 200
"""`history_days` ends here: with larger values a model could distinguish years by it."""
_SPREAD_DAYS = 50
_EXTREME_DAYS = 12
_MONTHS = 12
_YEAR = 364
"""A year in whole weeks, so that weekdays agree."""

PER_AS_OF = (
    "history_days",
    "share_without_sales",
    "level",
    "promo_effect",
    *(f"residual_last_{k}" for k in LAST),
    *(f"residual_half_life_{k}" for k in HALF_LIVES),
    "residual_before_last",
    "residual_least_12",
    "residual_most_12",
    "spread_6",
    "spread",
    "spread_all",
    "residual_year",
    "residual_year_ago_level",
    *AMOUNTS,
)
PER_TARGET = (
    "baseline",
    "weekday_effect",
    *(f"residual_same_kind_{k}" for k in SAME_KIND),
    "residual_same_promo_6",
    *(f"residual_same_weekday_{k}" for k in SAME_WEEKDAY),
    "residual_year_ago_day",
    "residual_year_ago_3_days",
    "residual_year_ago_week",
    "residual_year_ago_change",
    "residual_same_season_day",
    "residual_same_season_week",
    "residual_day_of_month",
    "residual_3_days_of_month",
    "days_since_open",
    "days_since_reopening",
    "days_since_sales",
    *AMOUNTS_OF_WEEKDAY,
)


@dataclass(frozen=True, slots=True)
class SalesSummary:
    """The past sales of n series over d days, and the features that all target dates share.

    `last_day` is the last of the days.
    """

    last_day: date
    residuals: Floats32
    """(n, d), NaN on days that do not count."""
    counted_sales: Floats32
    """(n, d), at least 0; NaN on days that do not count."""
    promo: Flags
    """(n, d): days with promotion."""
    baseline: Floats
    """(n, 7, 2): by weekday (Monday first), without and with promotion."""
    last_open: Floats
    """(n,): the number of the last day that counts. The last day has number 0, earlier days have
    negative numbers; NaN where there is none. This holds for the next two as well."""
    last_reopening: Floats
    """(n,): the number of the last day that counts after a closure of a week or more."""
    last_known: Floats
    """(n,): the number of the last day whose sales are known."""
    days: Ints
    """(n,): the number of days that count."""
    last_6: Floats
    """(2, n): the mean residual of the last 6 days without and with promotion."""
    per_as_of: Mapping[str, Floats]
    """The features PER_AS_OF, each (n,)."""


def summarise_sales(
    sales: Floats, opened: Floats32 | None, promo: Floats32 | None, last_day: date
) -> SalesSummary:
    """The summary of `sales`: (n, d), d at least 1, the last day being `last_day`.

    `opened` and `promo` have d or more days; None where the column is never delivered.
    """
    n, days = sales.shape
    residuals = np.empty((n, days), dtype=np.float32)
    counted_sales = np.empty((n, days), dtype=np.float32)
    promoted = np.zeros((n, days), dtype=np.bool_)
    baseline = np.empty((n, 7, 2))
    lasts = np.empty((3, n))
    last_6 = np.empty((2, n))
    counts = np.empty(n, dtype=np.int64)
    per_as_of = {name: np.empty(n) for name in PER_AS_OF}
    for start in range(0, n, _BLOCK):
        rows = slice(start, min(start + _BLOCK, n))
        block = np.ascontiguousarray(sales[rows])
        known = ~np.isnan(block)
        trading = known if opened is None else known & (opened[rows, :days] != 0)
        if promo is not None:
            promoted[rows] = np.nan_to_num(promo[rows, :days]) != 0
        share = _share_without_sales(block, trading)
        counted = trading & ((block > 0) | (share > _OFTEN_WITHOUT_SALES)[:, None])
        positive = np.where(counted, np.maximum(block, 0.0), 0.0)
        counted_sales[rows] = np.where(counted, positive, np.nan)
        logs = np.log1p(positive)
        cells, level, promo_effect = baseline_of(logs, counted, promoted[rows], last_day)
        above = logs - baseline_of_days(cells, promoted[rows], last_day)
        residuals[rows] = np.where(counted, above, np.nan)
        baseline[rows] = cells
        lasts[:, rows] = last_flagged(counted), _last_reopening(counted), last_flagged(known)
        counts[rows] = counted.sum(axis=1)
        columns = {
            "history_days": np.minimum(counts[rows], _LONG_HISTORY).astype(np.float64),
            "share_without_sales": share,
            "level": level,
            "promo_effect": promo_effect,
            "spread_all": spread_of(np.where(counted, above, 0.0), counted),
            **_recent(above, counted, promoted[rows]),
            "residual_year": mean_between(residuals[rows], -_YEAR + 1, 0),
            "residual_year_ago_level": mean_between(residuals[rows], -_YEAR - 27, -_YEAR),
            **amounts(positive, counted),
        }
        last_6[:, rows] = columns["plain_6"], columns["promo_6"]
        for name in PER_AS_OF:
            per_as_of[name][rows] = columns[name]
    return SalesSummary(
        last_day=last_day,
        residuals=residuals,
        counted_sales=counted_sales,
        promo=promoted,
        baseline=baseline,
        last_open=lasts[0],
        last_reopening=lasts[1],
        last_known=lasts[2],
        days=counts,
        last_6=last_6,
        per_as_of=per_as_of,
    )


def history_features(
    summary: SalesSummary, target_date: date, promoted: Flags
) -> dict[str, Floats]:
    """The features PER_TARGET, each (n,). `promoted`: the series with promotion on the target date.

    `target_date` is after the summary's last day.
    """
    ahead = (target_date - summary.last_day).days
    residuals, per_as_of = summary.residuals, summary.per_as_of
    baseline = summary.baseline[
        np.arange(len(promoted)), target_date.weekday(), promoted.astype(np.int64)
    ]
    of_weekday = _weekdays(residuals, ahead)
    counted = ~np.isnan(of_weekday)
    same_kind = counted & (_weekdays(summary.promo, ahead) == promoted[:, None])
    of_weekday = np.where(counted, of_weekday, 0.0)
    season = (same_season(target_date, 1) - summary.last_day).days
    of_day, of_3_days = [], []
    for months in range(1, _MONTHS + 1):
        day = (same_day_of_month(target_date, months) - summary.last_day).days
        four_weeks = mean_between(residuals, day - 14, min(0, day + 14))
        of_day.append(mean_between(residuals, day, day) - four_weeks)
        of_3_days.append(mean_between(residuals, day - 1, day + 1) - four_weeks)
    week = mean_between(residuals, ahead - _YEAR - 3, ahead - _YEAR + 3)
    earlier = mean_between(residuals, ahead - 2 * _YEAR - 3, ahead - 2 * _YEAR + 3)
    changes = [
        week - per_as_of["residual_year_ago_level"],
        earlier - mean_between(residuals, -2 * _YEAR - 27, -2 * _YEAR),
    ]
    return {
        "baseline": baseline,
        "weekday_effect": baseline - per_as_of["level"],
        **means_of_last(of_weekday, same_kind, {f"residual_same_kind_{k}": k for k in SAME_KIND}),
        "residual_same_promo_6": np.where(promoted, summary.last_6[1], summary.last_6[0]),
        **means_of_last(
            of_weekday, counted, {f"residual_same_weekday_{k}": k for k in SAME_WEEKDAY}
        ),
        "residual_year_ago_day": mean_between(residuals, ahead - _YEAR, ahead - _YEAR),
        "residual_year_ago_3_days": mean_between(residuals, ahead - _YEAR - 1, ahead - _YEAR + 1),
        "residual_year_ago_week": week,
        "residual_year_ago_change": mean_known(np.stack(changes, axis=1)),
        "residual_same_season_day": mean_between(residuals, season, season),
        "residual_same_season_week": mean_between(residuals, season - 3, season + 3),
        "residual_day_of_month": mean_known(np.stack(of_day, axis=1)),
        "residual_3_days_of_month": mean_known(np.stack(of_3_days, axis=1)),
        "days_since_open": ahead - summary.last_open,
        "days_since_reopening": ahead - summary.last_reopening,
        "days_since_sales": ahead - summary.last_known,
        **amounts_of_weekday(_weekdays(summary.counted_sales, ahead), per_as_of["mean_recent"]),
    }


def _share_without_sales(sales: Floats, trading: Flags) -> Floats:
    """The share (n,) of the open days whose known sales are not above 0; NaN for no open day."""
    days = trading.sum(axis=1)
    return np.where(days > 0, (trading & ~(sales > 0)).sum(axis=1) / np.maximum(days, 1), np.nan)


def _recent(residuals: Floats, counted: Flags, promo: Flags) -> dict[str, Floats]:
    """The features of the last 210 days, each (n,), and `promo_6` and `plain_6`: see `last_6`."""
    counted = np.ascontiguousarray(counted[:, -_RECENT_DAYS:])
    promo = promo[:, -_RECENT_DAYS:]
    values = np.where(counted, residuals[:, -_RECENT_DAYS:], 0.0)
    columns = means_of_last(values, counted, {f"residual_last_{k}": k for k in LAST})
    columns |= means_of_last(values, counted & promo, {"promo_6": 6})
    columns |= means_of_last(values, counted & ~promo, {"plain_6": 6})
    ages = np.arange(values.shape[1])[::-1]
    for half_life in HALF_LIVES:
        weights = np.where(counted, 0.5 ** (ages / half_life), 0.0)
        total = weights.sum(axis=1)
        known = total > 0
        columns[f"residual_half_life_{half_life}"] = np.where(
            known, (values * weights).sum(axis=1) / np.where(known, total, 1.0), np.nan
        )
    rank = rank_from_end(counted)
    columns |= means_of_last(values, counted & (rank != 1), {"residual_before_last": 1})
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


def _last_reopening(counted: Flags) -> Floats:
    """The number of the last day that counts after a week or more of days that do not count."""
    counted = np.ascontiguousarray(counted[:, -_RECENT_DAYS:])
    places = np.where(counted, np.arange(counted.shape[1], dtype=np.int32), np.int32(-1))
    before = np.maximum.accumulate(places, axis=1)[:, :-1]
    gap = places[:, 1:] - before
    return last_flagged(counted[:, 1:] & (before >= 0) & (gap > _LONG_CLOSURE))


def _weekdays(values: npt.NDArray[np.generic], ahead: int) -> npt.NDArray[Any]:
    """The days of the target's weekday up to the as-of, newest last: (n, at most 52 days)."""
    days = values.shape[1]
    newest = days - 1 + ahead - 7 * -(-ahead // 7)
    return np.ascontiguousarray(values[:, newest % 7 : newest + 1 : 7][:, -_SAME_KIND_WEEKS:])
