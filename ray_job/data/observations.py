"""Observations: the delivered rows of stores, folded to one row for each (store, item, date).

The fold is that of panels: `set` replaces, column by column, where it is not null; `add` adds to
the sales and replaces the other columns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.history_block import StoreHistory
from ray_job.data.packs.chunk_rows import ChunkRows, fold_cells, set_cells
from ray_job.data.packs.packed_rows import PackedRows
from ray_job.data.partition import Columns

_EPOCH = date(1970, 1, 1)


def observation_schema(columns: Sequence[str], texts: Collection[str]) -> pa.Schema:
    """store_id, item_id, date, sales, and the further columns, which are numbers or text."""
    return pa.schema(
        [
            ("store_id", pa.string()),
            ("item_id", pa.string()),
            ("date", pa.date32()),
            ("sales", pa.float64()),
            *((name, pa.string() if name in texts else pa.float64()) for name in columns),
        ]
    )


def observations(
    stores: Sequence[StoreHistory],
    columns: Sequence[str],
    texts: Collection[str],
    first_day: date,
    last_day: date,
    packed: PackedRows | None = None,
) -> pa.Table:
    """The observations from `first_day` to `last_day` (see `observation_schema`).

    `packed` has rows of some of the stores, which were delivered before those of their files.

    Rows are sorted by store, item and date. `stores` is sorted; `texts` are those of `columns` that
    hold text. A value that was never delivered is null: a row without sales has other columns, for
    example those that are known ahead.
    """
    schema = observation_schema(columns, texts)
    categories = {name: _values(stores, name, packed) for name in columns if name in texts}
    rows = ChunkRows.of(
        stores,
        Columns(tuple(columns), categories),
        first_day,
        last_day,
        dtype=np.float64,
        packed=packed,
    )
    if rows is None:
        return schema.empty_table()
    days = (last_day - first_day).days + 1
    keys, cells = np.unique(rows.series * days + rows.days, return_inverse=True)
    series, day = np.divmod(keys, days)
    sales = np.full(len(keys), np.nan)
    if rows.adds is None or rows.delivered is None:
        set_cells(sales, cells, rows.sales)
    else:
        fold_cells(sales, cells, rows.sales, rows.adds, rows.delivered)
    arrays = [
        pa.array(rows.store_ids[series], pa.string()),
        pa.array(rows.item_ids[series], pa.string()),
        pa.array((day + (first_day - _EPOCH).days).astype(np.int32)).cast(pa.date32()),
        _nullable(sales),
    ]
    for name in columns:
        values = np.full(len(keys), np.nan)
        set_cells(values, cells, rows.columns[name])
        arrays.append(_texts(values, categories[name]) if name in texts else _nullable(values))
    return pa.table(arrays, schema=schema)


def _values(stores: Sequence[StoreHistory], name: str, packed: PackedRows | None) -> list[str]:
    columns = [rows.table[name] for _, files in stores for rows in files]
    if packed is not None:
        columns.append(packed.table[name])
    if not columns:
        return []
    chunks = [chunk.cast(pa.string()) for column in columns for chunk in column.chunks]
    values: list[str] = pc.unique(pa.chunked_array(chunks, pa.string()).drop_null()).to_pylist()
    return values


def _nullable(values: npt.NDArray[np.float64]) -> pa.Array:
    return pa.array(values, pa.float64(), mask=np.isnan(values))


def _texts(codes: npt.NDArray[np.float64], values: Sequence[str]) -> pa.Array:
    places = pa.array(np.nan_to_num(codes).astype(np.int64), mask=np.isnan(codes))
    return pa.array(values, pa.string()).take(places)
