"""Adaptive intervals: their widths follow the coverage of the last weeks.

Intervals are calibrated once, on held-out days before the training's as-of. Where errors become
larger or smaller afterwards, as before Christmas, they hold too few or too many days. So the
distances from a forecast to its two bounds, in logs, are multiplied by factors, which every scored
day moves.

A factor is the product of two, as in the conformal PID control of Angelopoulos, Candès and
Tibshirani (Conformal PID control for time series prediction, 2023), which continues the adaptive
conformal inference of Gibbs and Candès (2021). Let m be the share of a day's sales beyond the bound
that the factor gives, less the target.

- The quantile tracker (their equation 4, on the scale of intervals instead of their score): its log
  grows by η m. This is online gradient descent on the quantile loss.
- The error integration (their section 2.2): the log is K times the excess E, a sum of m that
  forgets: E becomes λ E + m. It widens while the last weeks had too many misses, until their mean
  is back at the target, and is 1 where they had too few.

A step uses all forecasts of a day, and the bound is computed anew with the factor of today: so a
forecast that was made a week ago, with another factor, counts without delay. A day with few
forecasts moves the factors less.

The two sides have factors of their own, for each number of days ahead. So have small forecasts
(0124): where sales are counts, their bounds move in large steps, and mostly hold more days than
they should, for which the factors of all others would have to make up. The target of a side is
half of the misses that an 80 % interval has. A lower bound of 0 cannot be missed: its half belongs
to the upper side. So does, to the other side, what a side misses too little at its narrowest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ray_job.bucket.widths import SMALL, IntervalWidths, SideFactors
from ray_job.data.panel import Flags, Floats
from ray_job.model.intervals import COVERED, Calibration

Ints = npt.NDArray[np.int64]

NARROWEST, WIDEST = 0.5, 3.0
"""The bounds of the factors."""

_STEP, _FIRST_STEP = 0.2, 2.0
"""η, and η of the first day. That of day n is the first one's over n, at least η.

So a new model's widths are right within days (decaying step sizes: Angelopoulos, Barber and Bates,
Online conformal prediction with decaying step sizes, 2024).
"""
_GAIN, _KEPT = 1.3, 0.93
"""K and λ: the excess of a day counts half after ten days."""
_FEW = 10
"""A day with so many forecasts moves the factors half as far as one with very many."""
_DIGITS = 6
"""Rounded, the factors are the same on every processor."""


@dataclass(frozen=True, slots=True)
class DayOfScores:
    """The m forecasts of a target date that was scored; all arrays are (m,).

    `lower` and `upper` are the bounds as they were calibrated, with factors of 1, and before they
    were rounded (`Calibration.before_rounding`). `is_total` tells totals of several items from
    single series.
    """

    days_ahead: Ints
    actual: Floats
    predicted: Floats
    lower: Floats
    upper: Floats
    is_total: Flags

    def and_also(self, other: DayOfScores) -> DayOfScores:
        """The forecasts of both."""
        return DayOfScores(
            np.concatenate([self.days_ahead, other.days_ahead]),
            np.concatenate([self.actual, other.actual]),
            np.concatenate([self.predicted, other.predicted]),
            np.concatenate([self.lower, other.lower]),
            np.concatenate([self.upper, other.upper]),
            np.concatenate([self.is_total, other.is_total]),
        )

    def at(self, rows: Flags) -> DayOfScores:
        return DayOfScores(
            self.days_ahead[rows],
            self.actual[rows],
            self.predicted[rows],
            self.lower[rows],
            self.upper[rows],
            self.is_total[rows],
        )


_NONE: Floats = np.zeros(0)
NOTHING_SCORED = DayOfScores(
    _NONE.astype(np.int64), _NONE, _NONE, _NONE, _NONE, _NONE.astype(np.bool_)
)


def widen(
    predicted: Floats, lower: Floats, upper: Floats, factors: Floats
) -> tuple[Floats, Floats]:
    """The bounds with the logs of their distances from `predicted` multiplied by `factors`.

    The arrays have one shape, (…); `factors` is (2, …), lower and upper, or broadcasts to it. With
    factors of 1 the bounds keep their bits. A lower bound of 0 stays 0.
    """
    return _moved(predicted, lower, factors[0]), _moved(predicted, upper, factors[1])


def adapted(
    predicted: Floats, lower: Floats, upper: Floats, factors: Floats, calibration: Calibration
) -> tuple[Floats, Floats]:
    """The calibrated bounds with these factors, see `widen`. Bounds of counts are counts again."""
    unrounded = calibration.before_rounding(lower, upper, predicted)
    return calibration.as_counts(*widen(predicted, *unrounded, factors), predicted)


def calibrated_bounds(
    predicted: Floats, lower: Floats, upper: Floats, factors: Floats, calibration: Calibration
) -> tuple[Floats, Floats]:
    """The bounds of which `adapted` made `lower` and `upper` with these factors, not rounded."""
    unrounded = calibration.before_rounding(lower, upper, predicted)
    return widen(predicted, *unrounded, 1.0 / factors)


def by_days_ahead(factors: SideFactors, horizon: int) -> Floats:
    """(2, horizon): the factors of the lower and of the upper side."""
    pairs = [factors.at(ahead) for ahead in range(1, horizon + 1)]
    return np.array(pairs, dtype=np.float64).T


def of_series(predicted: Floats, widths: IntervalWidths, days_ahead: Ints) -> Floats:
    """(2, …): the factors of single series, for forecasts (…) of so many days ahead.

    `days_ahead`, from 1, has the last axes of `predicted`.
    """
    horizon = int(days_ahead.max(initial=1))
    shape = (2, *(1,) * (predicted.ndim - days_ahead.ndim), *days_ahead.shape)
    others, small = (
        by_days_ahead(side, horizon)[:, days_ahead - 1].reshape(shape)
        for side in (widths.series, widths.of_small)
    )
    return np.where(predicted < SMALL, small, others)


def of_totals(predicted: Floats, sum_ps: Floats, sum_ps2: Floats, widths: IntervalWidths) -> Floats:
    """(2, stores, days): the factors of totals, from the sums of `intervals.interval_terms`.

    The total of one item gets the factors of this item, so that both have the same interval.
    """
    days = sum_ps.shape[1]
    single = sum_ps2 >= sum_ps * sum_ps
    series = of_series(predicted, widths, np.arange(1, days + 1))
    return np.where(single, series, by_days_ahead(widths.totals, days)[:, None, :])


def after_day(widths: IntervalWidths, day: DayOfScores, horizon: int) -> IntervalWidths:
    """The widths after one more day of scores, for `horizon` days ahead.

    Forecasts of 0 say nothing about widths. A number of days ahead without scores makes the mean
    step of the others. The order of the rows does not matter.
    """
    counted = day.at((day.predicted > 0) & ~np.isnan(day.actual))
    if not len(counted.actual):
        return widths
    step = max(_STEP, _FIRST_STEP / (widths.days + 1))
    small = ~counted.is_total & (counted.predicted < SMALL)
    others = ~counted.is_total & ~small
    return IntervalWidths(
        series=_after(widths.series, counted.at(others), horizon, step),
        small=_after(widths.of_small, counted.at(small), horizon, step),
        totals=_after(widths.totals, counted.at(counted.is_total), horizon, step),
        days=widths.days + 1,
    )


def _after(factors: SideFactors, day: DayOfScores, horizon: int, step: float) -> SideFactors:
    before = by_days_ahead(factors, horizon)
    misses = np.full((2, horizon), np.nan)
    for ahead in np.unique(day.days_ahead[day.days_ahead <= horizon]):
        rows = day.at(day.days_ahead == ahead)
        misses[:, ahead - 1] = _gradient(rows, before[:, ahead - 1])
    known = ~np.isnan(misses[0])
    if not known.any():
        return factors
    misses[:, ~known] = misses[:, known].mean(axis=1)[:, None]
    limits = np.log(NARROWEST), np.log(WIDEST)
    tracked = np.clip(_fitted(factors.tracked, horizon) + step * misses, *limits).round(_DIGITS)
    excess = (_KEPT * _fitted(factors.excess, horizon) + misses).round(_DIGITS)
    logs = np.clip(tracked + _GAIN * np.maximum(excess, 0.0), *limits)
    after = np.exp(logs).round(_DIGITS)
    return SideFactors(
        lower=tuple(after[0].tolist()),
        upper=tuple(after[1].tolist()),
        tracked=tuple(map(tuple, tracked.tolist())),
        excess=tuple(map(tuple, excess.tolist())),
    )


def _fitted(state: Sequence[Sequence[float]], horizon: int) -> Floats:
    """(2, horizon): the state of both sides; beyond the last value the last one, 0 without any."""
    if not state:
        return np.zeros((2, horizon))
    values = np.array(state, dtype=np.float64)
    return np.asarray(values[:, np.minimum(np.arange(horizon), values.shape[1] - 1)])


def _gradient(rows: DayOfScores, factors: Floats) -> Floats:
    """(2,): misses less target of both sides, less where the day has few forecasts."""
    low, high = widen(rows.predicted, rows.lower, rows.upper, factors)
    misses = np.array([(rows.actual < low).mean(), (rows.actual > high).mean()])
    cannot_miss = float((rows.lower <= 0).mean())
    half = (1.0 - COVERED) / 2
    target = np.array([half * (1.0 - cannot_miss), half * (1.0 + cannot_miss)])
    left_over = np.where(factors <= NARROWEST, np.maximum(target - misses, 0.0), 0.0)
    target = target - left_over + left_over[::-1]
    number = len(rows.actual)
    return np.asarray(number / (number + _FEW) * (misses - target))


def _moved(predicted: Floats, bound: Floats, factor: Floats) -> Floats:
    with np.errstate(invalid="ignore", over="ignore"):
        log = np.log1p(predicted)
        moved = np.maximum(np.expm1(log + factor * (np.log1p(bound) - log)), 0.0)
    return np.asarray(np.where((factor == 1.0) | (bound <= 0) | (bound == predicted), bound, moved))
