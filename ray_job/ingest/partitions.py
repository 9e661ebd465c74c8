"""Sorted rows → Parquet objects, one for each store, written where nobody reads yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.storage import Storage
from ray_job.data.delta import STORE, DataFile, parquet_writer, partition_key
from ray_job.data.parquet import conform
from ray_job.data.partition import Constants
from ray_job.data.requests import map_in_order
from ray_job.progress import Stage

_MEMORY_ROWS = 1_000_000
"""A store with more rows than this is written through a file, so that memory stays bounded."""
_DAY_ZERO = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of one store, without the store's column; days since 1970."""

    store_id: str
    rows: pa.RecordBatch
    first_day: int
    last_day: int


def cut_by_store(batches: Iterable[pa.RecordBatch]) -> Iterator[Piece]:
    """Rows sorted by store, cut where the store changes or a batch ends."""
    for batch in batches:
        if batch.num_rows == 0:
            continue
        place = batch.schema.get_field_index(STORE)
        stores = batch.column(place)
        rows = batch.remove_column(place)
        starts = _starts(stores)
        days = np.from_dlpack(batch.column("date").cast(pa.int32()))
        first = np.minimum.reduceat(days, starts).tolist()
        last = np.maximum.reduceat(days, starts).tolist()
        names = stores.take(_arrow(starts)).to_pylist()
        bounds = [*starts.tolist(), batch.num_rows]
        for number, store_id in enumerate(names):
            start = bounds[number]
            yield Piece(
                store_id,
                rows.slice(start, bounds[number + 1] - start),
                first[number],
                last[number],
            )


def _starts(stores: pa.Array) -> npt.NDArray[np.int64]:
    """Where a run of equal values begins. (`Array.to_numpy` would import pandas.)"""
    changes = pc.not_equal(stores.slice(1), stores.slice(0, len(stores) - 1))
    places = np.from_dlpack(pc.indices_nonzero(changes)).astype(np.int64)
    return np.concatenate((np.zeros(1, np.int64), places + 1))


def _arrow(places: npt.NDArray[np.int64]) -> pa.Array:
    """Without `pa.array`, whose first call imports pandas."""
    return pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places)])


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file, and what sends it to the bucket."""

    file: DataFile
    send: Callable[[], None]


@dataclass(frozen=True, slots=True)
class PartitionWriter:
    """Writes a store's rows as `store_id=<id>/<name>.parquet` in the histories.

    `stored` are a file's columns; `folder` takes the files of stores too big for memory.
    """

    storage: Storage
    stored: pa.Schema
    row_group_rows: int
    folder: Path

    def write(
        self, batches: Iterable[pa.RecordBatch], file_name: str, stage: Stage
    ) -> list[DataFile]:
        """Write all stores of a sorted stream; what comes back is what a commit adds."""
        stores = groupby(cut_by_store(batches), key=lambda piece: piece.store_id)
        return self.send((self.encode(store, rows, file_name) for store, rows in stores), stage)

    def send(self, encoded: Iterable[Encoded], stage: Stage) -> list[DataFile]:
        """Send each file; where the storage is far away a few at once, and never more in memory."""
        written: list[DataFile] = []
        rows = 0

        def one(file: Encoded) -> DataFile:
            file.send()
            return file.file

        for file in map_in_order(self.storage, one, encoded):
            written.append(file)
            rows += file.rows
            stage.advance(rows=rows)
        return written

    def encode(self, store_id: str, pieces: Iterable[Piece], file_name: str) -> Encoded:
        """A store's file, encoded, and what sends it to the bucket."""
        path = f"{STORE}={store_id}/{file_name}.parquet"
        held: list[Piece] = []
        remaining = iter(pieces)
        rows = 0
        for piece in remaining:
            held.append(piece)
            rows += piece.rows.num_rows
            if rows > _MEMORY_ROWS:
                return self._big_store(path, store_id, held, remaining)
        sink = pa.BufferOutputStream()
        with parquet_writer(sink, self.stored) as writer:
            writer.write_table(_table(held, self.stored), row_group_size=self.row_group_rows)
            span = _Span()
            for piece in held:
                span.add(piece)
            writer.add_key_value_metadata(span.constants.footer())
        data = sink.getvalue().to_pybytes()
        key = partition_key(path)
        file = span.file(path, store_id, len(data))
        return Encoded(file, lambda: self.storage.write_unseen(key, data))

    def _big_store(
        self,
        path: str,
        store_id: str,
        held: list[Piece],
        remaining: Iterator[Piece],
    ) -> Encoded:
        local = self.folder / f"{store_id}.parquet"
        span = _Span()
        with parquet_writer(local, self.stored) as writer:
            while held:
                for piece in held:
                    span.add(piece)
                writer.write_table(_table(held, self.stored), row_group_size=self.row_group_rows)
                held = _next_pieces(remaining, self.row_group_rows * 8)
            writer.add_key_value_metadata(span.constants.footer())

        def send() -> None:
            self.storage.upload(local, partition_key(path))
            local.unlink()

        return Encoded(span.file(path, store_id, local.stat().st_size), send)


@dataclass(slots=True)
class _Span:
    rows: int = 0
    first_day: int = 2**31
    last_day: int = -(2**31)
    first_item: str = ""
    last_item: str = ""
    constants: Constants = field(default_factory=Constants)

    def add(self, piece: Piece) -> None:
        items = piece.rows.column("item_id")
        if self.rows == 0:
            self.first_item = items[0].as_py()
        self.last_item = items[-1].as_py()
        self.constants.add(piece.rows)
        self.rows += piece.rows.num_rows
        self.first_day = min(self.first_day, piece.first_day)
        self.last_day = max(self.last_day, piece.last_day)

    def file(self, path: str, store_id: str, size: int) -> DataFile:
        return DataFile(
            path,
            store_id,
            size,
            self.rows,
            _DAY_ZERO + timedelta(days=self.first_day),
            _DAY_ZERO + timedelta(days=self.last_day),
            self.first_item,
            self.last_item,
        )


def _table(pieces: list[Piece], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches([conform(piece.rows, schema) for piece in pieces], schema)


def _next_pieces(pieces: Iterator[Piece], rows: int) -> list[Piece]:
    taken: list[Piece] = []
    while rows > 0 and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        rows -= piece.rows.num_rows
    return taken
