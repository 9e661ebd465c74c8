"""From the rows of a chunk's stores to dense panels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import numpy as np
import numpy.typing as npt

from ray_job.data.packs.chunk_rows import (
    OTHER_TEXT,
    ChunkRows,
    fold_cells,
    set_cells,
    store_places,
)
from ray_job.data.packs.packed_rows import PackedRows
from ray_job.data.panel import Floats, Floats32, Panel, StoreSold
from ray_job.data.partition import IN_STOCK, Columns, FileRows
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
    packed: PackedRows | None = None,
) -> Iterator[Panel]:
    """Yield dense panels of the stores' series, sorted by (store, item), each of bounded size.

    `stores` is sorted. A panel holds no sales after the as-of. A series without a row between
    `first_day` and `last_target` is in no panel. `store_days` has the days of each store where
    `stores` holds only some of its items; None: it holds all of them. `packed` has rows of some of
    the stores, which were delivered before those of their files.
    """
    rows = ChunkRows.of(stores, columns, first_day, last_target, packed=packed)
    if rows is None:
        return
    n_days = (as_of - first_day).days + 1
    if store_days is None:
        owners = rows.store_places[rows.series]
        days = ChunkDays.of_rows(owners, rows.days, rows.sales, len(stores), n_days)
        if packed is not None:
            days.add_sold(*_sold_days(stores, packed, first_day))
    else:
        days = ChunkDays.of_stores([store_days[store] for store, _ in stores], first_day, n_days)
    dates = (first_day, as_of, last_target)
    per_block = max(1, _BLOCK_CELLS // n_days)
    n_series = len(rows.store_ids)
    if n_series <= per_block:
        yield _panel(rows, slice(None), 0, n_series, columns, *dates, days, reading)
        return
    order = np.argsort(rows.series, kind="stable")
    edges = np.searchsorted(rows.series[order], np.arange(0, n_series + per_block, per_block))
    for block, (begin, end) in enumerate(itertools.pairwise(edges)):
        first = block * per_block
        count = min(per_block, n_series - first)
        if count > 0:
            yield _panel(rows, order[begin:end], first, count, columns, *dates, days, reading)


def _panel(
    chunk: ChunkRows,
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
    cells = (chunk.series[rows] - first) * n_all + chunk.days[rows]
    dense = {}
    for name in columns.names:
        dense[name] = np.full(count * n_all, np.nan, dtype=np.float32)
        set_cells(dense[name], cells, chunk.columns[name][rows])
        if name in (columns.categories or {}):
            dense[name][dense[name] == OTHER_TEXT] = np.nan
    sales = np.full(count * n_all, np.nan)
    if chunk.adds is None or chunk.delivered is None:
        set_cells(sales, cells, chunk.sales[rows])
    else:
        fold_cells(sales, cells, chunk.sales[rows], chunk.adds[rows], chunk.delivered[rows])
    past = np.ascontiguousarray(sales.reshape(count, n_all)[:, :n_days])
    whole = {name: values.reshape(count, n_all) for name, values in dense.items()}
    days_of_stores, stores = store_days.of_series(chunk.store_places[first : first + count])
    is_open = whole["open"][:, :n_days] if "open" in whole else None
    reading.apply(past, is_open, days_of_stores, stores, first_day)
    delivered = _last_known(past)
    without_stock = empty_shelves(past, whole.get(IN_STOCK))
    if is_open is not None:
        _fill_closed_days(past, is_open)
    return Panel(
        store_ids=chunk.store_ids[first : first + count],
        item_ids=chunk.item_ids[first : first + count],
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


def _sold_days(
    stores: Sequence[tuple[str, object]], packed: PackedRows, first_day: date
) -> tuple[Ints, Ints]:
    """The place of the store and the column of each of the packed `sold_days`."""
    columns = packed.sold_days - (first_day - _EPOCH).days
    return store_places(stores, packed)[packed.sold_entries], columns
