"""The calibration of 80 % intervals on held-out days (split conformal prediction, by scale)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Flags, Floats
from ray_job.features.kinds import KINDS
from ray_job.model.intervals import (
    COVERED,
    RANGE,
    Calibration,
    Factors,
    by_days,
    interval_terms,
)

Ints = npt.NDArray[np.int64]

_EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_FEW_ROWS = 200
_FEW_OF_SIZE = 400
"""A size, or a kind and size, with fewer held-out rows has no factor of its own."""
_SIZE_EDGES = (
    0.0,
    0.25,
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    np.inf,
)
_ROUNDS = 16
"""Factors of neighbouring sizes change each other's sizes, so they are computed in rounds."""
_LEAST_SHIFT = 1e-6
_WHOLE = 0.999
"""Sales are counts if at least this share of the held-out days is a whole number."""


def calibrate(
    actual: Floats,
    predicted: Floats,
    spread: Floats,
    days_ahead: Ints,
    series: Ints,
    totals: Ints,
    kinds: Ints | None = None,
) -> Calibration:
    """The calibration from m held-out rows that were not trained on; all arrays are (m,).

    `spread` is the `series_spread` of each row's series. `series` numbers the series. `totals`
    numbers the totals: rows of one store, as-of and target date have the same number. A number of
    days ahead with few rows gets the bounds of all rows. `kinds` are places in KINDS; without them
    all series are of the first kind.
    """
    known = spread[~np.isnan(spread) & (spread > 0)]
    usual = float(np.median(known)) if len(known) else Calibration().usual_spread
    plain = Calibration(usual_spread=usual)
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
    kinds = np.zeros(len(actual), dtype=np.int64) if kinds is None else kinds
    items = _with_sizes_and_kinds(items, predicted, errors / scale, days_ahead, kinds)
    whole = float(np.mean(actual == np.round(actual))) >= _WHOLE if len(actual) else False
    items = items.model_copy(update={"counts": whole})
    scale = items.scale_of_kind(spread, predicted, kinds)
    return _with_totals(items, actual, predicted, scale, days_ahead, totals)


def _with_sizes_and_kinds(
    calibration: Calibration, predicted: Floats, scaled: Floats, days_ahead: Ints, kinds: Ints
) -> Calibration:
    """The calibration with factors by size, and by kind and size; `scaled` are errors in scales."""
    days = days_ahead.astype(np.float64)
    below = -scaled / np.minimum(by_days(calibration.lower, days), -_LEAST_SHIFT)
    above = scaled / np.maximum(by_days(calibration.upper, days), _LEAST_SHIFT)
    # `below` is -1 and `above` is 1 where sales are on the bound.
    size_lower = _by_size(predicted, lambda rows: -_quantiles(below[rows])[0])
    size_upper = _by_size(predicted, lambda rows: _quantiles(above[rows])[1])
    distance = np.maximum(-below / size_lower.at(predicted), above / size_upper.at(predicted))
    of_kinds = {}
    for place, name in enumerate(KINDS):
        of_kind = kinds == place
        factors = Factors()
        for _ in range(_ROUNDS):
            left = distance / factors.at(predicted)
            step = _by_size(predicted, lambda rows, left=left: _distance(left[rows]), of_kind)  # type: ignore[misc]
            factors = _times(factors, step)
        if factors.sizes:
            of_kinds[name] = factors
    return calibration.model_copy(
        update={"size_lower": size_lower, "size_upper": size_upper, "kinds": of_kinds}
    )


def _times(factors: Factors, step: Factors) -> Factors:
    """The factors times those of a further round, which are of the same sizes."""
    if not factors.sizes:
        return step
    values = (np.asarray(factors.values) * np.asarray(step.values)).clip(1 / RANGE, RANGE)
    return Factors(sizes=factors.sizes, values=tuple(values.tolist()))


def _distance(distances: Floats) -> float:
    """The least distance that holds 80 % of the rows."""
    return float(np.quantile(distances, COVERED, method="higher"))


def _by_size(
    predicted: Floats, factor: Callable[[Flags], float], chosen: Flags | None = None
) -> Factors:
    """The factor of the `chosen` rows of each size that has enough of them."""
    sizes, values = [], []
    for low, high in itertools.pairwise(_SIZE_EDGES):
        inside = (predicted >= low) & (predicted < high)
        if chosen is not None:
            inside &= chosen
        if inside.sum() >= _FEW_OF_SIZE:
            sizes.append(float(predicted[inside].mean()))
            values.append(float(np.clip(factor(inside), 1 / RANGE, RANGE)))
    return Factors(sizes=tuple(sizes), values=tuple(values))


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
        np.bincount(number, weights=term).astype(np.float64)
        for term in interval_terms(predicted, scale)
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
    of_lower = total_scale * calibration.size_lower.at(sum_p[several])
    of_upper = total_scale * calibration.size_upper.at(sum_p[several])
    low, _ = _quantiles(
        -errors / (of_lower * np.minimum(by_days(calibration.lower, days), -_LEAST_SHIFT))
    )
    _, high = _quantiles(
        errors / (of_upper * np.maximum(by_days(calibration.upper, days), _LEAST_SHIFT))
    )
    return calibration.model_copy(
        update={
            "correlation": rho,
            "total_lower": float(np.clip(-low, 1 / RANGE, RANGE)),
            "total_upper": float(np.clip(high, 1 / RANGE, RANGE)),
        }
    )


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
