"""Factors that make the sum of forecasts the sum of what was sold, by days ahead.

Managers order by sums. What held-out weeks do not agree on is no bias but the pace of these weeks,
and would be an error in the next ones.
"""

from __future__ import annotations

import itertools
import math
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
_MOST_OF_SIZE = 2.0
_SIZES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, math.inf)
"""The edges of the sizes that have factors of their own. Above 64, counts have little noise."""
_PACE = 0.02
"""By so much (one standard deviation, of a log) the held-out weeks may sell more than was forecast
since the chain's pace changed: the final boosters learn it from these weeks. See 0133."""


def sum_factors(
    actual: Floats, predicted: Floats, days_ahead: Ints, target: Ints
) -> tuple[float, ...]:
    """The factors by days ahead from 1, from m held-out rows; the arrays are (m,).

    Each log factor m makes a sum right. All of them are multiplied by 1 − s² / m², or by 0 where
    that is negative, with the means of the squares over the days ahead (positive-part shrinkage:
    James and Stein, 1961). s² is the squared standard error of an m by the weeks, and `_PACE`².
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


def size_factors(
    actual: Floats, predicted: Floats, target: Ints
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean sizes of forecasts, and the factors by which mean sales differ from them.

    Arrays are (m,). A size is at most twice the least one of its forecasts: from 128 on, the last
    factor is the whole one. Each log factor is drawn towards 0 as those of `sum_factors` are.
    """
    sizes, factors = [], []
    for low, high in itertools.pairwise(_SIZES):
        inside = (predicted >= low) & (predicted < high)
        if inside.sum() >= _FEW_ROWS_OF_SIZE:
            mean_size = float(predicted[inside].mean())
            sizes.append(min(mean_size, 2.0 * low) if low else mean_size)
            mean, error = _log_factor(actual[inside], predicted[inside], target[inside])
            most = np.log(_MOST_OF_SIZE)
            factors.append(float(np.exp(np.clip(kept(mean**2, error) * mean, -most, most))))
    return tuple(sizes), tuple(factors)


def _log_factor(actual: Floats, predicted: Floats, target: Ints) -> tuple[float, float]:
    """The log factor that makes the sum right, and its squared standard error.

    Weeks that sold nothing count in the sum. They have no logarithm, and none in the error.
    """
    week = places_of_weeks(target)
    sold, forecast = np.bincount(week, weights=actual), np.bincount(week, weights=predicted)
    known = (sold > 0) & (forecast > 0)
    if known.sum() < 2:  # noqa: PLR2004 - a single week has no standard error
        return 0.0, 0.0
    mean = float(np.log(sold.sum() / forecast.sum()))
    return mean, squared_error_of_mean(np.log(sold[known] / forecast[known])) + _PACE**2
