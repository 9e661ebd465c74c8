"""Writing sorted rows as Parquet objects, one per store. Only a later commit makes them visible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.bucket.storage import Storage
from ray_job.data.delta import STORE, DataFile, parquet_writer, partition_key
from ray_job.data.packs.folding import PackedFile, PackSource
from ray_job.data.packs.writing import PackWriter
from ray_job.data.parquet import conform
from ray_job.data.partition import Constants
from ray_job.data.requests import map_in_order
from ray_job.ingest.writing.pieces import Piece, cut_by_store
from ray_job.progress import Stage

_MEMORY_ROWS = 1_000_000
"""A store with more rows is written to a local file first, so that memory stays bounded."""
_BATCH_ROWS = 65_536
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A file of a store. `send` writes it into the bucket."""

    file: DataFile
    send: Callable[[], None]


@dataclass(frozen=True, slots=True)
class PartitionWriter:
    """Writes rows of stores as `store_id=<id>/<file name>.parquet` below the histories.

    `stored` is the schema of the files, without the column of the store. `folder` is a local
    directory for the files of stores that are too large for memory.
    """

    storage: Storage
    stored: pa.Schema
    row_group_rows: int
    folder: Path
    packs: PackWriter | None = None
    """Gets what is written."""

    def write(
        self, batches: Iterable[pa.RecordBatch], file_name: str, stage: Stage
    ) -> list[DataFile]:
        """Write one file for each store of a stream that is sorted by store.

        Returns the files that a commit has to add.
        """
        stores = groupby(cut_by_store(batches), key=lambda piece: piece.store_id)
        return self.send((self.encode(store, pieces, file_name) for store, pieces in stores), stage)

    def send(self, encoded_files: Iterable[EncodedFile], stage: Stage) -> list[DataFile]:
        """Write all files into the bucket. Only those that are being sent are in memory."""
        written: list[DataFile] = []
        rows = 0

        def send_file(encoded: EncodedFile) -> DataFile:
            encoded.send()
            return encoded.file

        for file in map_in_order(self.storage, send_file, encoded_files):
            written.append(file)
            rows += file.rows
            stage.advance(rows=rows)
        return written

    def encode(self, store_id: str, pieces: Iterable[Piece], file_name: str) -> EncodedFile:
        """Encode one file with all pieces of a store."""
        path = f"{STORE}={store_id}/{file_name}.parquet"
        held: list[Piece] = []
        remaining = iter(pieces)
        rows = 0
        for piece in remaining:
            held.append(piece)
            rows += piece.rows.num_rows
            if rows > _MEMORY_ROWS:
                return self._encode_large_store(path, store_id, held, remaining)
        sink = pa.BufferOutputStream()
        with parquet_writer(sink, self.stored) as writer:
            table = _table(held, self.stored)
            writer.write_table(table, row_group_size=self.row_group_rows)
            summary = _FileSummary()
            for piece in held:
                summary.add(piece)
            writer.add_key_value_metadata(summary.constants.footer())
        content = sink.getvalue().to_pybytes()
        key = partition_key(path)
        file = summary.data_file(path, store_id, len(content))
        if self.packs is not None:
            days = (summary.first_day, summary.last_day)
            self.packs.add(PackSource(store_id, [PackedFile(key, len(content), *days)], table))
        return EncodedFile(file, lambda: self.storage.write_unseen(key, content))

    def _encode_large_store(
        self,
        path: str,
        store_id: str,
        held: list[Piece],
        remaining: Iterator[Piece],
    ) -> EncodedFile:
        local_path = self.folder / f"{store_id}.parquet"
        summary = _FileSummary()
        with parquet_writer(local_path, self.stored) as writer:
            while held:
                for piece in held:
                    summary.add(piece)
                writer.write_table(_table(held, self.stored), row_group_size=self.row_group_rows)
                held = _next_pieces(remaining, self.row_group_rows * 8)
            writer.add_key_value_metadata(summary.constants.footer())
        size = local_path.stat().st_size
        if self.packs is not None:
            days = (summary.first_day, summary.last_day)
            packed = PackedFile(partition_key(path), size, *days)
            self.packs.add_large(store_id, packed, lambda: _tables(local_path))

        def send() -> None:
            self.storage.upload(local_path, partition_key(path))
            local_path.unlink()

        return EncodedFile(summary.data_file(path, store_id, size), send)


@dataclass(slots=True)
class _FileSummary:
    """Statistics of a file for the commit, and the columns with one value for its footer."""

    rows: int = 0
    first_day: int = 2**31
    last_day: int = -(2**31)
    first_item: str = ""
    last_item: str = ""
    constants: Constants = field(default_factory=Constants)

    def add(self, piece: Piece) -> None:
        """Add the next piece of the file."""
        items = piece.rows.column("item_id")
        if self.rows == 0:
            self.first_item = items[0].as_py()
        self.last_item = items[-1].as_py()
        self.constants.add(piece.rows, piece.varying)
        self.rows += piece.rows.num_rows
        self.first_day = min(self.first_day, piece.first_day)
        self.last_day = max(self.last_day, piece.last_day)

    def data_file(self, path: str, store_id: str, size: int) -> DataFile:
        return DataFile(
            path,
            store_id,
            size,
            self.rows,
            _EPOCH + timedelta(days=self.first_day),
            _EPOCH + timedelta(days=self.last_day),
            self.first_item,
            self.last_item,
        )


def _table(pieces: list[Piece], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches([conform(piece.rows, schema) for piece in pieces], schema)


def _tables(path: Path) -> Iterator[pa.Table]:
    """The rows of a local file, some row groups at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
            yield pa.Table.from_batches([batch])


def _next_pieces(pieces: Iterator[Piece], rows: int) -> list[Piece]:
    """The next pieces, until they have at least `rows` rows."""
    taken: list[Piece] = []
    while rows > 0 and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        rows -= piece.rows.num_rows
    return taken
