"""Sections: the folded histories of some stores as one Arrow stream.

One row of a section is an entry: some files of one store, and the observations that their rows fold
to. Observations are sorted by item and date, and are kept as runs of consecutive days, so that they
have no column of dates. `add` rows are not folded, since what they add to is not known here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.chunk_rows import set_cells
from ray_job.data.packs.values import pack_numbers
from ray_job.data.partition import DELIVERED, ITEM, OP

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

ENTRY_FIELDS = (
    pa.field("store_id", pa.string()),
    pa.field("paths", pa.list_(pa.string())),
    pa.field("sizes", pa.list_(pa.int64())),
    pa.field("first_days", pa.list_(pa.int32())),
    pa.field("last_days", pa.list_(pa.int32())),
    pa.field("first_delivered", pa.int64()),
    pa.field("last_delivered", pa.int64()),
    pa.field("items", pa.list_(pa.string())),
    pa.field("item_rows", pa.list_(pa.int32())),
    pa.field("run_days", pa.list_(pa.int32())),
    pa.field("run_rows", pa.list_(pa.int32())),
    pa.field("run_delivered", pa.list_(pa.int64())),
    pa.field("run_adds", pa.list_(pa.int8())),
    pa.field("sold_days", pa.list_(pa.int32())),
)
"""What every section has beside sales and the further columns, one list of values for an entry.

`paths` are keys of the bucket. `sold_days` are days on which a row that a later one corrected had
sales above 0, and no other row has.
"""
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")
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
class PackSource:
    """A store's rows of some files, with all columns, in the order of their delivery."""

    store_id: str
    files: Sequence[PackedFile]
    rows: pa.Table


@lru_cache(maxsize=64)
def has_packed_form(schema: pa.Schema) -> bool:
    """Whether the columns are as ingest writes them; others are read from their partition only."""
    if not set(schema.names).issuperset(_REQUIRED):
        return False
    return all(
        field.type == _REQUIRED[field.name] if field.name in _REQUIRED else field.type in _FURTHER
        for field in schema
    )


def _is_whole(rows: pa.Table) -> bool:
    """Whether no row lacks what every row has. Sales may be unknown."""
    return bool(rows.num_rows) and not any(
        rows[name].null_count for name in _REQUIRED if name != "sales"
    )


@dataclass(frozen=True, slots=True)
class EncodedSection:
    """The bytes of a section, its numbers of entries and rows, and its first time of delivery."""

    data: bytes
    stores: int
    rows: int
    first_delivered: int


def encode_section(
    sources: Sequence[PackSource], metadata: Mapping[str, str]
) -> EncodedSection | None:
    """A section of these stores, in their order; the columns of each have `has_packed_form`.

    A store whose rows have no certain order is left out: two rows of one delivery for the same item
    and date, or later rows before earlier ones. So is one with nulls where no row has any. None
    where no store is left.
    """
    sources = [source for source in sources if _is_whole(source.rows)]
    if not sources:
        return None
    rows = _SectionRows.of(sources)
    uncertain = rows.uncertain_stores()
    if len(uncertain):
        left_out = set(uncertain.tolist())
        kept = [source for place, source in enumerate(sources) if place not in left_out]
        return encode_section(kept, metadata)
    first = np.minimum.reduceat(rows.delivered, _starts(rows.stores))
    batch = rows.folded().batch(sources, first)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, batch.schema.with_metadata(dict(metadata)), options=_OPTIONS
    ) as out:
        out.write_batch(batch)
    return EncodedSection(
        sink.getvalue().to_pybytes(), len(sources), len(rows.days), int(first.min())
    )


@dataclass(frozen=True, slots=True)
class _SectionRows:
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
    def of(cls, sources: Sequence[PackSource]) -> _SectionRows:
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

    def taken(self, chosen: Ints) -> _SectionRows:
        return _SectionRows(
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

    def folded(self) -> _SectionRows:
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

    def changed(self, **changes: object) -> _SectionRows:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return _SectionRows(**(fields | changes))

    def batch(self, sources: Sequence[PackSource], first_delivered: Ints) -> pa.RecordBatch:
        bounds = np.arange(len(sources) + 1)
        rows = np.searchsorted(self.stores, bounds)
        series_starts = _starts(self.series)
        run_starts = self._run_starts()
        items_of = np.searchsorted(series_starts, rows)
        runs_of = np.searchsorted(run_starts, rows)
        files = [file for source in sources for file in source.files]
        files_of = np.array([0, *itertools.accumulate(len(source.files) for source in sources)])
        sold_of = np.searchsorted(self.sold_days[0], bounds)
        arrays = [
            pa.array([source.store_id for source in sources]),
            _lists(files_of, pa.array([file.path for file in files], pa.string())),
            _lists(files_of, pa.array([file.size for file in files], pa.int64())),
            _lists(files_of, pa.array([file.first_day for file in files], pa.int32())),
            _lists(files_of, pa.array([file.last_day for file in files], pa.int32())),
            pa.array(first_delivered),
            pa.array(np.maximum.reduceat(self.delivered, rows[:-1])),
            _lists(items_of, self.items.take(pa.array(self.series[series_starts]))),
            _lists(items_of, _lengths(series_starts, len(self.days))),
            _lists(runs_of, pa.array(self.days[run_starts].astype(np.int32))),
            _lists(runs_of, _lengths(run_starts, len(self.days))),
            _lists(runs_of, pa.array(self.delivered[run_starts])),
            _lists(runs_of, pa.array(self.adds[run_starts].astype(np.int8))),
            _lists(sold_of, pa.array(self.sold_days[1].astype(np.int32))),
        ]
        fields = list(ENTRY_FIELDS)
        for name, values in self.numbers.items():
            if name in self.texts:
                mask = np.isnan(values)
                codes = pa.array(np.where(mask, 0, values).astype(np.int32), mask=mask)
                array = self.texts[name].take(codes)
                field = pa.field(name, pa.list_(array.type))
            else:
                field, array = pack_numbers(name, values)
            fields.append(_column_field(field))
            arrays.append(_lists(rows, array))
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _run_starts(self) -> Ints:
        goes_on = (
            (self.series[1:] == self.series[:-1])
            & (self.days[1:] == self.days[:-1] + 1)
            & (self.delivered[1:] == self.delivered[:-1])
            & (self.adds[1:] == self.adds[:-1])
        )
        return np.concatenate([[0], np.flatnonzero(~goes_on) + 1])


COLUMN_PREFIX = "column."
"""Before the names of columns of the table, so that none of them is that of another field."""


def _concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid:
        return pa.concat_tables(tables, promote_options="default")


def _column_field(field: pa.Field) -> pa.Field:
    return field.with_name(COLUMN_PREFIX + field.name)


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


def _starts(values: Ints) -> Ints:
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])


def _lengths(starts: Ints, end: int) -> pa.Array:
    return pa.array(np.diff(np.append(starts, end)).astype(np.int32))


def _lists(bounds: Ints, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(bounds.astype(np.int32)), values)


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
