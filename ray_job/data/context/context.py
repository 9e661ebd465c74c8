"""The context: what surrounds the series. It is small, so that every worker gets all of it.

It holds the stores with their regions and descriptions, and weather and holidays by region and day.
A run makes it once from the whole tables.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.errors import InputError
from ray_job.data.context.calendar_days import public_holidays
from ray_job.data.context.columns import is_number, is_text, numbers, require, texts
from ray_job.data.context.weather import weather_arrays
from ray_job.data.panel import Floats, Floats32, Texts

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

HOLIDAY_REACH = 35
"""Holidays are known for so many days before the first day and after the last day, too."""

LIKE = "like"
"""The column of the stores table that names a similar store. It is no feature."""

_NO_STORE = -1


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
        store_ids, store_regions, store_numbers, store_texts = _stores(stores)
        regions = _regions(store_regions, weather, holidays)
        place = {region: index for index, region in enumerate(regions)}
        elsewhere = 0 if stores is None and len(regions) == 1 else _NO_STORE
        rows = [_NO_STORE if region is None else place[region] for region in store_regions]
        store_region = np.array([*rows, elsewhere], dtype=np.int64)
        values, missing, columns = weather_arrays(weather, place, first_day, last_day)
        flags = _holidays(holidays, place, country, first_day, last_day)
        context = cls(
            first_day=first_day,
            last_day=last_day,
            regions=regions,
            store_ids=store_ids,
            store_region=store_region,
            store_numbers=store_numbers,
            store_texts=store_texts,
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
    require(table, "stores", ("store_id",))
    table = table.sort_by("store_id")
    ids = texts(table["store_id"])
    for before, after in itertools.pairwise(ids):
        if before == after:
            raise InputError(
                f"stores: store {after!r} has two rows; deliver one row for each store"
            )
    regions: list[str | None] = [None] * len(ids)
    if "region" in table.column_names:
        regions = texts(table["region"])
    numbers_of: dict[str, Floats] = {}
    texts_of: dict[str, Texts] = {}
    for name in table.column_names:
        if name in ("store_id", "region", LIKE):
            continue
        if is_number(table.schema.field(name).type):
            numbers_of[name] = np.append(numbers(table[name]), np.nan)
        elif is_text(table.schema.field(name).type):
            texts_of[name] = np.array([*texts(table[name]), None], dtype=np.object_)
    return np.array(ids, dtype=np.str_), regions, numbers_of, texts_of


def _regions(
    of_stores: list[str | None], weather: pa.Table | None, holidays: pa.Table | None
) -> tuple[str, ...]:
    names = set(of_stores)
    for kind, table in (("weather", weather), ("holidays", holidays)):
        if table is not None:
            require(table, kind, ("region", "date"))
            names |= set(texts(pc.unique(table["region"])))
    return tuple(sorted(name for name in names if name is not None))


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
        require(table, "holidays", ("region", "date", "holiday"))
        for region, day, name in zip(
            texts(table["region"]), table["date"].to_pylist(), table["holiday"], strict=True
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
