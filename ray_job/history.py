"""Histories: from the partitions of a chunk's stores to dense panels.

A stored row says what was delivered for a (item, date), when (`delivered_at`) and how (`op`). Rows
are folded in the order of their delivery: `set` replaces, column by column, where it is not null;
`add` adds to the sales and replaces the rest.
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
import pyarrow.parquet as pq

from ray_job.bucket.errors import CorruptError, InputError
from ray_job.bucket.storage import Storage
from ray_job.panel import Floats, Floats32, Panel, Texts
from ray_job.plan import ItemRange, RowGroup
from ray_job.ranged import RangedFile, fetch_row_groups, open_part

REQUIRED = ("item_id", "date", "sales", "delivered_at", "op")
_EPOCH = date(1970, 1, 1)
_BLOCK_CELLS = 8_000_000
"""Series × days of one panel: 64 MB of sales."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which further columns a panel gets, and the values that codes stand for in those of text."""

    known_ahead: tuple[str, ...] = ()
    observed: tuple[str, ...] = ()
    categories: Mapping[str, Sequence[str]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.known_ahead, *self.observed)


def row_groups(storage: Storage, key: str) -> list[RowGroup]:
    """The row groups of a file, from its footer.

    Raises CorruptError, NotFoundError or StorageError.
    """
    try:
        with pq.ParquetFile(open_part(storage, key)) as file:
            column = file.schema_arrow.get_field_index("item_id")
            groups = [file.metadata.row_group(k) for k in range(file.num_row_groups)]
            return [RowGroup(one.column(column).statistics.min, one.num_rows) for one in groups]
    except (pa.ArrowException, OSError, AttributeError) as error:
        raise CorruptError(f"{key}: the file cannot be read: {_first_line(error)}") from error


def read_store(
    storage: Storage, paths: Sequence[str], columns: Columns, items: ItemRange | None = None
) -> list[pa.Table]:
    """One store's rows, a table per file, in order of delivery: later rows win.

    Raises CorruptError for bytes that are not a partition, InputError where a column is missing
    or of another type than expected, NotFoundError where a file is gone.
    """
    tables = [_read_file(storage, path, columns, items) for path in paths]
    tables = [table for table in tables if table.num_rows]
    return tables if len(tables) < 2 else _in_order(tables)  # noqa: PLR2004 - one is in order


def panels(
    stores: Sequence[tuple[str, Sequence[pa.Table]]],
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
        stores: Sequence[tuple[str, Sequence[pa.Table]]],
        columns: Columns,
        first_day: date,
        last_day: date,
    ) -> _Rows | None:
        tables = [table for _, theirs in stores for table in theirs]
        if not tables:
            return None
        owners = np.repeat(
            np.arange(len(stores)), [sum(t.num_rows for t in theirs) for _, theirs in stores]
        )
        first, last = (first_day - _EPOCH).days, (last_day - _EPOCH).days
        dates = _numpy(_column(tables, "date").cast(pa.int32()), np.int64)
        inside = (dates >= first) & (dates <= last)
        everything = bool(inside.all())
        items = _column(tables, "item_id")
        if not everything:
            owners, dates = owners[inside], dates[inside]
            items = items.filter(pa.array(inside))
        if not len(owners):
            return None

        def values(name: str) -> npt.NDArray[np.float64]:
            array = _floats(_column(tables, name), name, columns)
            return array if everything else array[inside]

        adds: npt.NDArray[np.bool_] | None = _adding(_column(tables, "op"))
        delivered = None
        if adds is not None:
            stamps = _numpy(_column(tables, "delivered_at").cast(pa.int64()), np.int64)
            delivered, adds = stamps[inside], adds[inside]
        series, store_of, item_of = _series(owners, items)
        names = np.array([store_id for store_id, _ in stores], dtype=np.object_)
        return cls(
            store_ids=names[store_of],
            item_ids=item_of,
            series=series,
            days=dates - first,
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


def _series(owners: Ints, items: pa.Array) -> tuple[Ints, Ints, Texts]:
    """Each row's series, and of each series the store's index and the item id."""
    changed = pc.not_equal(items[1:], items[:-1]).to_numpy(zero_copy_only=False)
    changed |= owners[1:] != owners[:-1]
    begins = np.concatenate([[0], np.flatnonzero(changed) + 1])
    codes = items.take(pa.array(begins)).dictionary_encode()
    names = codes.dictionary
    rank = np.empty(len(names), dtype=np.int64)
    rank[pc.sort_indices(names).to_numpy()] = np.arange(len(names))
    ranks = rank[_numpy(codes.indices, np.int64)]
    found, of_run = np.unique(owners[begins] * len(names) + ranks, return_inverse=True)
    series = np.repeat(of_run, np.diff(np.append(begins, len(owners))))
    ordered = np.array(names.take(pc.sort_indices(names)).to_pylist(), dtype=np.object_)
    return series.astype(np.int64), found // len(names), ordered[found % len(names)]


def _column(tables: Sequence[pa.Table], name: str) -> pa.Array:
    return pa.chunked_array([piece for t in tables for piece in t[name].chunks]).combine_chunks()


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


def _adding(ops: pa.Array) -> npt.NDArray[np.bool_] | None:
    adds = pc.equal(ops, "add")
    return adds.to_numpy(zero_copy_only=False) if pc.any(adds).as_py() else None


def _in_order(tables: list[pa.Table]) -> list[pa.Table]:
    spans = [pc.min_max(table["delivered_at"].cast(pa.int64())).as_py() for table in tables]
    order = sorted(range(len(tables)), key=lambda k: (spans[k]["min"], spans[k]["max"]))
    apart = all(spans[a]["max"] <= spans[b]["min"] for a, b in itertools.pairwise(order))
    if apart:
        return [tables[k] for k in order]
    return [pa.concat_tables(tables[k] for k in order).sort_by("delivered_at")]


def _read_file(storage: Storage, key: str, columns: Columns, items: ItemRange | None) -> pa.Table:
    if items is None:
        return _decode(pa.BufferReader(storage.read(key)), key, columns, None)
    try:
        return _decode(open_part(storage, key), key, columns, items)
    except CorruptError:
        # A range has no checksum of the storage's: what was damaged on its way is right now.
        return _decode(open_part(storage, key), key, columns, items)


def _decode(
    source: pa.BufferReader | RangedFile, key: str, columns: Columns, items: ItemRange | None
) -> pa.Table:
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            there = set(file.schema_arrow.names)
            if missing := [name for name in REQUIRED if name not in there]:
                raise InputError(f"{key}: the column {missing[0]!r} is missing")
            wanted = [*REQUIRED, *(name for name in columns.names if name in there)]
            groups = list(range(file.num_row_groups))
            if items is not None:
                groups = _overlapping(file, items)
                fetch_row_groups(source, file, groups)
            table = file.read_row_groups(groups, columns=wanted, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CorruptError(f"{key}: the file cannot be read: {_first_line(error)}") from error
    _check_types(table, key)
    if items is not None:
        table = table.filter(_within(table["item_id"], items))
    for name in columns.names:
        if name not in there:
            is_text = name in (columns.categories or {})
            nulls = pa.nulls(table.num_rows, pa.string() if is_text else pa.float64())
            table = table.append_column(name, nulls)
    return table


def _check_types(table: pa.Table, key: str) -> None:
    numbers = (pa.types.is_floating, pa.types.is_integer)
    for name, expected in (("item_id", pa.types.is_string), ("date", pa.types.is_date32)):
        if not expected(table.schema.field(name).type):
            raise InputError(f"{key}: column {name!r} is of type {table.schema.field(name).type}")
    kind = table.schema.field("sales").type
    if not any(is_number(kind) for is_number in numbers):
        raise InputError(f"{key}: column 'sales' is of type {kind}")


def _overlapping(file: pq.ParquetFile, items: ItemRange) -> list[int]:
    column = file.schema_arrow.get_field_index("item_id")
    wanted = []
    for k in range(file.num_row_groups):
        found = file.metadata.row_group(k).column(column).statistics
        before = items.end is not None and found.min >= items.end
        after = items.first is not None and found.max < items.first
        if not before and not after:
            wanted.append(k)
    return wanted


def _within(ids: pa.ChunkedArray, items: ItemRange) -> pa.ChunkedArray:
    inside = pa.chunked_array([pa.array(np.ones(len(ids), dtype=np.bool_))])
    if items.first is not None:
        inside = pc.and_(inside, pc.greater_equal(ids, items.first))
    if items.end is not None:
        inside = pc.and_(inside, pc.less(ids, items.end))
    return inside


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
