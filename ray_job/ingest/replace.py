"""What a delivery with --replace takes out of the histories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from ray_job.data.delta import DataFile, list_files, partition_key
from ray_job.data.parquet import read_batches
from ray_job.ingest.batch import Loaded
from ray_job.ingest.partitions import Encoded, PartitionWriter, Piece
from ray_job.ingest.sales import replacing
from ray_job.ingest.workspace import Workspace
from ray_job.progress import Stage


@dataclass(frozen=True, slots=True)
class Replaced:
    """A store's days (sorted, since 1970) and, for each, when what replaces it was delivered."""

    days: npt.NDArray[np.int64]
    delivered: npt.NDArray[np.int64]

    def keeps(self, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Which rows stay: those of other days, and those that were delivered later."""
        days = _integers(rows.column("date").cast(pa.int32()))
        delivered = _integers(rows.column("delivered_at").cast(pa.int64()))
        place = np.minimum(np.searchsorted(self.days, days), len(self.days) - 1)
        stays: npt.NDArray[np.bool_] = (self.days[place] != days) | (
            delivered >= self.delivered[place]
        )
        return stays


def replaced_days(work: Workspace, loaded: Sequence[Loaded]) -> dict[str, Replaced]:
    """By store, what the replacing files of an ingest take out; `sorted_sales` comes before."""
    query = replacing(loaded)
    if query is None:
        return {}
    table = work.connection.sql(f"{query} ORDER BY store_id, date").to_arrow_table()
    stores = table["store_id"].combine_chunks()
    days = _integers(table["date"].cast(pa.int32()))
    delivered = _integers(table["__delivered"])
    encoded = stores.dictionary_encode()
    places = _integers(encoded.indices)
    bounds = np.searchsorted(places, np.arange(len(encoded.dictionary) + 1))
    return {
        store: Replaced(days[start:end], delivered[start:end])
        for store, start, end in zip(
            encoded.dictionary.to_pylist(), bounds[:-1], bounds[1:], strict=True
        )
    }


def take_out(
    writer: PartitionWriter,
    table: DeltaTable,
    replaced: dict[str, Replaced],
    file_name: str,
    stage: Stage,
) -> tuple[list[DataFile], list[DataFile]]:
    """Rewrite the files that hold replaced rows; what a commit adds and what it removes."""
    removed: list[DataFile] = []
    by_store: dict[str, list[DataFile]] = defaultdict(list)
    files = list_files(table)
    theirs = files.filter(pc.is_in(files["store_id"], pa.array(replaced, pa.string())))
    for row in theirs.to_pylist():
        by_store[row["store_id"]].append(DataFile(**row))

    def rewritten() -> Iterator[Encoded]:
        for store, files in by_store.items():
            for number, file in enumerate(files):
                if not _touched(writer, file, replaced[store]):
                    continue
                removed.append(file)
                pieces = _kept(writer, file, replaced[store])
                first = next(pieces, None)
                if first is not None:
                    yield writer.encode(store, _chained(first, pieces), f"{file_name}-{number}")

    added = writer.send(rewritten(), stage)
    return added, removed


def _touched(writer: PartitionWriter, file: DataFile, replaced: Replaced) -> bool:
    return any(not replaced.keeps(batch).all() for batch in _read(writer, file))


def _kept(writer: PartitionWriter, file: DataFile, replaced: Replaced) -> Iterator[Piece]:
    for batch in _read(writer, file):
        kept = batch.filter(pa.array(replaced.keeps(batch)))
        if kept.num_rows:
            days = _integers(kept.column("date").cast(pa.int32()))
            yield Piece(str(file.store_id), kept, int(days.min()), int(days.max()))


def _read(writer: PartitionWriter, file: DataFile) -> Iterator[pa.RecordBatch]:
    return read_batches(writer.storage, partition_key(file.path), file.size, writer.stored)


def _chained(first: Piece, rest: Iterator[Piece]) -> Iterator[Piece]:
    yield first
    yield from rest


def _integers(values: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.int64)
