"""What held-out weeks agree on, and how much of a choice is kept for it.

What weeks do not agree on is the chance of these weeks, and would be an error in the next ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats

Ints = npt.NDArray[np.int64]

_WEEK = 7
_WEEKS_TOGETHER = 3
"""Errors of weeks that are further apart are taken as independent."""


def places_of_weeks(target: Ints) -> Ints:
    """The place of each target date's week (m,) among the weeks that have one, from 0."""
    return np.unique(target // _WEEK, return_inverse=True)[1]


def weeks_of(target: Ints) -> int:
    """The number of weeks with a day among the target dates (m,)."""
    return len(np.unique(target // _WEEK))


def kept(squared: float, squared_error: float) -> float:
    """1 − s² / m², at least 0, from m² and s² (positive-part shrinkage: James and Stein, 1961)."""
    return max(0.0, 1.0 - squared_error / max(squared, 1e-12))


def kept_of_gain(gains: Floats, target: Ints) -> float:
    """The share, from 0 to 1, of a choice that is kept, as far as weeks agree that it is better.

    `gains` and `target` are (m,): how much smaller a held-out row's loss is by the choice. It is
    `kept` of the mean of the weeks' sums, and 0 where nothing is won, or in a single week.
    """
    of_week = np.bincount(places_of_weeks(target), weights=gains).astype(np.float64)
    gain = float(of_week.mean())
    if gain <= 0.0 or len(of_week) < 2:  # noqa: PLR2004 - a single week has no standard error
        return 0.0
    return kept(gain**2, squared_error_of_mean(of_week))


def squared_error_of_mean(values: Floats) -> float:
    """The squared standard error of the mean of values that follow each other in time, at least 2.

    Weeks that follow each other are wrong together: their autocovariances count (Newey and West,
    1987). Of few weeks this estimate is too small and itself uncertain. With autocovariances over a
    share b of the weeks it has the expectation 1 − b + b²/3 of what it estimates (Kiefer and
    Vogelsang, 2005), by which it is divided, and varies like one of 1.5/b degrees of freedom: the
    error is Student's that corresponds to one standard error (Abramowitz and Stegun, 26.7.5).
    """
    deviation = values - values.mean()
    number = len(values)
    variance = float(deviation @ deviation) / number
    together = variance
    for lag in range(1, min(_WEEKS_TOGETHER, number - 1) + 1):
        weight = 1.0 - lag / (_WEEKS_TOGETHER + 1)
        together += 2.0 * weight * float(deviation[lag:] @ deviation[:-lag]) / number
    share = min((_WEEKS_TOGETHER + 1) / number, 1.0)
    freedom = 1.5 / share
    student = 1.0 + 1.0 / (2.0 * freedom) + 1.0 / (4.0 * freedom**2)
    larger = student**2 / (1.0 - share + share**2 / 3.0)
    return larger * max(together, variance) / (number - 1)
