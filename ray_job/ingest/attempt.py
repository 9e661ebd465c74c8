"""One attempt of an ingest: the way of new raw files to a commit, on a snapshot of the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, StorageError
from ray_job.bucket.receipts import BadDelivery
from ray_job.bucket.storage import Storage
from ray_job.data.delta import (
    APP_ID,
    SALES_SCHEMA,
    STORE,
    DataFile,
    add_columns,
    arrow_schema,
    commit,
    open_or_create,
    open_table,
    stored_schema,
    transaction_version,
)
from ray_job.data.manifest import (
    Entry,
    Manifest,
    PastIngests,
    delivery_times,
    is_in,
    read_past,
    write_manifest,
)
from ray_job.ingest.reading.batch import RawBatch, read_batch, store_delivery_times
from ray_job.ingest.reading.deliveries import (
    check_unchanged,
    fetch_files,
    files_to_upload,
    list_new_objects,
    upload,
)
from ray_job.ingest.reading.kinds import SALES
from ray_job.ingest.reading.raw_files import RawFile
from ray_job.ingest.reading.workspace import Workspace
from ray_job.ingest.writing.context_tables import merge_context
from ray_job.ingest.writing.partitions import PartitionWriter
from ray_job.ingest.writing.replacement import replaced_days, rewrite_files
from ray_job.ingest.writing.sales_rows import newest_sales, sorted_sales
from ray_job.progress import Progress
from ray_job.settings import Settings


class LostRaceError(Exception):
    """Another ingest committed first, so that this attempt's snapshot is out of date."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest committed: numbers of files, rows and stores, and the files' bytes.

    `version` is the version of the histories' table, None if there is no table. `compacted` is the
    number of compacted stores.
    """

    files: int = 0
    rows: int = 0
    stores: int = 0
    bytes: int = 0
    version: int | None = None
    compacted: int = 0
    not_compacted: str | None = None
    """Why compaction failed, None if it did not."""
    bad: tuple[BadDelivery, ...] = ()
    """The bad files that were left out."""


def table_version(storage: Storage) -> int | None:
    """The current version of the histories' table, None if there is no table."""
    table = open_table(storage, keys.BATCH_DATA)
    return None if table is None else int(table.version())


@dataclass(frozen=True, slots=True)
class IngestAttempt:
    """An attempt of an ingest. `left_out` are the keys of raw files that must not be read."""

    storage: Storage
    settings: Settings
    workspace: Workspace
    now: datetime
    progress: Progress
    left_out: Collection[str]

    def run(self, paths: Sequence[Path], kind: str, replace: bool) -> IngestReport:
        """Commit the new raw files, and the files at `paths`, which are of `kind`.

        Raises LostRaceError if another ingest committed first, BadFilesError for bad files.
        """
        table = open_table(self.storage, keys.BATCH_DATA)
        past = read_past(self.storage, 0 if table is None else transaction_version(table, APP_ID))
        files = self._new_files(past, paths, kind, replace)
        if not files:
            return IngestReport(version=None if table is None else table.version())
        schemas = self._schemas(table)
        with self.progress.stage("read", len(files), "files") as stage:
            batch = read_batch(self.workspace, self.settings, files, schemas, stage)
        check_unchanged(self.storage, files)
        return self._commit(past, self._upload(batch))

    def _new_files(
        self, past: PastIngests, paths: Sequence[Path], kind: str, replace: bool
    ) -> list[RawFile]:
        """The new raw files, the oldest first, then the files of `paths` to upload."""
        pending = files_to_upload(self.storage, paths, kind, replace_rows=replace)
        objects = list_new_objects(self.storage, past.files, self.left_out)
        with self.progress.stage("fetch", len(objects), "files") as stage:
            fetched = fetch_files(self.storage, objects, past.files, self.workspace.folder, stage)
        return [*fetched, *pending]

    def _schemas(self, table: DeltaTable | None) -> dict[str, pa.Schema]:
        """The schema of each table that exists, by kind."""
        tables = {SALES: table} | {
            kind: open_table(self.storage, keys.context(kind)) for kind in keys.CONTEXT_KINDS
        }
        return {
            kind: arrow_schema(kind_table)
            for kind, kind_table in tables.items()
            if kind_table is not None
        }

    def _upload(self, batch: RawBatch) -> _StoredBatch:
        """Copy the files that are not in raw_data yet."""
        try:
            files = {
                number: upload(self.storage, file) if file.info is None else file
                for number, file in batch.files.items()
            }
        except ConflictError as error:
            raise LostRaceError from error
        return _StoredBatch(batch, files)

    def _commit(self, past: PastIngests, stored: _StoredBatch) -> IngestReport:
        batch = stored.batch
        times = stored.times(past)
        store_delivery_times(self.workspace, times)
        for kind in keys.CONTEXT_KINDS:
            if groups := batch.groups_of(kind):
                new_columns = batch.new_columns.get(kind, ())
                merge_context(self.workspace, self.storage, groups, new_columns, self.now)
        newest = newest_sales(self.workspace, batch.groups_of(SALES))
        table = self._table(past, batch)
        attempt_name = uuid4().hex
        added, removed = self._write_files(table, batch, attempt_name)
        self.workspace.close()
        self.storage.sync()
        stores = len({file.store_id for file in added})
        entries = stored.entries(times)
        manifest = write_manifest(
            self.storage, past, attempt_name, entries, stores, self.now, newest
        )
        transaction = (APP_ID, manifest.number)
        try:
            commit(table, added, removed, transaction=transaction, now=self.now)
        except (ConflictError, StorageError) as error:
            self._check_committed(manifest, error)
        return IngestReport(
            files=len(entries),
            rows=manifest.rows,
            stores=stores,
            bytes=manifest.bytes,
            version=table_version(self.storage),
        )

    def _table(self, past: PastIngests, batch: RawBatch) -> DeltaTable:
        """The histories with all columns that the batch needs. Their transaction is that of `past`.

        Raises LostRaceError if it is another one.
        """
        table = open_or_create(self.storage, keys.BATCH_DATA, SALES_SCHEMA, [STORE])
        present = set(arrow_schema(table).names)
        missing = [
            column for column in batch.new_columns.get(SALES, ()) if column.name not in present
        ]
        if missing:
            try:
                add_columns(table, missing)
            except ConflictError as error:
                raise LostRaceError from error
        if transaction_version(table, APP_ID) != past.number:
            raise LostRaceError
        return table

    def _check_committed(self, manifest: Manifest, error: Exception) -> None:
        """After an error of the commit: return if it succeeded all the same.

        Raises LostRaceError if another ingest was first, else `error`.
        """
        table = open_table(self.storage, keys.BATCH_DATA)
        current = 0 if table is None else transaction_version(table, APP_ID)
        if is_in(self.storage, current, manifest):
            return
        if isinstance(error, ConflictError):
            raise LostRaceError from error
        raise error

    def _write_files(
        self, table: DeltaTable, batch: RawBatch, file_name: str
    ) -> tuple[list[DataFile], list[DataFile]]:
        """Write the files of the commit. Returns those that it adds, and those that it removes."""
        groups = batch.groups_of(SALES)
        if not groups:
            return [], []
        schema = arrow_schema(table)
        with self.progress.stage("sort") as stage, self.workspace.watched(stage):
            rows = sorted_sales(self.workspace, self.settings, groups, schema)
        row_group_rows = self.settings.ingest.row_group_rows
        writer = PartitionWriter(
            self.storage, stored_schema(schema), row_group_rows, self.workspace.folder
        )
        with self.progress.stage("write", unit="stores") as stage:
            added = writer.write(rows, file_name, stage)
        replaced = replaced_days(self.workspace, groups)
        if not replaced:
            return added, []
        with self.progress.stage("replace", unit="files") as stage:
            rewritten, removed = rewrite_files(writer, table, replaced, file_name, stage)
        return [*added, *rewritten], removed


@dataclass(frozen=True, slots=True)
class _StoredBatch:
    """A batch whose files are all in raw_data. `files` are the files by number."""

    batch: RawBatch
    files: Mapping[int, RawFile]

    def times(self, past: PastIngests) -> dict[int, int]:
        """The time of each file's delivery, in microseconds since 1970, by file number."""
        created = {file.key: file.stored.created for file in self.files.values()}
        by_key = delivery_times(created, past.delivered)
        return {number: by_key[file.key] for number, file in self.files.items()}

    def entries(self, times: Mapping[int, int]) -> list[Entry]:
        """The entries of the manifest."""
        return [
            Entry(
                key=file.key,
                generation=file.stored.generation,
                checksum=file.checksum,
                delivered=times[number],
                kind=file.kind,
                bytes=file.size,
                rows=self.batch.rows[number],
            )
            for number, file in self.files.items()
        ]
