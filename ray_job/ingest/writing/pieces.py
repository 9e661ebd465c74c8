"""Pieces: consecutive rows of one store, cut from a stream that is sorted by store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.delta import STORE


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of a store, without the column of the store. Days are counted since 1970."""

    store_id: str
    rows: pa.RecordBatch
    first_day: int
    last_day: int


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
        for number, store_id in enumerate(store_ids):
            start = bounds[number]
            yield Piece(
                store_id,
                rows.slice(start, bounds[number + 1] - start),
                first_days[number],
                last_days[number],
            )


def _run_starts(stores: pa.Array) -> npt.NDArray[np.int64]:
    """The indices at which runs of equal values begin. (`Array.to_numpy` would import pandas.)"""
    changes = pc.not_equal(stores.slice(1), stores.slice(0, len(stores) - 1))
    indices = np.from_dlpack(pc.indices_nonzero(changes)).astype(np.int64)
    return np.concatenate((np.zeros(1, np.int64), indices + 1))


def _arrow_integers(values: npt.NDArray[np.int64]) -> pa.Array:
    """The values as an Arrow array. (The first call of `pa.array` would import pandas.)"""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])
