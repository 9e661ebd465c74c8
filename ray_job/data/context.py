"""The context: what surrounds the series. It is small, so that every worker gets all of it.

It holds the stores with their regions and descriptions, and weather and holidays by region and day.
A run makes it once from the whole tables.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.errors import InputError
from ray_job.data.calendar_days import public_holidays
from ray_job.data.panel import Floats, Floats32, Texts

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

HOLIDAY_REACH = 35
"""Holidays are known for so many days before the first day and after the last day, too."""

_NO_STORE = -1
_USUAL_YEARS = 5
_USUAL_REACH = 3
_USUAL_RECENT = 28


@dataclass(frozen=True, slots=True)
class Context:
    """Stores, weather and holidays as arrays.

    `regions` has r names. Arrays by region have r + 1 rows; the last row is for stores without a
    region. It holds the mean weather of all regions (marked as missing, unless there is one region
    only) and the country's own holidays. Arrays by store also have one more row, with NaN or None.
    """

    first_day: date
    last_day: date
    regions: tuple[str, ...]
    store_ids: npt.NDArray[np.str_]
    """Sorted."""
    store_region: Ints
    store_numbers: Mapping[str, Floats]
    store_texts: Mapping[str, Texts]
    """None where nothing is known."""
    weather_columns: tuple[str, ...]
    weather: Floats32
    """(r + 1, days, columns)"""
    weather_missing: Flags
    """(r + 1, days): whether the values are the region's usual ones and were not delivered."""
    holidays: Flags
    """(r + 1, HOLIDAY_REACH + days + HOLIDAY_REACH)"""
    digest: str = ""
    """sha256 of all other fields."""

    @classmethod
    def build(
        cls,
        stores: pa.Table | None,
        weather: pa.Table | None,
        holidays: pa.Table | None,
        *,
        country: str,
        first_day: date,
        last_day: date,
    ) -> Context:
        """The context of the days from `first_day` to `last_day`, both included.

        `stores` has the columns store_id, region and others; `weather` has region, date and numbers
        (columns of text are ignored); `holidays` has region (null: all regions), date and holiday.
        The tables must be whole, since earlier days give the usual weather. Raises InputError for
        a missing column, for a store or a day of a region that occurs twice, and for an unknown
        country where no holidays were delivered.
        """
        store_ids, store_regions, numbers, texts = _stores(stores)
        regions = _regions(store_regions, weather, holidays)
        place = {region: index for index, region in enumerate(regions)}
        elsewhere = 0 if stores is None and len(regions) == 1 else _NO_STORE
        rows = [_NO_STORE if region is None else place[region] for region in store_regions]
        store_region = np.array([*rows, elsewhere], dtype=np.int64)
        values, missing, columns = _weather(weather, place, first_day, last_day)
        flags = _holidays(holidays, place, country, first_day, last_day)
        context = cls(
            first_day=first_day,
            last_day=last_day,
            regions=regions,
            store_ids=store_ids,
            store_region=store_region,
            store_numbers=numbers,
            store_texts=texts,
            weather_columns=columns,
            weather=values,
            weather_missing=missing,
            holidays=flags,
        )
        return replace(context, digest=_digest(context))

    def without_weather(self) -> Context:
        """The same context as if no weather had ever been delivered."""
        return replace(
            self,
            weather_columns=(),
            weather=np.zeros((*self.weather_missing.shape, 0), dtype=np.float32),
            weather_missing=np.ones_like(self.weather_missing),
            digest=hashlib.sha256(f"{self.digest} without weather".encode()).hexdigest(),
        )

    def rows(self, store_ids: Texts) -> Ints:
        """Each store's row in the arrays by store; -1 (the last row) for other stores."""
        if not len(self.store_ids) or not len(store_ids):
            return np.full(len(store_ids), _NO_STORE, dtype=np.int64)
        ids = store_ids.astype(np.str_)
        rows = np.minimum(np.searchsorted(self.store_ids, ids), len(self.store_ids) - 1)
        return np.where(self.store_ids[rows] == ids, rows, _NO_STORE)

    def weather_at(self, day: date) -> Floats32:
        """(r + 1, columns): the weather of a day; NaN for a day outside of the context."""
        column = (day - self.first_day).days
        if 0 <= column < self.weather.shape[1]:
            return np.ascontiguousarray(self.weather[:, column])
        return np.full((len(self.regions) + 1, len(self.weather_columns)), np.nan, np.float32)

    def weather_missing_at(self, day: date) -> Flags:
        """(r + 1,): whether the weather of a day is not delivered."""
        column = (day - self.first_day).days
        if 0 <= column < self.weather_missing.shape[1]:
            return np.ascontiguousarray(self.weather_missing[:, column])
        return np.ones(len(self.regions) + 1, dtype=np.bool_)

    def holidays_around(self, day: date, reach: int) -> Flags:
        """(r + 1, 2 reach + 1): the days from `reach` before to `reach` after; False if unknown."""
        days = (day - self.first_day).days + HOLIDAY_REACH + np.arange(-reach, reach + 1)
        known = (days >= 0) & (days < self.holidays.shape[1])
        inside = np.clip(days, 0, self.holidays.shape[1] - 1)
        return np.ascontiguousarray(self.holidays[:, inside] & known)


def _stores(
    table: pa.Table | None,
) -> tuple[npt.NDArray[np.str_], list[str | None], dict[str, Floats], dict[str, Texts]]:
    if table is None:
        return np.array([], dtype=np.str_), [], {}, {}
    _require(table, "stores", ("store_id",))
    table = table.sort_by("store_id")
    ids = _texts(table["store_id"])
    for before, after in itertools.pairwise(ids):
        if before == after:
            raise InputError(
                f"stores: store {after!r} has two rows; deliver one row for each store"
            )
    regions: list[str | None] = [None] * len(ids)
    if "region" in table.column_names:
        regions = _texts(table["region"])
    numbers: dict[str, Floats] = {}
    texts: dict[str, Texts] = {}
    for name in table.column_names:
        if name in ("store_id", "region"):
            continue
        if _is_number(table.schema.field(name).type):
            numbers[name] = np.append(_numbers(table[name]), np.nan)
        elif _is_text(table.schema.field(name).type):
            texts[name] = np.array([*_texts(table[name]), None], dtype=np.object_)
    return np.array(ids, dtype=np.str_), regions, numbers, texts


def _regions(
    of_stores: list[str | None], weather: pa.Table | None, holidays: pa.Table | None
) -> tuple[str, ...]:
    names = set(of_stores)
    for kind, table in (("weather", weather), ("holidays", holidays)):
        if table is not None:
            _require(table, kind, ("region", "date"))
            names |= set(_texts(pc.unique(table["region"])))
    return tuple(sorted(name for name in names if name is not None))


def _weather(
    table: pa.Table | None, place: Mapping[str, int], first_day: date, last_day: date
) -> tuple[Floats32, Flags, tuple[str, ...]]:
    days = (last_day - first_day).days + 1
    if table is None or not table.num_rows:
        empty = np.zeros((len(place) + 1, days, 0), dtype=np.float32)
        return empty, np.ones((len(place) + 1, days), dtype=np.bool_), ()
    columns = tuple(
        field.name
        for field in table.schema
        if field.name not in ("region", "date") and _is_number(field.type)
    )
    dates = _ordinals(table["date"])
    start = min(int(dates.min()), first_day.toordinal())
    span = max(int(dates.max()), last_day.toordinal()) - start + 1
    names = _texts(table["region"])
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
        values[rows, dates - start, index] = _numbers(table[column])
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


def _holidays(
    table: pa.Table | None,
    place: Mapping[str, int],
    country: str,
    first_day: date,
    last_day: date,
) -> Flags:
    start = first_day - timedelta(days=HOLIDAY_REACH)
    end = last_day + timedelta(days=HOLIDAY_REACH)
    flags = np.zeros((len(place) + 1, (end - start).days + 1), dtype=np.bool_)
    if table is not None and table.num_rows:
        _require(table, "holidays", ("region", "date", "holiday"))
        for region, day, name in zip(
            _texts(table["region"]), table["date"].to_pylist(), table["holiday"], strict=True
        ):
            if start <= day <= end and name.is_valid:
                rows = slice(None) if region is None else place[region]
                flags[rows, (day - start).days] = True
        return flags
    years = range(start.year, end.year + 1)
    for region, row in [*place.items(), ("", -1)]:
        for day in public_holidays(country, region, years):
            if start <= day <= end:
                flags[row, (day - start).days] = True
    return flags


def _digest(context: Context) -> str:
    """The sha256 of every field of the context but the digest itself."""
    digest = hashlib.sha256()
    for field in fields(context):
        if field.name != "digest":
            _update(digest, field.name, getattr(context, field.name))
    return digest.hexdigest()


def _update(digest: hashlib._Hash, name: str, value: object) -> None:
    """Add a named value: a mapping by its sorted keys, an array of numbers by its bytes."""
    if isinstance(value, Mapping):
        digest.update(f"{name} {len(value)}".encode())
        for key in sorted(value):
            _update(digest, f"{name} {key}", value[key])
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        digest.update(f"{name} {value.dtype.str} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    else:
        content = value.tolist() if isinstance(value, np.ndarray) else value
        digest.update(f"{name} {content!r}".encode())


def _mean(values: Floats) -> Floats:
    """The mean along the first axis of known values; NaN where no value is known."""
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _require(table: pa.Table, kind: str, columns: Iterable[str]) -> None:
    for column in columns:
        if column not in table.column_names:
            raise InputError(f"{kind}: the column {column!r} is missing")


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_dictionary(kind)
    )


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    return [None if value is None else str(value) for value in column.to_pylist()]


def _numbers(column: pa.ChunkedArray) -> Floats:
    values = column.cast(pa.float64()).to_numpy()
    return np.asarray(values, dtype=np.float64)


def _ordinals(column: pa.ChunkedArray) -> Ints:
    days = column.cast(pa.date32()).cast(pa.int32())
    if days.null_count:
        raise InputError("weather: a row has no date")
    ordinals: Ints = days.to_numpy().astype(np.int64) + date(1970, 1, 1).toordinal()
    return ordinals
