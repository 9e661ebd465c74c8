"""Compaction: the many small files of a store become one. No delivery is dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, StorageError, StorecastError
from ray_job.bucket.storage import Storage
from ray_job.data.delta import (
    STORE,
    DataFile,
    arrow_schema,
    commit,
    list_files,
    open_table,
    partition_key,
    stored_schema,
)
from ray_job.data.parquet import read_batches
from ray_job.data.requests import map_in_order
from ray_job.ingest.partitions import PartitionWriter
from ray_job.ingest.workspace import workspace
from ray_job.progress import Progress, SilentProgress
from ray_job.settings import Settings

_PARTS = 16


@dataclass(frozen=True, slots=True)
class CompactScope:
    """The stores whose turn it is in a night: one sixteenth of all, another one every night."""

    night: date

    def includes(self, store_id: str) -> bool:
        digest = hashlib.sha256(store_id.encode()).digest()
        return digest[0] % _PARTS == self.night.toordinal() % _PARTS


def compact(
    storage: Storage,
    settings: Settings,
    scope: CompactScope,
    *,
    now: datetime,
    progress: Progress | None = None,
) -> int:
    """Rewrite the scope's stores that have too many files, in one commit; how many they were.

    The rows stay the same, sorted as always. Whoever loses a race leaves everything as it is:
    the next turn comes. Raises NotFoundError or CorruptError where a file cannot be read.
    """
    table = open_table(storage, keys.BATCH_DATA)
    if table is None:
        return 0
    files = _crowded(list_files(table), scope, settings.ingest.compact_above_files)
    if not files:
        return 0
    schema = arrow_schema(table)
    stores = len({file.store_id for file in files})
    with (
        workspace(settings) as work,
        (progress or SilentProgress()).stage("compact", stores, "stores") as stage,
    ):
        rows = _Rows(storage, files, schema)
        work.connection.register(
            "rows_of_files", pa.RecordBatchReader.from_batches(schema, iter(rows))
        )
        writer = PartitionWriter(
            storage, stored_schema(schema), settings.ingest.row_group_rows, work.folder
        )
        try:
            ordered = work.stream(
                "SELECT * FROM rows_of_files ORDER BY store_id, item_id, date, delivered_at"
            )
            added = writer.write(ordered, uuid4().hex, stage)
        except (duckdb.Error, pa.ArrowException) as error:
            raise rows.failure or error from error
    storage.sync()
    try:
        commit(table, added, files, changes_data=False, now=now)
    except (ConflictError, StorageError) as error:
        if _is_in(storage, added):
            return stores
        if isinstance(error, ConflictError):
            return 0
        raise
    return stores


def _crowded(files: pa.Table, scope: CompactScope, above: int) -> list[DataFile]:
    counts = files.group_by(STORE).aggregate([([], "count_all")])
    crowded = counts.filter(pc.greater(counts["count_all"], above))[STORE].to_pylist()
    wanted = [store for store in crowded if scope.includes(store)]
    chosen = files.filter(pc.is_in(files[STORE], pa.array(wanted, pa.string())))
    return [DataFile(**row) for row in chosen.to_pylist()]


@dataclass(slots=True)
class _Rows:
    """The files' rows, each with its store. What fails is kept: DuckDB would tell it as its own."""

    storage: Storage
    files: Sequence[DataFile]
    schema: pa.Schema
    failure: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        stored = stored_schema(self.schema)
        place = self.schema.get_field_index(STORE)

        def read(file: DataFile) -> tuple[DataFile, Iterator[pa.RecordBatch]]:
            key = partition_key(file.path)
            return file, read_batches(self.storage, key, file.size, stored)

        try:
            for file, batches in map_in_order(self.storage, read, self.files):
                for batch in batches:
                    store = pa.repeat(pa.scalar(file.store_id, pa.string()), batch.num_rows)
                    arrays = batch.columns
                    yield pa.RecordBatch.from_arrays(
                        [*arrays[:place], store, *arrays[place:]], schema=self.schema
                    )
        except StorecastError as error:
            self.failure = error
            raise


def _is_in(storage: Storage, added: Sequence[DataFile]) -> bool:
    table = open_table(storage, keys.BATCH_DATA)
    there = set() if table is None else set(list_files(table)["path"].to_pylist())
    return all(file.path in there for file in added)
