"""Folding the rows of stores for a pack, as far as this changes nothing for who reads them.

Rows of `set` fold to one for each item and date. Rows of `add` stay, since what they add to is not
known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.packs.chunk_rows import set_cells
from ray_job.data.partition import DELIVERED, ITEM, OP

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_REQUIRED = {
    ITEM: pa.string(),
    "date": pa.date32(),
    "sales": pa.float64(),
    DELIVERED: pa.timestamp("us", "UTC"),
    OP: pa.string(),
}
_FURTHER = (pa.float64(), pa.string())


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file of the histories whose rows are in an entry; `path` is a key of the bucket."""

    path: str
    size: int
    first_day: int
    last_day: int


@dataclass(frozen=True, slots=True)
class StorePart:
    """The items of a store that an entry has: from `first` up to but not including `end`.

    None is open. `delivered_days` and `sold_days` are the days, since 1970, on which any item of
    the store has known sales, and sales above 0, in the files of the entry.
    """

    first: str | None
    end: str | None
    delivered_days: Ints
    sold_days: Ints


@dataclass(frozen=True, slots=True)
class PackSource:
    """A store's rows of some files, with all columns, in the order of their delivery.

    With a `part` these are the rows of some items only.
    """

    store_id: str
    files: Sequence[PackedFile]
    rows: pa.Table
    part: StorePart | None = None


@lru_cache(maxsize=64)
def has_packed_form(schema: pa.Schema) -> bool:
    """Whether the columns are as ingest writes them; others are read from their partition only."""
    if not set(schema.names).issuperset(_REQUIRED):
        return False
    return all(
        field.type == _REQUIRED[field.name] if field.name in _REQUIRED else field.type in _FURTHER
        for field in schema
    )


def is_whole(rows: pa.Table) -> bool:
    """Whether no row lacks what every row has. Sales may be unknown."""
    return bool(rows.num_rows) and not any(
        rows[name].null_count for name in _REQUIRED if name != "sales"
    )


@dataclass(frozen=True, slots=True)
class SectionRows:
    """Rows by (series, day); of a series' day in the order of delivery.

    `stores` are places of the sources, `series` count the items of all stores. `places` are those
    of the rows in the sources. A text column has codes, NaN where it is null, and its values.
    """

    stores: Ints
    series: Ints
    items: pa.Array
    days: Ints
    delivered: Ints
    adds: Flags
    places: Ints
    numbers: Mapping[str, npt.NDArray[np.float64]]
    texts: Mapping[str, pa.Array]
    sold_days: tuple[Ints, Ints]
    """Store and day: see ENTRY_FIELDS."""

    @classmethod
    def of(cls, sources: Sequence[PackSource]) -> SectionRows:
        table = _concatenated([source.rows for source in sources]).combine_chunks()
        stores = np.repeat(np.arange(len(sources)), [source.rows.num_rows for source in sources])
        series, items = _series(stores, _column(table, ITEM))
        days = _column(table, "date").cast(pa.int32()).to_numpy().astype(np.int64)
        delivered = _column(table, DELIVERED).cast(pa.int64()).to_numpy()
        adds = pc.equal(_column(table, OP), "add").to_numpy(zero_copy_only=False)
        places = np.arange(table.num_rows)
        numbers, texts = {}, {}
        for name in table.column_names:
            if name in _REQUIRED and name != "sales":
                continue
            column = _column(table, name)
            if pa.types.is_string(column.type):
                column = column.dictionary_encode()
                texts[name] = column.dictionary
                column = column.indices
            if column.null_count:
                column = pc.fill_null(column.cast(pa.float64()), float("nan"))
            numbers[name] = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        none = np.array([], np.int64)
        rows = cls(
            stores, series, items, days, delivered, adds, places, numbers, texts, (none, none)
        )
        ascending = (series[1:] > series[:-1]) | (
            (series[1:] == series[:-1]) & (days[1:] > days[:-1])
        )
        if ascending.all():
            return rows
        return rows.taken(np.lexsort((places, delivered, days, series)))

    def taken(self, chosen: Ints) -> SectionRows:
        return SectionRows(
            self.stores[chosen],
            self.series[chosen],
            self.items,
            self.days[chosen],
            self.delivered[chosen],
            self.adds[chosen],
            self.places[chosen],
            {name: values[chosen] for name, values in self.numbers.items()},
            self.texts,
            self.sold_days,
        )

    def _repeats(self) -> Flags:
        """Whether a row is for the same item and date as the row before it."""
        same = (self.series[1:] == self.series[:-1]) & (self.days[1:] == self.days[:-1])
        return np.concatenate([[False], same])

    def uncertain_stores(self) -> Ints:
        repeats = np.flatnonzero(self._repeats())
        wrong = (self.delivered[repeats] == self.delivered[repeats - 1]) | (
            self.places[repeats] < self.places[repeats - 1]
        )
        return np.unique(self.stores[repeats[wrong]])

    def folded(self) -> SectionRows:
        """One row for each item and date of a store that has no `add`, of its last delivery.

        All rows of such a store get the last time of delivery, as nothing depends on it then.
        """
        n_stores = int(self.stores[-1]) + 1
        adding = np.zeros(n_stores, np.bool_)
        adding[self.stores[self.adds]] = True
        last = np.zeros(n_stores, np.int64)
        np.maximum.at(last, self.stores, self.delivered)
        is_set = ~adding[self.stores]
        delivered = np.where(is_set, last[self.stores], self.delivered)
        replaced = self._repeats() & is_set
        if not replaced.any():
            return self.changed(delivered=delivered)
        groups = np.cumsum(~replaced) - 1
        firsts = np.flatnonzero(~replaced)
        numbers = {}
        for name, values in self.numbers.items():
            numbers[name] = np.full(len(firsts), np.nan)
            set_cells(numbers[name], groups, values)
        rows = self.changed(delivered=delivered).taken(firsts).changed(numbers=numbers)
        return rows.changed(
            sold_days=_difference(
                self.days_sold(self.numbers["sales"]), rows.days_sold(numbers["sales"])
            )
        )

    def days_sold(self, sales: npt.NDArray[np.float64]) -> tuple[Ints, Ints]:
        sold = sales > 0
        return self.stores[sold], self.days[sold]

    def changed(self, **changes: object) -> SectionRows:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return SectionRows(**(fields | changes))

    def run_starts(self) -> Ints:
        goes_on = (
            (self.series[1:] == self.series[:-1])
            & (self.days[1:] == self.days[:-1] + 1)
            & (self.delivered[1:] == self.delivered[:-1])
            & (self.adds[1:] == self.adds[:-1])
        )
        return np.concatenate([[0], np.flatnonzero(~goes_on) + 1])


def _series(stores: Ints, ids: pa.Array) -> tuple[Ints, pa.Array]:
    """The series of each row, numbered in the order of (store, item); and each one's item."""
    changed = np.concatenate([[True], stores[1:] != stores[:-1]])
    changed[1:] |= pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(changed)
    codes = ids.take(pa.array(starts)).dictionary_encode()
    names = codes.dictionary
    order = pc.sort_indices(names)
    rank = np.empty(len(names), np.int64)
    rank[order.to_numpy()] = np.arange(len(names))
    keys = stores[starts] * len(names) + rank[codes.indices.to_numpy()]
    unique, series_of_run = np.unique(keys, return_inverse=True)
    series = np.repeat(series_of_run, np.diff(np.append(starts, len(stores))))
    return series, names.take(order).take(pa.array(unique % len(names)))


def _difference(all_days: tuple[Ints, Ints], known: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """The (store, day) pairs of the first that the second has not, sorted."""
    pairs = np.unique(np.stack(all_days, axis=1), axis=0)
    kept = np.unique(np.stack(known, axis=1), axis=0)
    span = np.int64(2**32)
    missing = ~np.isin(pairs[:, 0] * span + pairs[:, 1], kept[:, 0] * span + kept[:, 1])
    return pairs[missing, 0], pairs[missing, 1]


def run_begins(values: Ints) -> Ints:
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])


def _concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid:
        return pa.concat_tables(tables, promote_options="default")


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
