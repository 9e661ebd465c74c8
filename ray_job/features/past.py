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
from ray_job.features.amounts import (
    AMOUNTS,
    AMOUNTS_OF_WEEKDAY,
    RECENT_DAYS,
    amounts,
    amounts_of_weekday,
)
from ray_job.features.baseline import baseline_of, baseline_of_days
from ray_job.features.day_statistics import (
    last_flagged,
    mean_between,
    mean_known,
    means_between,
    means_of_last,
    numbers_of,
    rank_from_end,
    spread_of,
)
from ray_job.features.recent import HALF_LIVES, LAST, LAST_DAYS, recent_residuals

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

SAME_KIND = (1, 2, 4, 8)
"""Numbers of last days of the target's weekday and promotion state."""
SAME_WEEKDAY = (1, 4)
"""Numbers of last days of the target's weekday."""

_BLOCK = 256
_OFTEN_WITHOUT_SALES = 0.05
"""A series has days without sales often where they are a larger share of its open days."""
_SAME_KIND_WEEKS = 52
_LONG_CLOSURE = 7
_LONG_HISTORY = 200
"""`history_days` ends here: with larger values a model could distinguish years by it."""
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
    *(f"lag_residual_{k}" for k in LAST_DAYS),
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

    def take(self, rows: Ints) -> SalesSummary:
        """The summary of these series."""
        return SalesSummary(
            last_day=self.last_day,
            residuals=self.residuals[rows],
            counted_sales=self.counted_sales[rows],
            promo=self.promo[rows],
            baseline=self.baseline[rows],
            last_open=self.last_open[rows],
            last_reopening=self.last_reopening[rows],
            last_known=self.last_known[rows],
            days=self.days[rows],
            last_6=self.last_6[:, rows],
            per_as_of={name: values[rows] for name, values in self.per_as_of.items()},
        )


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
        counts[rows] = numbers_of(counted)
        recent = np.ascontiguousarray(counted[:, -RECENT_DAYS:])
        rank = rank_from_end(recent)
        promo_recent = promoted[rows, -RECENT_DAYS:]
        columns = {
            "history_days": np.minimum(counts[rows], _LONG_HISTORY).astype(np.float64),
            "share_without_sales": share,
            "level": level,
            "promo_effect": promo_effect,
            "spread_all": spread_of(np.where(counted, above, 0.0), counted),
            **recent_residuals(above[:, -RECENT_DAYS:], recent, promo_recent, rank),
            "residual_year": mean_between(residuals[rows], -_YEAR + 1, 0),
            "residual_year_ago_level": mean_between(residuals[rows], -_YEAR - 27, -_YEAR),
            **amounts(np.ascontiguousarray(positive[:, -RECENT_DAYS:]), recent, rank),
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
    of_weekday = _weekdays(residuals, ahead)
    counted = ~np.isnan(of_weekday)
    baseline, same_kind = baseline_and_same_kind(summary, target_date, promoted)
    season = (same_season(target_date, 1) - summary.last_day).days
    of_month = [
        (same_day_of_month(target_date, months) - summary.last_day).days
        for months in range(1, _MONTHS + 1)
    ]
    year_ago, two_years_ago = ahead - _YEAR, ahead - 2 * _YEAR
    means = means_between(
        residuals,
        [
            *((day - 14, min(0, day + 14)) for day in of_month),
            *((day, day) for day in of_month),
            *((day - 1, day + 1) for day in of_month),
            (year_ago - 3, year_ago + 3),
            (two_years_ago - 3, two_years_ago + 3),
            (-2 * _YEAR - 27, -2 * _YEAR),
            (year_ago, year_ago),
            (year_ago - 1, year_ago + 1),
            (season, season),
            (season - 3, season + 3),
        ],
    )
    four_weeks, of_day, of_3_days = (
        means[:, first : first + _MONTHS] for first in range(0, 3 * _MONTHS, _MONTHS)
    )
    week, earlier, earlier_level, year_ago_day, year_ago_3_days, season_day, season_week = means[
        :, 3 * _MONTHS :
    ].T
    changes = [week - per_as_of["residual_year_ago_level"], earlier - earlier_level]
    return {
        "baseline": baseline,
        "weekday_effect": baseline - per_as_of["level"],
        **same_kind,
        "residual_same_promo_6": np.where(promoted, summary.last_6[1], summary.last_6[0]),
        **means_of_last(
            np.where(counted, of_weekday, 0.0),
            counted,
            {f"residual_same_weekday_{k}": k for k in SAME_WEEKDAY},
        ),
        "residual_year_ago_day": year_ago_day,
        "residual_year_ago_3_days": year_ago_3_days,
        "residual_year_ago_week": week,
        "residual_year_ago_change": mean_known(np.stack(changes, axis=1)),
        "residual_same_season_day": season_day,
        "residual_same_season_week": season_week,
        "residual_day_of_month": mean_known(of_day - four_weeks),
        "residual_3_days_of_month": mean_known(of_3_days - four_weeks),
        "days_since_open": ahead - summary.last_open,
        "days_since_reopening": ahead - summary.last_reopening,
        "days_since_sales": ahead - summary.last_known,
        **amounts_of_weekday(_weekdays(summary.counted_sales, ahead), per_as_of["mean_recent"]),
    }


def baseline_and_same_kind(
    summary: SalesSummary, target_date: date, promoted: Flags
) -> tuple[Floats, dict[str, Floats]]:
    """The features `baseline` (n,) and `residual_same_kind_*`, by name. See `history_features`."""
    ahead = (target_date - summary.last_day).days
    baseline = summary.baseline[
        np.arange(len(promoted)), target_date.weekday(), promoted.astype(np.int64)
    ]
    of_weekday = _weekdays(summary.residuals, ahead)
    counted = ~np.isnan(of_weekday) & (_weekdays(summary.promo, ahead) == promoted[:, None])
    values = np.where(counted, of_weekday, 0.0)
    days_by_name = {f"residual_same_kind_{k}": k for k in SAME_KIND}
    return baseline, means_of_last(values, counted, days_by_name)


def _share_without_sales(sales: Floats, trading: Flags) -> Floats:
    """The share (n,) of the open days whose known sales are not above 0; NaN for no open day."""
    days = numbers_of(trading)
    without = numbers_of(trading & ~(sales > 0))
    return np.where(days > 0, without / np.maximum(days, 1), np.nan)


def _last_reopening(counted: Flags) -> Floats:
    """The number of the last day that counts after a week or more of days that do not count."""
    counted = np.ascontiguousarray(counted[:, -RECENT_DAYS:])
    places = np.where(counted, np.arange(counted.shape[1], dtype=np.int32), np.int32(-1))
    before = np.maximum.accumulate(places, axis=1)[:, :-1]
    gap = places[:, 1:] - before
    return last_flagged(counted[:, 1:] & (before >= 0) & (gap > _LONG_CLOSURE))


def _weekdays(values: npt.NDArray[np.generic], ahead: int) -> npt.NDArray[Any]:
    """The days of the target's weekday up to the as-of, newest last: (n, at most 52 days)."""
    days = values.shape[1]
    newest = days - 1 + ahead - 7 * -(-ahead // 7)
    return np.ascontiguousarray(values[:, newest % 7 : newest + 1 : 7][:, -_SAME_KIND_WEEKS:])
