"""80 % intervals, calibrated on held-out days (split conformal prediction, normalised by scale).

All computations use logs (log of 1 + sales). The scale of a series is its spread, shrunk towards
the usual spread by an exponent. The interval of a forecast reaches from `lower` to `upper` scales
around it; these numbers are the quantiles of the errors of held-out days, by days ahead (Lei et
al., Distribution-free predictive inference for regression, 2018, section 5.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ray_job.bucket.records import Record
from ray_job.data.panel import Floats

Ints = npt.NDArray[np.int64]

COVERED = 0.8

_EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LARGEST_CORRECTED = 64.0
_FEW_ROWS = 200
_RANGE = 4.0
"""A scale is at most so many times the usual one, and at least one over this; so are factors."""


class Calibration(Record):
    """The result of `calibrate`. The defaults are wide, for a model that was never calibrated."""

    usual_spread: float = 0.25
    exponent: float = 0.5
    lower: tuple[float, ...] = (-1.5,)
    """The lower bound in scales, by days ahead from 1; at most 0."""
    upper: tuple[float, ...] = (1.5,)
    correlation: float = 0.5
    """The correlation between the errors of the items of a store."""
    total_lower: float = 1.0
    total_upper: float = 1.0
    """Factors of `lower` and `upper` for the total of a very large number of items."""
    small_sizes: tuple[float, ...] = ()
    small_factors: tuple[float, ...] = ()
    """Forecasts of about these sizes are multiplied by these factors, so that totals are unbiased.
    """

    def scale(self, spread: Floats) -> Floats:
        """The scale of a series from its `series_spread`; the usual one where that is unknown."""
        relative = np.clip(np.nan_to_num(spread / self.usual_spread, nan=1.0), 1 / _RANGE, _RANGE)
        return np.asarray(self.usual_spread * relative**self.exponent, dtype=np.float64)

    def corrected(self, predicted: Floats) -> Floats:
        """`predicted` without the bias that a mean of logs has for items with few sales."""
        if not self.small_sizes:
            return predicted
        factors = np.interp(
            np.log1p(predicted),
            np.log1p([*self.small_sizes, _LARGEST_CORRECTED]),
            [*self.small_factors, 1.0],
        )
        return np.asarray(predicted * factors, dtype=np.float64)

    def interval(self, predicted: Floats, scale: Floats, days: Floats) -> tuple[Floats, Floats]:
        """Bounds of `predicted`, of the same shape, at least 0. `days`: days since newest sales."""
        return (
            _bound(predicted, scale * _by_days(self.lower, days)),
            _bound(predicted, scale * _by_days(self.upper, days)),
        )


def series_spread(recent: Floats, whole: Floats) -> Floats:
    """The spread of series (n,): the geometric mean of their recent and their whole spread.

    The recent spread distinguishes series best, but a holiday changes it for all series for weeks,
    while their errors hardly change. Where one of the two is unknown, the result is the other.
    """
    both = np.sqrt(recent * whole)
    return np.asarray(np.where(np.isnan(both), np.fmax(recent, whole), both), dtype=np.float64)


def interval_terms(predicted: Floats, spread: Floats) -> tuple[Floats, Floats, Floats]:
    """The terms that are summed over a store's items for `total_interval`.

    For each row, with the prediction p and the scale s of its interval: p, (1 + p) s, and
    ((1 + p) s)²; zero for rows without a prediction.
    """
    known = ~np.isnan(predicted)
    p, s = np.where(known, predicted, 0.0), np.where(known, spread, 0.0)
    wide = np.where(p > 0, (1.0 + p) * s, 0.0)
    return p, wide, wide * wide


def total_interval(
    sum_p: Floats, sum_ps: Floats, sum_ps2: Floats, days_ahead: Floats, calibration: Calibration
) -> tuple[Floats, Floats]:
    """The 80 % interval of totals, from the sums of `interval_terms` over a store's items.

    The relative scale of a total is sqrt(ρ (Σps)² + (1 − ρ) Σ(ps)²) / (1 + Σp), where ρ is the
    correlation of the items' errors. The total of one item has the interval of this item.
    """
    rho = calibration.correlation
    scale = np.sqrt(rho * sum_ps * sum_ps + (1.0 - rho) * sum_ps2) / (1.0 + sum_p)
    several = 1.0 - _evenness(sum_ps, sum_ps2)
    lower = 1.0 + (calibration.total_lower - 1.0) * several
    upper = 1.0 + (calibration.total_upper - 1.0) * several
    return (
        _bound(sum_p, scale * lower * _by_days(calibration.lower, days_ahead)),
        _bound(sum_p, scale * upper * _by_days(calibration.upper, days_ahead)),
    )


def calibrate(
    actual: Floats,
    predicted: Floats,
    spread: Floats,
    days_ahead: Ints,
    series: Ints,
    totals: Ints,
) -> Calibration:
    """The calibration from m held-out rows that were not trained on; all arrays are (m,).

    `spread` is the `series_spread` of each row's series. `series` numbers the series. `totals`
    numbers the totals: rows of one store, as-of and target date have the same number. A number of
    days ahead with few rows gets the bounds of all rows.
    """
    sizes, factors = _small(actual, predicted)
    known = spread[~np.isnan(spread) & (spread > 0)]
    usual = float(np.median(known)) if len(known) else Calibration().usual_spread
    plain = Calibration(usual_spread=usual, small_sizes=sizes, small_factors=factors)
    predicted = plain.corrected(predicted)
    errors = np.log1p(np.maximum(actual, 0.0)) - np.log1p(predicted)
    candidates = [plain.model_copy(update={"exponent": exponent}) for exponent in _EXPONENTS]
    plain = _most_even(candidates, errors, spread, series)
    scale = plain.scale(spread)
    pooled = _quantiles(errors / scale)
    bounds = []
    for ahead in range(1, int(days_ahead.max()) + 1):
        chosen = days_ahead == ahead
        enough = chosen.sum() >= _FEW_ROWS
        bounds.append(_quantiles(errors[chosen] / scale[chosen]) if enough else pooled)
    items = plain.model_copy(
        update={
            "lower": tuple(min(0.0, low) for low, _ in bounds),
            "upper": tuple(max(0.0, high) for _, high in bounds),
        }
    )
    return _with_totals(items, actual, predicted, scale, days_ahead, totals)


def _with_totals(
    calibration: Calibration,
    actual: Floats,
    predicted: Floats,
    scale: Floats,
    days_ahead: Ints,
    totals: Ints,
) -> Calibration:
    """The calibration with correlation and factors of totals, if stores have several items."""
    _, first, number, counts = np.unique(
        totals, return_index=True, return_inverse=True, return_counts=True
    )
    several = counts > 1
    if several.sum() < _FEW_ROWS:
        return calibration
    sum_p, sum_ps, sum_ps2 = (
        np.bincount(number, weights=term) for term in interval_terms(predicted, scale)
    )
    sold = np.bincount(number, weights=np.maximum(actual, 0.0))
    errors = (np.log1p(sold) - np.log1p(sum_p))[several]
    if_equal = (sum_ps / (1.0 + sum_p))[several] ** 2
    if_independent = (sum_ps2 / (1.0 + sum_p) ** 2)[several]
    item_errors = (np.log1p(np.maximum(actual, 0.0)) - np.log1p(predicted)) / scale
    unit = _variance(item_errors)
    gap = float(np.mean(if_equal - if_independent))
    observed = float(np.mean(np.minimum(errors**2, 9.0 * unit * if_equal))) / unit
    rho = (
        0.0
        if gap <= 0
        else float(np.clip((observed - float(np.mean(if_independent))) / gap, 0.01, 1.0))
    )
    total_scale = np.sqrt(rho * if_equal + (1.0 - rho) * if_independent)
    days = days_ahead[first][several].astype(np.float64)
    low, _ = _quantiles(
        -errors / (total_scale * np.minimum(_by_days(calibration.lower, days), -1e-6))
    )
    _, high = _quantiles(
        errors / (total_scale * np.maximum(_by_days(calibration.upper, days), 1e-6))
    )
    return calibration.model_copy(
        update={
            "correlation": rho,
            "total_lower": float(np.clip(-low, 1 / _RANGE, _RANGE)),
            "total_upper": float(np.clip(high, 1 / _RANGE, _RANGE)),
        }
    )


def _small(actual: Floats, predicted: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean sizes of small forecasts, and the factors by which mean sales differ from them."""
    sizes, factors = [], []
    edges = [0.0, *(2.0**power for power in range(-2, 7))]
    for low, high in itertools.pairwise(edges):
        inside = (predicted >= low) & (predicted < high)
        if inside.sum() >= _FEW_ROWS:
            mean = float(predicted[inside].mean())
            sizes.append(mean)
            sold = float(actual[inside].mean())
            factors.append(float(np.clip(sold / max(mean, 1e-9), 0.5, 2.0)))
    return tuple(sizes), tuple(factors)


def _most_even(
    candidates: Sequence[Calibration], errors: Floats, spread: Floats, series: Ints
) -> Calibration:
    """The first candidate whose coverage is about as even over the series as the best one's.

    The measure is the mean over series of the deviation from 80 %. A candidate within one standard
    error of the smallest mean counts as equally good (Breiman et al., Classification and Regression
    Trees, 1984: the one-standard-error rule).
    """
    deviations = [_unevenness(errors, candidate.scale(spread), series) for candidate in candidates]
    least, standard_error = min(deviations)
    return next(
        candidate
        for candidate, (mean, _) in zip(candidates, deviations, strict=True)
        if mean <= least + standard_error
    )


def _unevenness(errors: Floats, scale: Floats, series: Ints) -> tuple[float, float]:
    """The deviation of the series' coverages from 80 %: its mean and standard error."""
    scaled = errors / scale
    low, high = _quantiles(scaled)
    rows = np.bincount(series)
    inside = np.bincount(series, weights=(scaled >= low) & (scaled <= high))
    known = rows > 0
    off = np.abs(inside[known] / rows[known] - COVERED)
    return float(np.mean(off)), float(np.std(off) / np.sqrt(len(off)))


def _quantiles(errors: Floats) -> tuple[float, float]:
    low, high = np.quantile(errors, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return float(low), float(high)


def _variance(errors: Floats) -> float:
    """The variance of a normal distribution with the same 10 % and 90 % quantiles."""
    low, high = _quantiles(errors)
    return max(((high - low) / (2 * 1.2816)) ** 2, 1e-12)


def _evenness(sum_ps: Floats, sum_ps2: Floats) -> Floats:
    """1 for a single item, 1 / n for n equal items."""
    squared = sum_ps * sum_ps
    return np.where(
        squared > 0, np.minimum(1.0, sum_ps2 / np.where(squared > 0, squared, 1.0)), 1.0
    )


def _by_days(values: Sequence[float], days: Floats) -> Floats:
    """The value for each number of days; beyond the last value, a linear continuation."""
    last = len(values)
    inside = np.asarray(values)[
        np.clip(np.nan_to_num(days, nan=last), 1, last).astype(np.int64) - 1
    ]
    slope = (values[-1] - values[0]) / (last - 1) if last > 1 else 0.0
    beyond = np.maximum(np.nan_to_num(days, nan=last) - last, 0.0)
    return np.asarray(inside + np.sign(values[-1]) * abs(slope) * beyond, dtype=np.float64)


def _bound(predicted: Floats, shift: Floats) -> Floats:
    moved = np.maximum(np.expm1(np.log1p(predicted) + shift), 0.0)
    return np.asarray(np.where(shift == 0, predicted, moved), dtype=np.float64)
