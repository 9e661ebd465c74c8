"""Sorted rows → Parquet objects, one for each store, written where nobody reads yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_job.bucket.storage import Storage
from ray_job.ingest.files import CONNECTIONS, is_local
from ray_job.progress import Stage
from ray_job.tables import STORE, DataFile, partition_key

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
        days = batch.column("date").cast(pa.int32()).to_numpy(zero_copy_only=False)
        first = np.minimum.reduceat(days, starts).tolist()
        last = np.maximum.reduceat(days, starts).tolist()
        names = stores.take(pa.array(starts)).to_pylist()
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
    """Where a run of equal values begins."""
    changes = pc.not_equal(stores.slice(1), stores.slice(0, len(stores) - 1))
    return np.concatenate(([0], np.flatnonzero(changes.to_numpy(zero_copy_only=False)) + 1))


@dataclass(frozen=True, slots=True)
class PartitionWriter:
    """Writes a store's rows as `store_id=<id>/<name>.parquet` in the histories.

    `folder` takes the files of stores that are too big for memory. `schema` is the table's.
    """

    storage: Storage
    schema: pa.Schema
    row_group_rows: int
    folder: Path

    def write(
        self, batches: Iterable[pa.RecordBatch], file_name: str, stage: Stage
    ) -> list[DataFile]:
        """Write all stores of a sorted stream; what comes back is what a commit adds."""
        stored = pa.schema([one for one in self.schema if one.name != STORE])
        written: list[DataFile] = []
        rows = 0
        stores = groupby(cut_by_store(batches), key=lambda piece: piece.store_id)
        work = (self._store(stored, store, pieces, file_name) for store, pieces in stores)
        for file in _sent(self.storage, work):
            written.append(file)
            rows += file.rows
            stage.advance(rows=rows)
        return written

    def _store(
        self, schema: pa.Schema, store_id: str, pieces: Iterable[Piece], file_name: str
    ) -> tuple[DataFile, Callable[[], None]]:
        """A store's file, encoded, and what sends it to the bucket."""
        path = f"{STORE}={store_id}/{file_name}.parquet"
        held: list[Piece] = []
        remaining = iter(pieces)
        rows = 0
        for piece in remaining:
            held.append(piece)
            rows += piece.rows.num_rows
            if rows > _MEMORY_ROWS:
                return self._big_store(schema, path, store_id, held, remaining)
        sink = pa.BufferOutputStream()
        with self.writer(sink, schema) as writer:
            writer.write_table(_table(held, schema), row_group_size=self.row_group_rows)
        data = sink.getvalue()
        span = _Span()
        for piece in held:
            span.add(piece)
        key = partition_key(path)
        file = span.file(path, store_id, data.size)
        return file, lambda: self.storage.write_unseen(key, data)

    def _big_store(
        self,
        schema: pa.Schema,
        path: str,
        store_id: str,
        held: list[Piece],
        remaining: Iterator[Piece],
    ) -> tuple[DataFile, Callable[[], None]]:
        local = self.folder / f"{store_id}.parquet"
        span = _Span()
        with self.writer(local, schema) as writer:
            while held:
                for piece in held:
                    span.add(piece)
                writer.write_table(_table(held, schema), row_group_size=self.row_group_rows)
                held = _next_pieces(remaining, self.row_group_rows * 8)

        def send() -> None:
            self.storage.upload(local, partition_key(path))
            local.unlink()

        return span.file(path, store_id, local.stat().st_size), send

    def writer(self, sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
        """lz4 and no dictionary: small objects read twice as fast. Statistics serve planning."""
        return pq.ParquetWriter(
            sink,
            schema,
            compression="lz4",
            use_dictionary=False,
            write_page_checksum=True,
            write_statistics=["item_id", "date"],
            store_schema=False,
        )


@dataclass(slots=True)
class _Span:
    rows: int = 0
    first_day: int = 2**31
    last_day: int = -(2**31)
    first_item: str = ""
    last_item: str = ""

    def add(self, piece: Piece) -> None:
        items = piece.rows.column("item_id")
        if self.rows == 0:
            self.first_item = items[0].as_py()
        self.last_item = items[-1].as_py()
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
    table = pa.Table.from_batches([piece.rows for piece in pieces])
    return table if table.schema.equals(schema) else table.cast(schema)


def _next_pieces(pieces: Iterator[Piece], rows: int) -> list[Piece]:
    taken: list[Piece] = []
    while rows > 0 and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        rows -= piece.rows.num_rows
    return taken


def _sent(
    storage: Storage, work: Iterable[tuple[DataFile, Callable[[], None]]]
) -> Iterator[DataFile]:
    """Send each file; where the storage is far away a few at once, and never more in memory."""
    if is_local(storage):
        for file, send in work:
            send()
            yield file
        return
    waiting: deque[tuple[DataFile, Future[None]]] = deque()
    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="partitions") as pool:
        for file, send in work:
            waiting.append((file, pool.submit(send)))
            if len(waiting) > CONNECTIONS:
                sent, future = waiting.popleft()
                future.result()
                yield sent
        for sent, future in waiting:
            future.result()
            yield sent
