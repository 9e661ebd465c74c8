"""Features of a series' own past: its baseline, and how it has sold against it.

The baseline is the mean log of sales of a weekday with or without promotion. A residual is a day's
log of sales less its baseline. A day counts where the series was open and its sales are known; a
day without sales counts only for series that often have such days (to others it says that the
shop was shut).

Work goes by blocks of series that fit into the processor's cache; a block's size changes no bit,
since every sum runs along the days of one series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from ray_job.data.calendar_days import same_day_of_month, same_season
from ray_job.data.panel import Floats, Floats32
from ray_job.features.along_days import (
    last_flagged,
    mean_between,
    mean_known,
    means_of_last,
    rank_from_end,
    spread_of,
)

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_BLOCK = 256
_OFTEN_WITHOUT_SALES = 0.05
_PRIOR = 2.0
"""A mean of few days leans on the coarser one, as if that had been seen on so many days."""
_RECENT_DAYS = 210
_LAST = (1, 3, 6, 12, 25, 50, 100)
_HALF_LIVES = (5, 15, 40)
_SAME_KIND = (1, 2, 4, 8)
_SAME_KIND_WEEKS = 52
_LONG_CLOSURE = 7
_LONG_HISTORY = 200
"""More days than this make no difference: else the model could tell years apart by them."""
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
    *(f"residual_last_{k}" for k in _LAST),
    *(f"residual_half_life_{k}" for k in _HALF_LIVES),
    "residual_before_last",
    "residual_least_12",
    "residual_most_12",
    "spread_6",
    "spread",
    "spread_all",
    "residual_year",
    "residual_year_ago_level",
)
PER_TARGET = (
    "baseline",
    "weekday_effect",
    *(f"residual_same_kind_{k}" for k in _SAME_KIND),
    "residual_same_promo_6",
    "residual_same_weekday_1",
    "residual_same_weekday_4",
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
)


@dataclass(frozen=True, slots=True)
class History:
    """What the past of n series over d days amounts to; `last_day` is the last of them."""

    last_day: date
    residuals: Floats32
    """(n, d), NaN on days that don't count."""
    promo: Flags
    """(n, d)"""
    baseline: Floats
    """(n, 7, 2): by weekday (Monday first), without and with promotion."""
    last_open: Floats
    last_reopening: Floats
    last_known: Floats
    """(n,): day numbers, the last day's being 0 and earlier ones negative; NaN where none."""
    days: Ints
    """(n,): how many days count."""
    last_6: Floats
    """(2, n): the mean residual of the last 6 days without and with promotion."""
    per_as_of: Mapping[str, Floats]
    """PER_AS_OF, each (n,)"""


def read_history(
    sales: Floats, opened: Floats32 | None, promo: Floats32 | None, last_day: date
) -> History:
    """`sales` is (n, d) with at least one day, `opened` and `promo` at least as many days."""
    n, days = sales.shape
    residuals = np.empty((n, days), dtype=np.float32)
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
        logs = np.log1p(np.where(counted, np.maximum(block, 0.0), 0.0))
        table, level, promo_effect = _baseline(logs, counted, promoted[rows], last_day)
        against = logs - _along(table, promoted[rows], last_day)
        residuals[rows] = np.where(counted, against, np.nan)
        baseline[rows] = table
        lasts[:, rows] = last_flagged(counted), _last_reopening(counted), last_flagged(known)
        counts[rows] = counted.sum(axis=1)
        found = {
            "history_days": np.minimum(counts[rows], _LONG_HISTORY).astype(np.float64),
            "share_without_sales": share,
            "level": level,
            "promo_effect": promo_effect,
            "spread_all": spread_of(np.where(counted, against, 0.0), counted),
            **_recent(against, counted, promoted[rows]),
            "residual_year": mean_between(residuals[rows], -_YEAR + 1, 0),
            "residual_year_ago_level": mean_between(residuals[rows], -_YEAR - 27, -_YEAR),
        }
        last_6[:, rows] = found["plain_6"], found["promo_6"]
        for name in PER_AS_OF:
            per_as_of[name][rows] = found[name]
    return History(
        last_day=last_day,
        residuals=residuals,
        promo=promoted,
        baseline=baseline,
        last_open=lasts[0],
        last_reopening=lasts[1],
        last_known=lasts[2],
        days=counts,
        last_6=last_6,
        per_as_of=per_as_of,
    )


def history_features(history: History, target_date: date, promoted: Flags) -> dict[str, Floats]:
    """PER_TARGET, each (n,). `promoted` says which series have a promotion on the target date."""
    ahead = (target_date - history.last_day).days
    residuals, per_as_of = history.residuals, history.per_as_of
    baseline = history.baseline[
        np.arange(len(promoted)), target_date.weekday(), promoted.astype(np.int64)
    ]
    same = _weekdays(residuals, ahead)
    counted = ~np.isnan(same)
    alike = counted & (_weekdays(history.promo, ahead) == promoted[:, None])
    same = np.where(counted, same, 0.0)
    season = (same_season(target_date, 1) - history.last_day).days
    month, around = [], []
    for months in range(1, _MONTHS + 1):
        day = (same_day_of_month(target_date, months) - history.last_day).days
        usual = mean_between(residuals, day - 14, min(0, day + 14))
        month.append(mean_between(residuals, day, day) - usual)
        around.append(mean_between(residuals, day - 1, day + 1) - usual)
    week = mean_between(residuals, ahead - _YEAR - 3, ahead - _YEAR + 3)
    earlier = mean_between(residuals, ahead - 2 * _YEAR - 3, ahead - 2 * _YEAR + 3)
    changes = [
        week - per_as_of["residual_year_ago_level"],
        earlier - mean_between(residuals, -2 * _YEAR - 27, -2 * _YEAR),
    ]
    return {
        "baseline": baseline,
        "weekday_effect": baseline - per_as_of["level"],
        **means_of_last(same, alike, {f"residual_same_kind_{k}": k for k in _SAME_KIND}),
        "residual_same_promo_6": np.where(promoted, history.last_6[1], history.last_6[0]),
        **means_of_last(same, counted, {f"residual_same_weekday_{k}": k for k in (1, 4)}),
        "residual_year_ago_day": mean_between(residuals, ahead - _YEAR, ahead - _YEAR),
        "residual_year_ago_3_days": mean_between(residuals, ahead - _YEAR - 1, ahead - _YEAR + 1),
        "residual_year_ago_week": week,
        "residual_year_ago_change": mean_known(np.stack(changes, axis=1)),
        "residual_same_season_day": mean_between(residuals, season, season),
        "residual_same_season_week": mean_between(residuals, season - 3, season + 3),
        "residual_day_of_month": mean_known(np.stack(month, axis=1)),
        "residual_3_days_of_month": mean_known(np.stack(around, axis=1)),
        "days_since_open": ahead - history.last_open,
        "days_since_reopening": ahead - history.last_reopening,
        "days_since_sales": ahead - history.last_known,
    }


def _share_without_sales(sales: Floats, trading: Flags) -> Floats:
    days = trading.sum(axis=1)
    return np.where(days > 0, (trading & ~(sales > 0)).sum(axis=1) / np.maximum(days, 1), np.nan)


def _baseline(
    logs: Floats, counted: Flags, promo: Flags, last_day: date
) -> tuple[Floats, Floats, Floats]:
    """The table (n, 7, 2), the mean log (n,) and the effect of a promotion (n,).

    `logs` is 0 where a day does not count. A cell with few days leans on the series' mean plus
    the weekday's and the promotion's effect, each of which leans on the mean.
    """
    sums, days = _by_weekday(logs, last_day), _by_weekday(counted, last_day)
    on = counted & promo
    promo_sums, promo_days = (
        _by_weekday(np.where(on, logs, 0.0), last_day),
        _by_weekday(on, last_day),
    )
    total, seen = sums.sum(axis=1), days.sum(axis=1)
    level = np.where(seen > 0, total / np.maximum(seen, 1.0), np.nan)
    weekday = (sums - days * level[:, None]) / (days + _PRIOR)
    expected = level[:, None] + weekday
    effect = np.empty((*level.shape, 2))
    cells = np.empty((*sums.shape, 2))
    for state, (of, number) in enumerate(
        ((sums - promo_sums, days - promo_days), (promo_sums, promo_days))
    ):
        above = (of - np.where(number > 0, number * expected, 0.0)).sum(axis=1)
        effect[:, state] = above / (number.sum(axis=1) + _PRIOR)
        lean = expected + effect[:, state][:, None]
        cells[:, :, state] = (of + _PRIOR * lean) / (number + _PRIOR)
    return cells, level, effect[:, 1] - effect[:, 0]


def _by_weekday(values: Floats | Flags, last_day: date) -> Floats:
    """Sums over the days of each weekday, Monday first: (n, 7)."""
    sums = np.empty((len(values), 7))
    days = values.shape[1]
    for weekday in range(7):
        first = (weekday - last_day.weekday() + days - 1) % 7
        part = np.ascontiguousarray(values[:, first::7], dtype=np.float64)
        sums[:, weekday] = part.sum(axis=1)
    return sums


def _along(table: Floats, promo: Flags, last_day: date) -> Floats:
    """The baseline of each day: (n, d)."""
    days = promo.shape[1]
    weekdays = (last_day.weekday() - days + 1 + np.arange(days)) % 7
    return np.where(promo, table[:, weekdays, 1], table[:, weekdays, 0])


def _recent(against: Floats, counted: Flags, promo: Flags) -> dict[str, Floats]:
    counted = np.ascontiguousarray(counted[:, -_RECENT_DAYS:])
    promo = promo[:, -_RECENT_DAYS:]
    values = np.where(counted, against[:, -_RECENT_DAYS:], 0.0)
    found = means_of_last(values, counted, {f"residual_last_{k}": k for k in _LAST})
    found |= means_of_last(values, counted & promo, {"promo_6": 6})
    found |= means_of_last(values, counted & ~promo, {"plain_6": 6})
    ages = np.arange(values.shape[1])[::-1]
    for half_life in _HALF_LIVES:
        weights = np.where(counted, 0.5 ** (ages / half_life), 0.0)
        total = weights.sum(axis=1)
        known = total > 0
        found[f"residual_half_life_{half_life}"] = np.where(
            known, (values * weights).sum(axis=1) / np.where(known, total, 1.0), np.nan
        )
    rank = rank_from_end(counted)
    found |= means_of_last(values, counted & (rank != 1), {"residual_before_last": 1})
    for name, days in (("spread_6", 6), ("spread", _SPREAD_DAYS)):
        last = counted & (rank <= days)
        found[name] = spread_of(np.where(last, values, 0.0), last)
    last = counted & (rank <= _EXTREME_DAYS)
    some = last.any(axis=1)
    for name, extreme, nothing in (
        ("residual_least_12", np.min, np.inf),
        ("residual_most_12", np.max, -np.inf),
    ):
        found[name] = np.where(some, extreme(np.where(last, values, nothing), axis=1), np.nan)
    return found


def _last_reopening(counted: Flags) -> Floats:
    """The day number of the last day that counts after a week and more of days that don't."""
    counted = np.ascontiguousarray(counted[:, -_RECENT_DAYS:])
    places = np.where(counted, np.arange(counted.shape[1], dtype=np.int32), np.int32(-1))
    before = np.maximum.accumulate(places, axis=1)[:, :-1]
    gap = places[:, 1:] - before
    return last_flagged(counted[:, 1:] & (before >= 0) & (gap > _LONG_CLOSURE))


def _weekdays(values: npt.NDArray[np.generic], ahead: int) -> npt.NDArray[Any]:
    """The days of the target's weekday up to the as-of, newest last: (n, at most a year)."""
    days = values.shape[1]
    newest = days - 1 + ahead - 7 * -(-ahead // 7)
    return np.ascontiguousarray(values[:, newest % 7 : newest + 1 : 7][:, -_SAME_KIND_WEEKS:])
