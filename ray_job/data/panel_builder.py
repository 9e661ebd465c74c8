"""Histories: from the rows of a chunk's stores to dense panels.

Rows are folded in the order of their delivery: `set` replaces, column by column, where it is not
null; `add` adds to the sales and replaces the rest.
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

from ray_job.data.panel import Floats, Floats32, Panel, Texts
from ray_job.data.partition import DELIVERED, ITEM, OP, Columns, Rows

_EPOCH = date(1970, 1, 1)
_BLOCK_CELLS = 8_000_000
"""Series × days of one panel: 64 MB of sales."""

Ints = npt.NDArray[np.int64]


def panels(
    stores: Sequence[tuple[str, Sequence[Rows]]],
    columns: Columns,
    first_day: date,
    as_of: date,
    last_target: date,
) -> Iterator[Panel]:
    """Dense panels of the stores' series, sorted by (store, item), each of bounded size.

    Sales after the as-of are not in them. Series without a row between `first_day` and
    `last_target` have no place. `stores` comes sorted.
    """
    rows = _Rows.of(stores, columns, first_day, last_target)
    if rows is None:
        return
    n_days = (as_of - first_day).days + 1
    per_block = max(1, _BLOCK_CELLS // n_days)
    n_series = len(rows.store_ids)
    if n_series <= per_block:
        yield rows.panel(slice(None), 0, n_series, columns, first_day, as_of, last_target)
        return
    order = np.argsort(rows.series, kind="stable")
    edges = np.searchsorted(rows.series[order], np.arange(0, n_series + per_block, per_block))
    for block, (begin, end) in enumerate(itertools.pairwise(edges)):
        first = block * per_block
        count = min(per_block, n_series - first)
        if count > 0:
            yield rows.panel(order[begin:end], first, count, columns, first_day, as_of, last_target)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a chunk, flat: each has the index of its series and of its day."""

    store_ids: Texts
    item_ids: Texts
    series: Ints
    days: Ints
    sales: Floats
    columns: Mapping[str, Floats32]
    adds: npt.NDArray[np.bool_] | None
    delivered: Ints | None
    """Only where rows add: when each was delivered, in µs."""

    @classmethod
    def of(
        cls,
        stores: Sequence[tuple[str, Sequence[Rows]]],
        columns: Columns,
        first_day: date,
        last_day: date,
    ) -> _Rows | None:
        files = [rows for _, theirs in stores for rows in theirs]
        if not files:
            return None
        names = ("date", "sales", *columns.names)
        table = pa.concat_tables(rows.table.select(names) for rows in files).combine_chunks()
        first, last = (first_day - _EPOCH).days, (last_day - _EPOCH).days
        dates = _numpy(_column(table, "date").cast(pa.int32()), np.int64)
        inside = (dates >= first) & (dates <= last)
        everything = bool(inside.all())
        if not inside.any():
            return None

        def values(name: str) -> npt.NDArray[np.float64]:
            array = _floats(_column(table, name), name, columns)
            return array if everything else array[inside]

        adds: npt.NDArray[np.bool_] | None = _adding(files)
        delivered = None
        if adds is not None:
            delivered, adds = _delivered(files)[inside], adds[inside]
        owners = np.repeat(np.arange(len(stores)), [len(theirs) for _, theirs in stores])
        series, store_of, item_of = _series(files, owners, inside)
        store_ids = np.array([store_id for store_id, _ in stores], dtype=np.object_)
        return cls(
            store_ids=store_ids[store_of],
            item_ids=item_of,
            series=series,
            days=(dates if everything else dates[inside]) - first,
            sales=values("sales"),
            columns={name: values(name).astype(np.float32) for name in columns.names},
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
    ) -> Panel:
        n_days = (as_of - first_day).days + 1
        n_all = (last_target - first_day).days + 1
        cells = (self.series[rows] - first) * n_all + self.days[rows]
        dense = {}
        for name in columns.names:
            dense[name] = np.full(count * n_all, np.nan, dtype=np.float32)
            _set(dense[name], cells, self.columns[name][rows])
        sales = np.full(count * n_all, np.nan)
        if self.adds is None or self.delivered is None:
            _set(sales, cells, self.sales[rows])
        else:
            _fold(sales, cells, self.sales[rows], self.adds[rows], self.delivered[rows])
        past = np.ascontiguousarray(sales.reshape(count, n_all)[:, :n_days])
        whole = {name: values.reshape(count, n_all) for name, values in dense.items()}
        delivered = _last_known(past)
        if "open" in whole:
            _close(past, whole["open"][:, :n_days])
        return Panel(
            store_ids=self.store_ids[first : first + count],
            item_ids=self.item_ids[first : first + count],
            first_day=first_day,
            sales=past,
            known_ahead={name: whole[name] for name in columns.known_ahead},
            observed={
                name: np.ascontiguousarray(whole[name][:, :n_days]) for name in columns.observed
            },
            delivered=delivered,
        )


def _last_known(sales: Floats) -> Ints:
    """(n,): one more than the last column that is not NaN, 0 where there is none."""
    known = ~np.isnan(sales[:, ::-1])
    return np.where(known.any(axis=1), sales.shape[1] - known.argmax(axis=1), 0)


def _close(sales: Floats, opened: Floats32) -> None:
    """Days that were declared closed are known without a delivery, from the last known day on: 0.

    After a day of which nothing is known they are not, lest the data look newer than they are.
    """
    unknown = np.isnan(sales)
    closed = unknown & (opened == 0)
    if not closed.any():
        return
    days = np.arange(1, sales.shape[1] + 1)
    known = np.maximum.accumulate(np.where(unknown, 0, days), axis=1)
    gap = np.maximum.accumulate(np.where(unknown & ~closed, days, 0), axis=1)
    sales[closed & (known > gap)] = 0.0


def _set(dense: npt.NDArray[np.floating], cells: Ints, values: npt.NDArray[np.floating]) -> None:
    """Of values for the same cell the last that is not NaN counts."""
    known = ~np.isnan(values)
    if known.all():
        dense[cells] = values
    else:
        dense[cells[known]] = values[known]


def _fold(
    dense: Floats, cells: Ints, values: Floats, adds: npt.NDArray[np.bool_], delivered: Ints
) -> None:
    """Deliveries one after the other; within one, a cell comes at most once."""
    known = np.flatnonzero(~np.isnan(values))
    known = known[np.argsort(delivered[known], kind="stable")]
    edges = np.flatnonzero(np.diff(delivered[known])) + 1
    for rows in np.split(known, edges):
        setting, adding = rows[~adds[rows]], rows[adds[rows]]
        dense[cells[setting]] = values[setting]
        there = dense[cells[adding]]
        dense[cells[adding]] = np.where(np.isnan(there), 0.0, there) + values[adding]


def _series(
    files: Sequence[Rows], owners: Ints, inside: npt.NDArray[np.bool_]
) -> tuple[Ints, Ints, Texts]:
    """Of each row inside its series; of each series the place of its store and its item id.

    Series are numbered in the order of (store, item). `owners` are the places of the files' stores.
    """
    begins, items, whose = _runs(files, owners)
    counts = np.add.reduceat(inside, begins, dtype=np.int64)
    some = counts > 0
    codes = pa.array(items, pa.string()).filter(pa.array(some)).dictionary_encode()
    names = codes.dictionary
    order = pc.sort_indices(names)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order.to_numpy()] = np.arange(len(names))
    ranks = rank[_numpy(codes.indices, np.int64)]
    found, of_run = np.unique(whose[some] * len(names) + ranks, return_inverse=True)
    ordered = np.array(names.take(order).to_pylist(), dtype=np.object_)
    series = np.repeat(of_run.astype(np.int64), counts[some])
    return series, found // len(names), ordered[found % len(names)]


def _runs(files: Sequence[Rows], owners: Ints) -> tuple[Ints, list[str], Ints]:
    """Rows of one item that follow each other in a file: the first's place, item and store."""
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
    return np.concatenate(begins), items, np.repeat(owners, [len(one) for one in begins])


def _adding(files: Sequence[Rows]) -> npt.NDArray[np.bool_] | None:
    """Which rows add; None where none does."""
    if all(rows.constant.get(OP) == "set" for rows in files):
        return None
    flags = []
    for rows in files:
        if OP in rows.constant:
            flags.append(np.full(rows.table.num_rows, rows.constant[OP] == "add"))
        else:
            adds = pc.equal(_column(rows.table, OP), "add")
            flags.append(adds.to_numpy(zero_copy_only=False))
    found = np.concatenate(flags)
    return found if found.any() else None


def _delivered(files: Sequence[Rows]) -> Ints:
    """When each row was delivered, in µs."""
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
    """Numbers as they are, texts as the place of their value among the categories."""
    if pa.types.is_string(array.type):
        values = list((columns.categories or {}).get(name, ()))
        array = pc.index_in(array, value_set=pa.array(values, pa.string()))
    if array.null_count:
        array = pc.fill_null(array.cast(pa.float64()), float("nan"))
    floats: Floats = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return floats
