"""Weather by region and day, with the usual weather of days that were not delivered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ray_job.bucket.errors import InputError
from ray_job.data.context.columns import is_number, numbers, ordinals, texts
from ray_job.data.panel import Floats, Floats32

Flags = npt.NDArray[np.bool_]

_USUAL_YEARS = 5
_USUAL_REACH = 3
_USUAL_RECENT = 28


def weather_arrays(
    table: pa.Table | None, place: Mapping[str, int], first_day: date, last_day: date
) -> tuple[Floats32, Flags, tuple[str, ...]]:
    """Weather (regions + 1, days, columns), which days are missing (regions + 1, days), the
    columns.

    `place` has the row of each region; the last row is the mean of all regions. Raises InputError
    for a row without a region or a date, and for a day of a region that occurs twice.
    """
    days = (last_day - first_day).days + 1
    if table is None or not table.num_rows:
        empty = np.zeros((len(place) + 1, days, 0), dtype=np.float32)
        return empty, np.ones((len(place) + 1, days), dtype=np.bool_), ()
    columns = tuple(
        field.name
        for field in table.schema
        if field.name not in ("region", "date") and is_number(field.type)
    )
    dates = ordinals(table["date"])
    start = min(int(dates.min()), first_day.toordinal())
    span = max(int(dates.max()), last_day.toordinal()) - start + 1
    names = texts(table["region"])
    if None in names:
        raise InputError("weather: a row names no region")
    rows = np.array([place[name] for name in names if name is not None], dtype=np.int64)
    cells, counts = np.unique(rows * span + dates - start, return_counts=True)
    if counts.max() > 1:
        region, day = divmod(int(cells[np.argmax(counts > 1)]), span)
        name = next(key for key, value in place.items() if value == region)
        raise InputError(
            f"weather: region {name!r} has two rows of {date.fromordinal(start + day)}"
        )
    values = np.full((len(place) + 1, span, len(columns)), np.nan)
    for index, column in enumerate(columns):
        values[rows, dates - start, index] = numbers(table[column])
    values[-1] = values[0] if len(place) == 1 else _mean(values[:-1])
    missing = np.isnan(values)
    # Usual values come from delivered ones only, so that they do not depend on `first_day`.
    delivered = values.copy()
    first = first_day.toordinal() - start
    for region, day, column in np.argwhere(missing[:, first : first + days]):
        values[region, first + day, column] = _usual(delivered[region, :, column], first + int(day))
    inside = slice(first, first + days)
    unknown = missing[:, inside].all(axis=2)
    if len(place) != 1:
        unknown[-1] = True
    return np.ascontiguousarray(values[:, inside], dtype=np.float32), unknown, columns


def _usual(history: Floats, day: int) -> float:
    """The usual value of a day: the mean of its week in earlier years, else of the last 28 days.

    Only earlier days count, so that a longer context gives the same value.
    """
    weeks = [
        history[max(0, day - 364 * year - _USUAL_REACH) : day - 364 * year + _USUAL_REACH + 1]
        for year in range(1, _USUAL_YEARS + 1)
        if day - 364 * year + _USUAL_REACH >= 0
    ]
    for known in (np.concatenate([*weeks, []]), history[max(0, day - _USUAL_RECENT) : day]):
        values = known[~np.isnan(known)]
        if len(values):
            return math.fsum(values) / len(values)
    return math.nan


def _mean(values: Floats) -> Floats:
    """The mean along the first axis of known values; NaN where no value is known."""
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
