"""Pieces: consecutive rows of one store, cut from a stream that is sorted by store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.delta import STORE
from ray_job.data.partition import ROW_COLUMNS


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of a store, without the column of the store. Days are counted since 1970.

    `varying` are those of ROW_COLUMNS that have several values, None if that is not known.
    """

    store_id: str
    rows: pa.RecordBatch
    first_day: int
    last_day: int
    varying: frozenset[str] | None = None


def cut_by_store(batches: Iterable[pa.RecordBatch]) -> Iterator[Piece]:
    """Cut batches, whose rows are sorted by store, at each change of the store."""
    for batch in batches:
        if batch.num_rows == 0:
            continue
        store_column = batch.schema.get_field_index(STORE)
        stores = batch.column(store_column)
        rows = batch.remove_column(store_column)
        starts = _run_starts(stores)
        days = np.from_dlpack(batch.column("date").cast(pa.int32()))
        first_days = np.minimum.reduceat(days, starts).tolist()
        last_days = np.maximum.reduceat(days, starts).tolist()
        store_ids = stores.take(_arrow_integers(starts)).to_pylist()
        bounds = [*starts.tolist(), batch.num_rows]
        varying = _varying(rows, bounds)
        for number, store_id in enumerate(store_ids):
            start = bounds[number]
            yield Piece(
                store_id,
                rows.slice(start, bounds[number + 1] - start),
                first_days[number],
                last_days[number],
                None if varying is None else varying[number],
            )


def _varying(rows: pa.RecordBatch, bounds: list[int]) -> list[frozenset[str]] | None:
    """`Piece.varying` of all pieces at once, None if a column has nulls."""
    starts, ends = np.array(bounds[:-1]), np.array(bounds[1:])
    names: list[list[str]] = [[] for _ in starts]
    for name in ROW_COLUMNS:
        column = rows.column(name)
        if column.null_count:
            return None
        changes = pc.not_equal(column.slice(1), column.slice(0, len(column) - 1))
        places = np.from_dlpack(pc.indices_nonzero(changes))  # a change to the row after it
        inside = np.searchsorted(places, ends - 1) > np.searchsorted(places, starts)
        for number in np.flatnonzero(inside).tolist():
            names[number].append(name)
    return [frozenset(each) for each in names]


def _run_starts(stores: pa.Array) -> npt.NDArray[np.int64]:
    """The indices at which runs of equal values begin. (`Array.to_numpy` would import pandas.)"""
    changes = pc.not_equal(stores.slice(1), stores.slice(0, len(stores) - 1))
    indices = np.from_dlpack(pc.indices_nonzero(changes)).astype(np.int64)
    return np.concatenate((np.zeros(1, np.int64), indices + 1))


def _arrow_integers(values: npt.NDArray[np.int64]) -> pa.Array:
    """The values as an Arrow array. (The first call of `pa.array` would import pandas.)"""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])
