"""Factors that make the sum of forecasts the sum of what was sold, by days ahead.

Managers order by sums. What held-out weeks do not agree on is no bias but the pace of these weeks,
and would be an error in the next ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats
from ray_job.model.week_agreement import kept, places_of_weeks, squared_error_of_mean

Ints = npt.NDArray[np.int64]

FEW_ROWS = 1_000
"""A number of days ahead with fewer held-out rows counts as all of them together."""
_MOST = 1.25
"""A factor is at most this, and at least one over it."""
_FEW_ROWS_OF_SIZE = 200


def sum_factors(
    actual: Floats, predicted: Floats, days_ahead: Ints, target: Ints
) -> tuple[float, ...]:
    """The factors by days ahead from 1, from m held-out rows; the arrays are (m,).

    Each log factor m makes a sum right. All of them are multiplied by 1 − s² / m², or by 0 where
    that is negative, with the means of the squares over the days ahead; s is the standard error of
    an m by the weeks (positive-part shrinkage: James and Stein, 1961).
    """
    of_all = _log_factor(actual, predicted, target)
    logs = []
    for ahead in range(1, int(days_ahead.max()) + 1):
        rows = days_ahead == ahead
        enough = rows.sum() >= FEW_ROWS
        logs.append(_log_factor(actual[rows], predicted[rows], target[rows]) if enough else of_all)
    means, errors = np.array(logs).T
    share = kept(float(np.mean(means**2)), float(errors.mean()))
    most = np.log(_MOST)
    return tuple(np.exp(np.clip(share * means, -most, most)).tolist())


def by_days(values: Sequence[float], days: Floats) -> Floats:
    """The value for each number of days, from 1; beyond the last value, the last one."""
    last = len(values)
    places = np.clip(np.nan_to_num(days, nan=last), 1, last).astype(np.int64) - 1
    return np.asarray(values, dtype=np.float64)[places]


def size_factors(actual: Floats, predicted: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean sizes of small forecasts, and the factors by which mean sales differ from them."""
    sizes, factors = [], []
    edges = [0.0, *(2.0**power for power in range(-2, 7))]
    for low, high in itertools.pairwise(edges):
        inside = (predicted >= low) & (predicted < high)
        if inside.sum() >= _FEW_ROWS_OF_SIZE:
            mean = float(predicted[inside].mean())
            sizes.append(mean)
            sold = float(actual[inside].mean())
            factors.append(float(np.clip(sold / max(mean, 1e-9), 0.5, 2.0)))
    return tuple(sizes), tuple(factors)


def _log_factor(actual: Floats, predicted: Floats, target: Ints) -> tuple[float, float]:
    """The log factor that makes the sum right, and its squared standard error by the weeks."""
    week = places_of_weeks(target)
    sold, forecast = np.bincount(week, weights=actual), np.bincount(week, weights=predicted)
    known = (sold > 0) & (forecast > 0)
    if known.sum() < 2:  # noqa: PLR2004 - a single week has no standard error
        return 0.0, 0.0
    mean = float(np.log(sold[known].sum() / forecast[known].sum()))
    return mean, squared_error_of_mean(np.log(sold[known] / forecast[known]))
