"""From the rows of a chunk's stores to dense panels.

FileRows are folded in the order of their delivery. The operation `set` replaces, column by column,
where it is not null. The operation `add` adds to the sales and replaces the other columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.panel import Floats, Floats32, Panel, StoreSold, Texts
from ray_job.data.partition import DELIVERED, IN_STOCK, ITEM, OP, Columns, FileRows
from ray_job.data.stock import empty_shelves
from ray_job.data.store_days import READING, ChunkDays, RowMeaning, StoreDays

_EPOCH = date(1970, 1, 1)
_BLOCK_CELLS = 8_000_000
"""Series × days of one panel: 64 MB of sales."""

Ints = npt.NDArray[np.int64]


def panels(
    stores: Sequence[tuple[str, Sequence[FileRows]]],
    columns: Columns,
    first_day: date,
    as_of: date,
    last_target: date,
    reading: RowMeaning = READING,
    store_days: Mapping[str, StoreDays] | None = None,
) -> Iterator[Panel]:
    """Yield dense panels of the stores' series, sorted by (store, item), each of bounded size.

    `stores` is sorted. A panel holds no sales after the as-of. A series without a row between
    `first_day` and `last_target` is in no panel. `store_days` has the days of each store where
    `stores` holds only some of its items; None: it holds all of them.
    """
    rows = ChunkRows.of(stores, columns, first_day, last_target)
    if rows is None:
        return
    n_days = (as_of - first_day).days + 1
    if store_days is None:
        owners = rows.store_places[rows.series]
        days = ChunkDays.of_rows(owners, rows.days, rows.sales, len(stores), n_days)
    else:
        days = ChunkDays.of_stores([store_days[store] for store, _ in stores], first_day, n_days)
    dates = (first_day, as_of, last_target)
    per_block = max(1, _BLOCK_CELLS // n_days)
    n_series = len(rows.store_ids)
    if n_series <= per_block:
        yield rows.panel(slice(None), 0, n_series, columns, *dates, days, reading)
        return
    order = np.argsort(rows.series, kind="stable")
    edges = np.searchsorted(rows.series[order], np.arange(0, n_series + per_block, per_block))
    for block, (begin, end) in enumerate(itertools.pairwise(edges)):
        first = block * per_block
        count = min(per_block, n_series - first)
        if count > 0:
            yield rows.panel(order[begin:end], first, count, columns, *dates, days, reading)


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
    ) -> ChunkRows | None:
        """The rows of the days from `first_day` to `last_day`, None where there is no such row.

        `columns` become arrays of `dtype`.
        """
        files = [rows for _, of_store in stores for rows in of_store]
        if not files:
            return None
        names = ("date", "sales", *columns.names)
        table = pa.concat_tables(rows.table.select(names) for rows in files).combine_chunks()
        first, last = (first_day - _EPOCH).days, (last_day - _EPOCH).days
        dates = _numpy(_column(table, "date").cast(pa.int32()), np.int64)
        inside = (dates >= first) & (dates <= last)
        all_inside = bool(inside.all())
        if not inside.any():
            return None

        def values(name: str) -> npt.NDArray[np.float64]:
            array = _floats(_column(table, name), name, columns)
            return array if all_inside else array[inside]

        adds: npt.NDArray[np.bool_] | None = _adding(files)
        delivered = None
        if adds is not None:
            delivered, adds = _delivered(files)[inside], adds[inside]
        owners = np.repeat(np.arange(len(stores)), [len(of_store) for _, of_store in stores])
        series, store_of, item_of = _series(files, owners, inside)
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

    def panel(
        self,
        rows: slice | Ints,
        first: int,
        count: int,
        columns: Columns,
        first_day: date,
        as_of: date,
        last_target: date,
        store_days: ChunkDays,
        reading: RowMeaning,
    ) -> Panel:
        n_days = (as_of - first_day).days + 1
        n_all = (last_target - first_day).days + 1
        cells = (self.series[rows] - first) * n_all + self.days[rows]
        dense = {}
        for name in columns.names:
            dense[name] = np.full(count * n_all, np.nan, dtype=np.float32)
            set_cells(dense[name], cells, self.columns[name][rows])
        sales = np.full(count * n_all, np.nan)
        if self.adds is None or self.delivered is None:
            set_cells(sales, cells, self.sales[rows])
        else:
            fold_cells(sales, cells, self.sales[rows], self.adds[rows], self.delivered[rows])
        past = np.ascontiguousarray(sales.reshape(count, n_all)[:, :n_days])
        whole = {name: values.reshape(count, n_all) for name, values in dense.items()}
        days_of_stores, stores = store_days.of_series(self.store_places[first : first + count])
        is_open = whole["open"][:, :n_days] if "open" in whole else None
        reading.apply(past, is_open, days_of_stores, stores, first_day)
        delivered = _last_known(past)
        without_stock = empty_shelves(past, whole.get(IN_STOCK))
        if is_open is not None:
            _fill_closed_days(past, is_open)
        return Panel(
            store_ids=self.store_ids[first : first + count],
            item_ids=self.item_ids[first : first + count],
            first_day=first_day,
            sales=past,
            known_ahead={name: whole[name] for name in columns.known_ahead},
            delivered=delivered,
            stores=StoreSold(days_of_stores.sold, stores),
            without_stock=without_stock,
        )


def _last_known(sales: Floats) -> Ints:
    """(n,): one more than the last column that is not NaN, 0 where there is none."""
    known = ~np.isnan(sales[:, ::-1])
    return np.where(known.any(axis=1), sales.shape[1] - known.argmax(axis=1), 0)


def _fill_closed_days(sales: Floats, is_open: Floats32) -> None:
    """Set the sales of days that were declared closed, and not delivered, to 0.

    This holds for closed days that follow a known day without a gap. After an unknown day it does
    not, since the data would seem newer than they are.
    """
    unknown = np.isnan(sales)
    closed = unknown & (is_open == 0)
    if not closed.any():
        return
    days = np.arange(1, sales.shape[1] + 1)
    known = np.maximum.accumulate(np.where(unknown, 0, days), axis=1)
    gap = np.maximum.accumulate(np.where(unknown & ~closed, days, 0), axis=1)
    sales[closed & (known > gap)] = 0.0


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


def _series(
    files: Sequence[FileRows], owners: Ints, inside: npt.NDArray[np.bool_]
) -> tuple[Ints, Ints, Texts]:
    """The series of each row that is inside; the store's place and the item id of each series.

    Series are numbered in the order of (store, item). `owners` are the places of the files' stores.
    """
    begins, items, stores = _runs(files, owners)
    counts = np.add.reduceat(inside, begins, dtype=np.int64)
    is_used = counts > 0
    codes = pa.array(items, pa.string()).filter(pa.array(is_used)).dictionary_encode()
    names = codes.dictionary
    order = pc.sort_indices(names)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order.to_numpy()] = np.arange(len(names))
    ranks = rank[_numpy(codes.indices, np.int64)]
    series_keys, series_of_run = np.unique(
        stores[is_used] * len(names) + ranks, return_inverse=True
    )
    ordered = np.array(names.take(order).to_pylist(), dtype=np.object_)
    series = np.repeat(series_of_run.astype(np.int64), counts[is_used])
    return series, series_keys // len(names), ordered[series_keys % len(names)]


def _runs(files: Sequence[FileRows], owners: Ints) -> tuple[Ints, list[str], Ints]:
    """Runs of rows of one item in a file: the place of the first row, the item and the store."""
    begins: list[Ints] = []
    items: list[str] = []
    place = 0
    for rows in files:
        if ITEM in rows.constant:
            begins.append(np.array([place]))
            items.append(rows.constant[ITEM])
        else:
            ids = _column(rows.table, ITEM)
            changed = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
            starts = np.concatenate([[0], np.flatnonzero(changed) + 1])
            begins.append(place + starts)
            items.extend(ids.take(pa.array(starts)).to_pylist())
        place += rows.table.num_rows
    return np.concatenate(begins), items, np.repeat(owners, [len(places) for places in begins])


def _adding(files: Sequence[FileRows]) -> npt.NDArray[np.bool_] | None:
    """Which rows have the operation `add`; None if no row has it."""
    if all(rows.constant.get(OP) == "set" for rows in files):
        return None
    flags = []
    for rows in files:
        if OP in rows.constant:
            flags.append(np.full(rows.table.num_rows, rows.constant[OP] == "add"))
        else:
            adds = pc.equal(_column(rows.table, OP), "add")
            flags.append(adds.to_numpy(zero_copy_only=False))
    adds_of_rows = np.concatenate(flags)
    return adds_of_rows if adds_of_rows.any() else None


def _delivered(files: Sequence[FileRows]) -> Ints:
    """When each row was delivered, in µs since 1970."""
    return np.concatenate(
        [
            np.full(rows.table.num_rows, rows.constant[DELIVERED], dtype=np.int64)
            if DELIVERED in rows.constant
            else _numpy(_column(rows.table, DELIVERED).cast(pa.int64()), np.int64)
            for rows in files
        ]
    )


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _numpy(array: pa.Array, dtype: type[np.int64]) -> Ints:
    values: Ints = array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return values


def _floats(array: pa.Array, name: str, columns: Columns) -> Floats:
    """Numbers as they are; texts as the place of their value among the categories, else NaN."""
    if pa.types.is_string(array.type):
        values = list((columns.categories or {}).get(name, ()))
        array = pc.index_in(array, value_set=pa.array(values, pa.string()))
    if array.null_count:
        array = pc.fill_null(array.cast(pa.float64()), float("nan"))
    floats: Floats = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return floats
