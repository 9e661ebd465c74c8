"""Statistics along the days of each series.

Arrays are (n, days), results (n,). Each sum runs along one row in float64, so that a result does
not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats, Floats32

Flags = npt.NDArray[np.bool_]

LEAST_SPREAD_DAYS = 5
"""A standard deviation of fewer days than this would be mostly chance."""


def mean_known(values: Floats) -> Floats:
    """The mean of each row's known values; NaN where none is known."""
    known = ~np.isnan(values)
    days = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.where(days > 0, sums / np.maximum(days, 1), np.nan)


def mean_between(residuals: Floats32, first: int, last: int) -> Floats:
    """The mean residual of the days `first` to `last`; NaN where no day of them counts.

    Day 0 is the as-of, earlier days are negative.
    """
    end = residuals.shape[1]
    inside = residuals[:, max(0, end - 1 + first) : max(0, min(end, end + last))]
    return mean_known(np.ascontiguousarray(inside, dtype=np.float64))


def means_of_last(
    values: Floats, counted: Flags, days_by_name: Mapping[str, int]
) -> dict[str, Floats]:
    """For each name the mean of the last k days that count; NaN where no day counts.

    `values` is 0 on days that do not count.
    """
    rank = rank_from_end(counted)
    means = {}
    for name, k in days_by_name.items():
        chosen = counted & (rank <= k)
        days = chosen.sum(axis=1)
        sums = np.where(chosen, values, 0.0).sum(axis=1)
        means[name] = np.where(days > 0, sums / np.maximum(days, 1), np.nan)
    return means


def spread_of(values: Floats, counted: Flags) -> Floats:
    """The standard deviation of the days that count; NaN for fewer than LEAST_SPREAD_DAYS."""
    days = counted.sum(axis=1)
    mean = values.sum(axis=1) / np.maximum(days, 1)
    deviation = np.where(counted, values - mean[:, None], 0.0)
    enough = days >= LEAST_SPREAD_DAYS
    variance = (deviation * deviation).sum(axis=1) / np.maximum(days, 1)
    return np.where(enough, np.sqrt(variance), np.nan)


def rank_from_end(counted: Flags) -> npt.NDArray[np.int16]:
    """(n, days): 1 on the last day that counts, 2 on the day that counts before it, and so on."""
    return np.cumsum(counted[:, ::-1], axis=1, dtype=np.int16)[:, ::-1]


def last_flagged(flags: Flags) -> Floats:
    """The number of the last flagged day, NaN where there is none. The last day has number 0."""
    if not flags.shape[1]:
        return np.full(len(flags), np.nan)
    return np.where(flags.any(axis=1), -np.argmax(flags[:, ::-1], axis=1), np.nan)
