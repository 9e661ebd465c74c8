"""Statistics along the days of each series.

Every sum runs along one row, in float64: it does not depend on what other rows there are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats, Floats32

Flags = npt.NDArray[np.bool_]


def mean_known(values: Floats) -> Floats:
    """The mean of each row's known values."""
    known = ~np.isnan(values)
    days = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.where(days > 0, sums / np.maximum(days, 1), np.nan)


def mean_between(residuals: Floats32, first: int, last: int) -> Floats:
    """The mean residual of the days `first` to `last`, 0 being the as-of; NaN if there is none."""
    end = residuals.shape[1]
    inside = residuals[:, max(0, end - 1 + first) : max(0, min(end, end + last))]
    return mean_known(np.ascontiguousarray(inside, dtype=np.float64))


def means_of_last(values: Floats, counted: Flags, wanted: Mapping[str, int]) -> dict[str, Floats]:
    """Means of the last k days that count, where `values` is 0 on all others."""
    rank = rank_from_end(counted)
    found = {}
    for name, k in wanted.items():
        chosen = counted & (rank <= k)
        days = chosen.sum(axis=1)
        sums = np.where(chosen, values, 0.0).sum(axis=1)
        found[name] = np.where(days > 0, sums / np.maximum(days, 1), np.nan)
    return found


def spread_of(values: Floats, counted: Flags) -> Floats:
    """The standard deviation of what counts; NaN for fewer than five days."""
    days = counted.sum(axis=1)
    mean = values.sum(axis=1) / np.maximum(days, 1)
    apart = np.where(counted, values - mean[:, None], 0.0)
    enough = days >= 5  # noqa: PLR2004
    return np.where(enough, np.sqrt((apart * apart).sum(axis=1) / np.maximum(days, 1)), np.nan)


def rank_from_end(counted: Flags) -> npt.NDArray[np.int16]:
    """1 for the last day that counts, 2 for the one before it, …"""
    return np.cumsum(counted[:, ::-1], axis=1, dtype=np.int16)[:, ::-1]


def last_flagged(flags: Flags) -> Floats:
    """The day number of the last day that is flagged."""
    if not flags.shape[1]:
        return np.full(len(flags), np.nan)
    return np.where(flags.any(axis=1), -np.argmax(flags[:, ::-1], axis=1), np.nan)
