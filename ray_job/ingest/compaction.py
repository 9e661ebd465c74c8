"""Compaction: the many small files of a store become one file with the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime

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
    logged_key,
    open_table,
    stored_schema,
)
from ray_job.data.packs.index import readable_index
from ray_job.data.packs.merging import leave_out_unused_packs
from ray_job.data.packs.writing import PackWriter
from ray_job.data.parquet import read_batches
from ray_job.data.requests import map_in_order
from ray_job.data.table_files import new_file_name, own_names
from ray_job.ingest.reading.workspace import open_workspace
from ray_job.ingest.writing.partitions import PartitionWriter
from ray_job.progress import Progress, SilentProgress
from ray_job.settings import Settings

_NIGHTS = 16
"""Each store has its turn in one of so many nights."""


@dataclass(frozen=True, slots=True)
class CompactScope:
    """The stores whose turn is the night `night`: a sixteenth of all stores."""

    night: date

    def includes(self, store_id: str) -> bool:
        digest = hashlib.sha256(store_id.encode()).digest()
        return digest[0] % _NIGHTS == self.night.toordinal() % _NIGHTS


def compact(
    storage: Storage,
    settings: Settings,
    scope: CompactScope,
    *,
    now: datetime,
    progress: Progress | None = None,
) -> int:
    """Rewrite the stores of the scope that have too many files, in one commit.

    The rows and their order stay the same. Returns the number of rewritten stores; 0 if another
    commit was faster, since the next turn tries again. Raises NotFoundError or CorruptError for a
    file that cannot be read.
    """
    packs_before = readable_index(storage)
    table = open_table(storage, keys.BATCH_DATA)
    if table is None:
        return 0
    all_files = list_files(table)
    with suppress(StorecastError):  # the next night tries again
        leave_out_unused_packs(storage, packs_before, all_files["path"].to_pylist())
    files = _files_to_join(all_files, scope, settings.ingest.compact_above_files)
    if not files:
        return 0
    schema = arrow_schema(table)
    stores = len({file.store_id for file in files})
    with (
        open_workspace(settings) as workspace,
        (progress or SilentProgress()).stage("compact", stores, "stores") as stage,
    ):
        rows = _CompactedRows(storage, files, schema)
        workspace.connection.register(
            "rows_of_files", pa.RecordBatchReader.from_batches(schema, iter(rows))
        )
        packs = PackWriter(storage)
        writer = PartitionWriter(
            storage, stored_schema(schema), settings.ingest.row_group_rows, workspace.folder, packs
        )
        try:
            ordered = workspace.stream(
                "SELECT * FROM rows_of_files ORDER BY sha256(store_id), item_id, date, delivered_at"
            )
            added = writer.write(ordered, new_file_name(), stage)
        except (duckdb.Error, pa.ArrowException) as error:
            raise rows.failure or error from error
        packs.finish()
    storage.sync()
    try:
        commit(table, added, files, changes_data=False, now=now)
    except (ConflictError, StorageError) as error:
        if not _is_committed(storage, added):
            if isinstance(error, ConflictError):
                return 0
            raise
    packs.publish()
    return stores


def _files_to_join(files: pa.Table, scope: CompactScope, above: int) -> list[DataFile]:
    """All files of ours of the scope's stores that have more than `above` of them.

    The rows of other writers have no order among rows of one time, so their files stay.
    """
    files = files.filter(own_names(files["path"]))
    counts = files.group_by(STORE).aggregate([([], "count_all")])
    crowded = counts.filter(pc.greater(counts["count_all"], above))[STORE].to_pylist()
    stores = [store for store in crowded if scope.includes(store)]
    matching = files.filter(pc.is_in(files[STORE], pa.array(stores, pa.string())))
    return [DataFile(**row) for row in matching.to_pylist()]


@dataclass(slots=True)
class _CompactedRows:
    """Iterates over the rows of files, with the column of the store.

    `failure` keeps an error of ours, since DuckDB raises it as an error of its own.
    """

    storage: Storage
    files: Sequence[DataFile]
    schema: pa.Schema
    failure: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        stored = stored_schema(self.schema)
        store_column = self.schema.get_field_index(STORE)

        def read(file: DataFile) -> tuple[DataFile, Iterator[pa.RecordBatch]]:
            key = logged_key(file.path)
            return file, read_batches(self.storage, key, file.size, stored)

        try:
            for file, batches in map_in_order(self.storage, read, self.files):
                for batch in batches:
                    store = pa.repeat(pa.scalar(file.store_id, pa.string()), batch.num_rows)
                    arrays = batch.columns
                    yield pa.RecordBatch.from_arrays(
                        [*arrays[:store_column], store, *arrays[store_column:]],
                        schema=self.schema,
                    )
        except StorecastError as error:
            self.failure = error
            raise


def _is_committed(storage: Storage, added: Sequence[DataFile]) -> bool:
    """Whether the table has the added files, although the answer to the commit was an error."""
    table = open_table(storage, keys.BATCH_DATA)
    paths = set() if table is None else set(list_files(table)["path"].to_pylist())
    return all(file.path in paths for file in added)
