"""80 % intervals of forecasts, from a calibration on held-out days (see `calibration`).

All computations use logs (log of 1 + sales). The scale of a series is its spread, shrunk towards
the usual spread by an exponent. The interval of a forecast reaches from `lower` to `upper` scales
around it; these numbers are the quantiles of the errors of held-out days, by days ahead (Lei et
al., Distribution-free predictive inference for regression, 2018, section 5.2). Factors by size make
both sides right for small and for large forecasts, and factors by kind of series and size make the
coverage of each of them 80 % (Mondrian conformal prediction: Vovk et al., 2003).

Where sales are counts, bounds of small forecasts are counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ray_job.bucket.records import Record
from ray_job.data.panel import Floats
from ray_job.features.kinds import KINDS

Ints = npt.NDArray[np.int64]

COVERED = 0.8

_LARGEST_CORRECTED = 64.0
_COUNTED_UP_TO = 1000.0
"""Bounds above this are not rounded."""
_EXACT = 1e-9
_HALF = 0.5
RANGE = 4.0
"""A scale is at most so many times the usual one, and at least one over this; so are factors."""


class Factors(Record):
    """Factors of forecasts of about these sizes; between two sizes the line between their logs."""

    sizes: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def at(self, predicted: Floats) -> Floats:
        """(n,): the factor for each forecast; 1 without any."""
        if not self.sizes:
            return np.ones(len(predicted))
        factors = np.interp(np.log1p(predicted), np.log1p(self.sizes), self.values)
        return np.asarray(factors, dtype=np.float64)


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
    size_lower: Factors = Factors()
    size_upper: Factors = Factors()
    """Factors of `lower` and `upper`."""
    kinds: dict[str, Factors] = Field(default_factory=dict)
    """Factors of the scale, by kind of series."""
    counts: bool = False
    """Whether sales are whole numbers: then bounds are, too."""

    def scale(self, spread: Floats) -> Floats:
        """The scale of a series from its `series_spread`; the usual one where that is unknown."""
        relative = np.clip(np.nan_to_num(spread / self.usual_spread, nan=1.0), 1 / RANGE, RANGE)
        return np.asarray(self.usual_spread * relative**self.exponent, dtype=np.float64)

    def scale_of_kind(self, spread: Floats, predicted: Floats, kinds: Ints) -> Floats:
        """The scale for forecasts (n,) of series of these kinds (places in KINDS)."""
        scale = self.scale(spread)
        for place, name in enumerate(KINDS):
            rows = kinds == place
            if name in self.kinds and rows.any():
                scale[rows] *= self.kinds[name].at(predicted[rows])
        return scale

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
        return self.as_counts(
            _bound(predicted, scale * self.size_lower.at(predicted) * by_days(self.lower, days)),
            _bound(predicted, scale * self.size_upper.at(predicted) * by_days(self.upper, days)),
            predicted,
        )

    def as_counts(self, lower: Floats, upper: Floats, predicted: Floats) -> tuple[Floats, Floats]:
        """The bounds as counts that can occur, where sales are counts.

        Rounding inwards leaves the same counts inside. Where there is none inside, the bounds are
        the counts around the forecast.
        """
        if not self.counts:
            return lower, upper
        low, high = np.ceil(lower - _EXACT), np.floor(upper + _EXACT)
        none = low > high
        low, high = (
            np.where(none, np.floor(predicted), low),
            np.where(none, np.ceil(predicted), high),
        )
        rounded = upper <= _COUNTED_UP_TO
        return np.where(rounded, low, lower), np.where(rounded, high, upper)

    def before_rounding(
        self, lower: Floats, upper: Floats, predicted: Floats
    ) -> tuple[Floats, Floats]:
        """The middle of the bounds that `as_counts` rounds to these: half a count further out.

        A bound that is moved from here loses its count after half a step, and not at once. Bounds
        that are not rounded stay as they are, and so do a lower bound of 0 and those of a forecast
        of 0.
        """
        if not self.counts:
            return lower, upper
        rounded = (upper <= _COUNTED_UP_TO - _HALF) & (predicted > 0)
        return (
            np.where(rounded & (lower > 0), lower - _HALF, lower),
            np.where(rounded, upper + _HALF, upper),
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
    shape = sum_p.shape
    lower *= calibration.size_lower.at(sum_p.ravel()).reshape(shape)
    upper *= calibration.size_upper.at(sum_p.ravel()).reshape(shape)
    return calibration.as_counts(
        _bound(sum_p, scale * lower * by_days(calibration.lower, days_ahead)),
        _bound(sum_p, scale * upper * by_days(calibration.upper, days_ahead)),
        sum_p,
    )


def _evenness(sum_ps: Floats, sum_ps2: Floats) -> Floats:
    """1 for a single item, 1 / n for n equal items."""
    squared = sum_ps * sum_ps
    return np.where(
        squared > 0, np.minimum(1.0, sum_ps2 / np.where(squared > 0, squared, 1.0)), 1.0
    )


def by_days(values: Sequence[float], days: Floats) -> Floats:
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
