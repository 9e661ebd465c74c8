"""One attempt of an ingest: the way of new raw files to a commit, on a snapshot of the table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, StorageError, StorecastError
from ray_job.bucket.storage import ObjectInfo, Storage
from ray_job.data.delta import (
    APP_ID,
    SALES_SCHEMA,
    STORE,
    DataFile,
    add_columns,
    arrow_schema,
    check_table,
    commit,
    list_files,
    logged_key,
    open_or_create,
    open_table,
    stored_schema,
    transaction_version,
)
from ray_job.data.manifest import (
    Manifest,
    PastIngests,
    is_in,
    read_past,
    write_manifest,
)
from ray_job.data.packs.writing import PackWriter
from ray_job.data.table_columns import check_histories
from ray_job.data.table_files import ForeignFiles, foreign_files, new_file_name
from ray_job.ingest.ingest_report import IngestReport
from ray_job.ingest.new_files import find_new_files
from ray_job.ingest.plausibility.meaning import check_meaning
from ray_job.ingest.reading.batch import RawBatch, read_batch, store_delivery_times
from ray_job.ingest.reading.deliveries import (
    Upload,
    check_unchanged,
    upload,
)
from ray_job.ingest.reading.groups import unreadable
from ray_job.ingest.reading.kinds import SALES
from ray_job.ingest.reading.raw_files import BadFilesError, RawFile
from ray_job.ingest.reading.workspace import Workspace, open_workspace, shortage
from ray_job.ingest.stored_batch import StoredBatch
from ray_job.ingest.writing.column_text import make_text
from ray_job.ingest.writing.context_tables import merge_context
from ray_job.ingest.writing.partitions import PartitionWriter
from ray_job.ingest.writing.replacement import (
    Removal,
    Withdrawal,
    find_withdrawals,
    replaced_days,
    rewrite_files,
)
from ray_job.ingest.writing.sales_rows import newest_sales, sorted_sales
from ray_job.interruption import raise_if_interrupted
from ray_job.progress import Progress, Stage
from ray_job.settings import Settings


class LostRaceError(Exception):
    """Another ingest committed first, so that this attempt's snapshot is out of date."""


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
    from_batch_data: bool = False
    """Whether files of batch_data/ that another program wrote are brought in, too."""

    def run(self, paths: Sequence[Path], kind: str, replace: bool) -> IngestReport:
        """Commit the new raw files, and the files at `paths`, which are of `kind`.

        Raises LostRaceError if another ingest committed first, BadFilesError for bad files.
        """
        table = open_table(self.storage, keys.BATCH_DATA)
        past = read_past(self.storage, 0 if table is None else transaction_version(table, APP_ID))
        foreign = self._foreign_files(table)
        copied = foreign if self.from_batch_data else ()
        command = Upload(paths, kind, replace, copied)
        new = find_new_files(
            self.storage,
            self.settings,
            self.workspace,
            past.files,
            command,
            self.left_out,
            self.progress,
            self._today,
        )
        files, repeated = new.files, new.repeated
        warnings = [ForeignFiles.of(foreign).sentence()] if foreign and not copied else []
        warnings += new.warnings
        # Copies in raw_data/ become known, so that no later ingest fetches them again.
        known = [file for file, _ in repeated if file.info is not None]
        if not files and not known:
            version = None if table is None else table.version()
            return IngestReport(version=version, warnings=tuple(warnings))
        schemas = self._schemas(table)
        with self.progress.stage("read", len(files), "files") as stage:
            try:
                batch = self._read(files, schemas, stage)
            except BadFilesError as error:
                raise _with_copies(error, files, repeated) from error
        check_unchanged(self.storage, files)
        report = self._commit(past, self._upload(batch, known))
        return replace_fields(report, warnings=(*warnings, *batch.warnings))

    def _read(
        self, files: Sequence[RawFile], schemas: dict[str, pa.Schema], stage: Stage
    ) -> RawBatch:
        """As `read_batch`. An error that nobody foresaw is the problem of the file that raises it.

        Such a file is found by reading each file alone.
        """
        try:
            batch = read_batch(self.workspace, self.settings, files, schemas, stage, self._today)
            return replace_fields(batch, warnings=check_meaning(self.workspace, batch))
        except (StorecastError, MemoryError):
            raise
        except Exception as error:
            if (storage_error := shortage(self.workspace.folder, error)) is not None:
                raise storage_error from error
            problems: dict[str, str] = {}
            for file in files:
                try:
                    with open_workspace(self.settings) as workspace:
                        batch = read_batch(
                            workspace, self.settings, [file], schemas, stage, self._today
                        )
                        check_meaning(workspace, batch)
                except StorecastError:
                    continue
                except Exception as single_error:  # noqa: BLE001 - it is named
                    problems[file.name] = unreadable(single_error)
            if not problems:
                raise
            raise BadFilesError(problems) from error

    @property
    def _today(self) -> date:
        return self.now.astimezone(self.settings.zone).date()

    def _foreign_files(self, table: DeltaTable | None) -> Sequence[ObjectInfo]:
        """The foreign files that are to be brought in, or that a first ingest has to tell."""
        if table is not None and not self.from_batch_data:
            return ()
        paths = [] if table is None else list_files(table)["path"].to_pylist()
        referenced = {logged_key(path) for path in paths}
        return foreign_files(self.storage, keys.BATCH_DATA, referenced)

    def _schemas(self, table: DeltaTable | None) -> dict[str, pa.Schema]:
        """The schema of each table that exists, by kind."""
        tables = {SALES: table} | {
            kind: open_table(self.storage, keys.context(kind)) for kind in keys.CONTEXT_KINDS
        }
        schemas = {
            kind: arrow_schema(kind_table)
            for kind, kind_table in tables.items()
            if kind_table is not None
        }
        if SALES in schemas:
            check_histories(schemas[SALES])
        return schemas

    def _upload(self, batch: RawBatch, repeated: Sequence[RawFile]) -> StoredBatch:
        """Copy the files that are not in raw_data yet. `repeated` are files without a new row."""
        try:
            files = {
                number: upload(self.storage, file) if file.info is None else file
                for number, file in batch.files.items()
            }
        except ConflictError as error:
            raise LostRaceError from error
        return StoredBatch(batch, files, repeated)

    def _commit(self, past: PastIngests, stored: StoredBatch) -> IngestReport:
        batch = stored.batch
        times = stored.times(past, self.now)
        store_delivery_times(self.workspace, times)
        for kind in keys.CONTEXT_KINDS:
            if groups := batch.groups_of(kind):
                new_columns = batch.new_columns.get(kind, ())
                merge_context(self.workspace, self.storage, groups, new_columns, self.now)
        newest = newest_sales(self.workspace, batch.groups_of(SALES))
        table = self._table(past, batch)
        attempt_name = new_file_name()
        withdrawals = find_withdrawals(self.workspace, batch.groups_of(SALES), past.files)
        packs = PackWriter(self.storage)
        added, removed = self._write_files(table, batch, withdrawals, attempt_name, packs)
        packs.finish()
        self.workspace.close()
        self.storage.sync()
        stores = len({file.store_id for file in added})
        entries = stored.entries(times)
        manifest = write_manifest(
            self.storage, past, attempt_name, entries, stores, self.now, newest
        )
        raise_if_interrupted()  # DuckDB may have dropped what the handler of a signal raised
        for is_last in (False, True):
            try:
                commit(table, added, removed, transaction=(APP_ID, manifest.number), now=self.now)
                break
            except (ConflictError, StorageError) as error:
                # It is given again once. Its transaction keeps it from counting twice.
                if self._is_committed(manifest, error, is_last=is_last):
                    break
        packs.publish()
        return IngestReport(
            files=len(stored.files),
            rows=manifest.rows,
            stores=stores,
            bytes=manifest.bytes,
            version=table_version(self.storage),
            not_packed=packs.failure,
        )

    def _table(self, past: PastIngests, batch: RawBatch) -> DeltaTable:
        """The histories with all columns that the batch needs. Their transaction is that of `past`.

        Raises LostRaceError if it is another one.
        """
        table = open_or_create(self.storage, keys.BATCH_DATA, SALES_SCHEMA, [STORE])
        check_table(self.storage, table, keys.BATCH_DATA)
        if become_text := batch.become_text.get(SALES):
            with self.progress.stage("make text", unit="files") as stage:
                make_text(self.storage, self.settings, become_text, stage, self.now)
            raise LostRaceError
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

    def _is_committed(self, manifest: Manifest, error: Exception, *, is_last: bool) -> bool:
        """Whether the commit succeeded in spite of an error.

        Raises LostRaceError if another ingest was first, `error` after the last try."""
        table = open_table(self.storage, keys.BATCH_DATA)
        current = 0 if table is None else transaction_version(table, APP_ID)
        if is_in(self.storage, current, manifest):
            return True
        if isinstance(error, ConflictError):
            raise LostRaceError from error
        if is_last:
            raise error
        return False

    def _write_files(
        self,
        table: DeltaTable,
        batch: RawBatch,
        withdrawals: Sequence[Withdrawal],
        file_name: str,
        packs: PackWriter,
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
            self.storage, stored_schema(schema), row_group_rows, self.workspace.folder, packs
        )
        with self.progress.stage("write", unit="stores") as stage:
            added = writer.write(rows, file_name, stage)
        replaced = replaced_days(self.workspace, groups)
        if not replaced and not withdrawals:
            return added, []
        removal = Removal(replaced, withdrawals)
        with self.progress.stage("replace", unit="files") as stage:
            rewritten, removed = rewrite_files(writer, table, removal, file_name, stage)
        return [*added, *rewritten], removed


def _with_copies(
    error: BadFilesError, files: Sequence[RawFile], repeated: Sequence[tuple[RawFile, str]]
) -> BadFilesError:
    """The error for the bad files, and for the files that have the content of one of them."""
    name_by_key = {file.key: file.name for file in files}
    copies = {
        file.name: error.problems[name_by_key[key]]
        for file, key in repeated
        if name_by_key.get(key) in error.problems
    }
    return BadFilesError(error.problems | copies)
