"""The delivered rows of a chunk's stores, from packs and files, and how they fold into cells.

Rows are folded in the order of their delivery. The operation `set` replaces, column by column,
where it is not null. The operation `add` adds to the sales and replaces the other columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.packs.packed_rows import PackedRows
from ray_job.data.panel import Floats, Texts
from ray_job.data.partition import DELIVERED, ITEM, OP, Columns, FileRows

_EPOCH = date(1970, 1, 1)

Ints = npt.NDArray[np.int64]

OTHER_TEXT = -1
"""The code of a text that is not among the categories. It replaces an older text as any other."""


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """The rows of a chunk, flat: each has the index of its series and of its day."""

    store_ids: Texts
    item_ids: Texts
    store_places: Ints
    """The place of each series' store among the chunk's stores."""
    series: Ints
    days: Ints
    sales: Floats
    columns: Mapping[str, npt.NDArray[np.floating]]
    """Numbers, and of texts the codes: the place among the categories, or OTHER_TEXT."""
    adds: npt.NDArray[np.bool_] | None
    delivered: Ints | None
    """When each row was delivered, in µs since 1970; None where no row adds."""

    @classmethod
    def of(
        cls,
        stores: Sequence[tuple[str, Sequence[FileRows]]],
        columns: Columns,
        first_day: date,
        last_day: date,
        dtype: type[np.floating] = np.float32,
        packed: PackedRows | None = None,
    ) -> ChunkRows | None:
        """The rows of the days from `first_day` to `last_day`, None where there is no such row.

        `columns` become arrays of `dtype`. `packed`: see `panels`.
        """
        files = [rows for _, of_store in stores for rows in of_store]
        if not files and packed is None:
            return None
        names = ("date", "sales", *columns.names)
        tables = [rows.table.select(names) for rows in files]
        if packed is not None:
            tables.insert(0, packed.table.select(names))
        table = pa.concat_tables(tables).combine_chunks()
        first, last = (first_day - _EPOCH).days, (last_day - _EPOCH).days
        dates = _numpy(_column(table, "date").cast(pa.int32()), np.int64)
        inside = (dates >= first) & (dates <= last)
        all_inside = bool(inside.all())
        if not inside.any():
            return None

        def values(name: str) -> npt.NDArray[np.float64]:
            array = _floats(_column(table, name), name, columns)
            return array if all_inside else array[inside]

        adds: npt.NDArray[np.bool_] | None = _adding(files, packed)
        delivered = None
        if adds is not None:
            delivered, adds = _delivered(files, packed)[inside], adds[inside]
        series, store_of, item_of = _series(_runs(stores, packed), inside)
        store_ids = np.array([store_id for store_id, _ in stores], dtype=np.object_)
        return cls(
            store_ids=store_ids[store_of],
            item_ids=item_of,
            store_places=store_of,
            series=series,
            days=(dates if all_inside else dates[inside]) - first,
            sales=values("sales"),
            columns={name: values(name).astype(dtype) for name in columns.names},
            adds=adds,
            delivered=delivered,
        )


def set_cells(
    dense: npt.NDArray[np.floating], cells: Ints, values: npt.NDArray[np.floating]
) -> None:
    """Write values into cells; of several values for a cell the last one that is not NaN counts."""
    known = ~np.isnan(values)
    if known.all():
        dense[cells] = values
    else:
        dense[cells[known]] = values[known]


def fold_cells(
    dense: Floats, cells: Ints, values: Floats, adds: npt.NDArray[np.bool_], delivered: Ints
) -> None:
    """Apply deliveries one after the other.

    Within one of our deliveries a cell occurs at most once. Of other writers' rows without a time
    of delivery the last one that sets a cell counts, and all that add to it.
    """
    known = np.flatnonzero(~np.isnan(values))
    known = known[np.argsort(delivered[known], kind="stable")]
    edges = np.flatnonzero(np.diff(delivered[known])) + 1
    for rows in np.split(known, edges):
        setting, adding = rows[~adds[rows]], rows[adds[rows]]
        dense[cells[setting]] = values[setting]
        begun = cells[adding][np.isnan(dense[cells[adding]])]
        dense[begun] = 0.0
        np.add.at(dense, cells[adding], values[adding])


def _series(runs: _Runs, inside: npt.NDArray[np.bool_]) -> tuple[Ints, Ints, Texts]:
    """The series of each row that is inside; the store's place and the item id of each series.

    Series are numbered in the order of (store, item).
    """
    counts = np.add.reduceat(inside, runs.begins, dtype=np.int64)
    is_used = counts > 0
    codes = pa.array(runs.items, pa.string()).filter(pa.array(is_used)).dictionary_encode()
    names = codes.dictionary
    order = pc.sort_indices(names)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order.to_numpy()] = np.arange(len(names))
    ranks = rank[_numpy(codes.indices, np.int64)]
    series_keys, series_of_run = np.unique(
        runs.stores[is_used] * len(names) + ranks, return_inverse=True
    )
    ordered = np.array(names.take(order).to_pylist(), dtype=np.object_)
    series = np.repeat(series_of_run.astype(np.int64), counts[is_used])
    return series, series_keys // len(names), ordered[series_keys % len(names)]


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of rows of one item: the place of the first row, the item, the place of the store."""

    begins: Ints
    items: list[str]
    stores: Ints


def _runs(stores: Sequence[tuple[str, Sequence[FileRows]]], packed: PackedRows | None) -> _Runs:
    begins: list[int] = []
    items: list[str] = []
    owners: list[int] = []
    place = 0
    if packed is not None:
        ends = np.cumsum(packed.item_rows)
        begins.extend((ends - packed.item_rows).tolist())
        items.extend(packed.items)
        owners.extend(store_places(stores, packed)[packed.entry_of_items()].tolist())
        place = packed.table.num_rows
    for owner, (_, files) in enumerate(stores):
        for rows in files:
            if ITEM in rows.constant:
                begins.append(place)
                owners.append(owner)
                items.append(rows.constant[ITEM])
            else:
                ids = _column(rows.table, ITEM)
                changed = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
                starts = np.concatenate([[0], np.flatnonzero(changed) + 1])
                items.extend(ids.take(pa.array(starts)).to_pylist())
                begins.extend((place + starts).tolist())
                owners.extend(itertools.repeat(owner, len(starts)))
            place += rows.table.num_rows
    return _Runs(np.array(begins, np.int64), items, np.array(owners, np.int64))


def store_places(stores: Sequence[tuple[str, object]], packed: PackedRows) -> Ints:
    """The place among the stores of each entry's store."""
    places = {store: place for place, (store, _) in enumerate(stores)}
    return np.array([places[store] for store in packed.store_ids], np.int64)


def _adding(files: Sequence[FileRows], packed: PackedRows | None) -> npt.NDArray[np.bool_] | None:
    """Which rows have the operation `add`; None if no row has it."""
    packed_adds = packed is not None and bool(packed.run_adds.any())
    if not packed_adds and all(rows.constant.get(OP) == "set" for rows in files):
        return None
    flags = [] if packed is None else [packed.adds()]
    for rows in files:
        if OP in rows.constant:
            flags.append(np.full(rows.table.num_rows, rows.constant[OP] == "add"))
        else:
            adds = pc.equal(_column(rows.table, OP), "add")
            flags.append(adds.to_numpy(zero_copy_only=False))
    adds_of_rows = np.concatenate(flags)
    return adds_of_rows if adds_of_rows.any() else None


def _delivered(files: Sequence[FileRows], packed: PackedRows | None) -> Ints:
    """When each row was delivered, in µs since 1970."""
    times = [] if packed is None else [packed.delivered()]
    for rows in files:
        if DELIVERED in rows.constant:
            times.append(np.full(rows.table.num_rows, rows.constant[DELIVERED], np.int64))
        else:
            times.append(_numpy(_column(rows.table, DELIVERED).cast(pa.int64()), np.int64))
    return np.concatenate(times)


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _numpy(array: pa.Array, dtype: type[np.int64]) -> Ints:
    values: Ints = array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return values


def _floats(array: pa.Array, name: str, columns: Columns) -> Floats:
    """Numbers as they are; of texts the place among the categories, else OTHER_TEXT."""
    if pa.types.is_string(array.type):
        values = list((columns.categories or {}).get(name, ()))
        codes = pc.index_in(array, value_set=pa.array(values, pa.string()))
        if codes.null_count > array.null_count:
            codes = pc.if_else(array.is_null(), codes, codes.fill_null(OTHER_TEXT))
        array = codes
    if array.null_count:
        array = pc.fill_null(array.cast(pa.float64()), float("nan"))
    floats: Floats = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return floats
