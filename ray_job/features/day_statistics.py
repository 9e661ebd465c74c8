"""Statistics along the days of each series.

Arrays are (n, days), results (n,). Each sum runs along one row in float64, so that a result does
not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from ray_job.data.panel import Floats, Floats32

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.int16]

LEAST_SPREAD_DAYS = 5
"""A standard deviation of fewer days than this would be mostly chance."""


def numbers_of(flags: Flags) -> Ints:
    """(n,): how many days of each row are flagged. To add bits is faster than to add flags."""
    bits = np.bitwise_count(np.packbits(flags, axis=-1))
    numbers: Ints = bits.sum(axis=-1, dtype=np.int64)
    return numbers


def mean_known(values: Floats) -> Floats:
    """The mean of the known values along the last axis; NaN where none is known."""
    known = ~np.isnan(values)
    days = known.sum(axis=-1, dtype=np.int32)
    sums = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(days > 0, sums / np.maximum(days, 1), np.nan)


def mean_between(residuals: Floats32, first: int, last: int) -> Floats:
    """The mean residual of the days `first` to `last`; NaN where no day of them counts.

    Day 0 is the as-of, earlier days are negative.
    """
    end = residuals.shape[1]
    inside = residuals[:, max(0, end - 1 + first) : max(0, min(end, end + last))]
    return mean_known(np.ascontiguousarray(inside, dtype=np.float64))


def means_between(residuals: Floats32, windows: Sequence[tuple[int, int]]) -> Floats:
    """(n, windows): `mean_between` of each window (first, last)."""
    end = residuals.shape[1]
    means = np.full((len(residuals), len(windows)), np.nan)
    places: dict[int, list[int]] = {}
    begins = [max(0, end - 1 + first) for first, _ in windows]
    for place, (_, last) in enumerate(windows):
        places.setdefault(max(0, min(end, end + last)) - begins[place], []).append(place)
    for width, members in places.items():
        if width > 0:
            days = sliding_window_view(residuals, width, axis=1)
            chosen = days[:, [begins[place] for place in members]]
            means[:, members] = mean_known(chosen.astype(np.float64))
    return means


def means_of_last(
    values: Floats, counted: Flags, days_by_name: Mapping[str, int], rank: Ranks | None = None
) -> dict[str, Floats]:
    """For each name the mean of the last k days that count; NaN where no day counts.

    `values` is 0 on days that do not count. `rank` is `rank_from_end(counted)`.
    """
    if rank is None:
        rank = rank_from_end(counted)
    number = rank[:, 0].astype(np.int64) if rank.shape[1] else np.zeros(len(rank), np.int64)
    means = {}
    for name, k in days_by_name.items():
        chosen = counted & (rank <= k)
        sums = np.where(chosen, values, 0.0).sum(axis=1)
        means[name] = np.where(number > 0, sums / np.clip(number, 1, k), np.nan)
    return means


def spread_of(values: Floats, counted: Flags) -> Floats:
    """The standard deviation of the days that count; NaN for fewer than LEAST_SPREAD_DAYS."""
    days = numbers_of(counted)
    mean = values.sum(axis=1) / np.maximum(days, 1)
    deviation = np.where(counted, values - mean[:, None], 0.0)
    enough = days >= LEAST_SPREAD_DAYS
    variance = (deviation * deviation).sum(axis=1) / np.maximum(days, 1)
    return np.where(enough, np.sqrt(variance), np.nan)


def rank_from_end(counted: Flags) -> Ranks:
    """(n, days): 1 on the last day that counts, 2 on the day that counts before it, and so on."""
    return np.cumsum(counted[:, ::-1], axis=1, dtype=np.int16)[:, ::-1]


def last_flagged(flags: Flags) -> Floats:
    """The number of the last flagged day, NaN where there is none. The last day has number 0."""
    if not flags.shape[1]:
        return np.full(len(flags), np.nan)
    return np.where(flags.any(axis=1), -np.argmax(flags[:, ::-1], axis=1), np.nan)
