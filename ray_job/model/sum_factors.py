"""Factors that make the sum of forecasts the sum of what was sold, by days ahead.

Managers order by sums. What held-out weeks do not agree on is no bias but the pace of these weeks,
and would be an error in the next ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats

Ints = npt.NDArray[np.int64]

FEW_ROWS = 1_000
"""A number of days ahead with fewer held-out rows counts as all of them together."""
_MOST = 1.25
"""A factor is at most this, and at least one over it."""
_WEEK = 7
_WEEKS_TOGETHER = 3
"""Errors of weeks that are further apart are taken as independent."""


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
    kept = max(0.0, 1.0 - float(errors.mean()) / max(float(np.mean(means**2)), 1e-12))
    most = np.log(_MOST)
    return tuple(np.exp(np.clip(kept * means, -most, most)).tolist())


def by_days(values: Sequence[float], days: Floats) -> Floats:
    """The value for each number of days, from 1; beyond the last value, the last one."""
    last = len(values)
    places = np.clip(np.nan_to_num(days, nan=last), 1, last).astype(np.int64) - 1
    return np.asarray(values, dtype=np.float64)[places]


def weeks_of(target: Ints) -> int:
    """The number of weeks with a day among the target dates (m,)."""
    return len(np.unique(target // _WEEK))


def _log_factor(actual: Floats, predicted: Floats, target: Ints) -> tuple[float, float]:
    """The log factor that makes the sum right, and its squared standard error by the weeks."""
    _, week = np.unique(target // _WEEK, return_inverse=True)
    sold, forecast = np.bincount(week, weights=actual), np.bincount(week, weights=predicted)
    known = (sold > 0) & (forecast > 0)
    if known.sum() < 2:  # noqa: PLR2004 - a single week has no standard error
        return 0.0, 0.0
    mean = float(np.log(sold[known].sum() / forecast[known].sum()))
    return mean, _squared_error_of_mean(np.log(sold[known] / forecast[known]))


def _squared_error_of_mean(values: Floats) -> float:
    """The squared standard error of the mean of values that follow each other in time.

    Weeks that follow each other are wrong together: their autocovariances count (Newey and West,
    1987).
    """
    deviation = values - values.mean()
    number = len(values)
    variance = float(deviation @ deviation) / number
    together = variance
    for lag in range(1, min(_WEEKS_TOGETHER, number - 1) + 1):
        weight = 1.0 - lag / (_WEEKS_TOGETHER + 1)
        together += 2.0 * weight * float(deviation[lag:] @ deviation[:-lag]) / number
    return max(together, variance) / (number - 1)
