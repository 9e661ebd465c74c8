"""ingest: every new raw file into the histories and the context, in one commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, InputError, StorageError, StorecastError
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
from ray_job.ingest.bad import BadFilesError
from ray_job.ingest.batch import Batch, note_deliveries, read_batch
from ray_job.ingest.compaction import CompactScope
from ray_job.ingest.compaction import compact as compact_stores
from ray_job.ingest.context import merge_context
from ray_job.ingest.files import Source, check_unchanged, deliver, fetch, given, new_objects
from ray_job.ingest.kinds import SALES, kind_of
from ray_job.ingest.partitions import PartitionWriter
from ray_job.ingest.replace import replaced_days, take_out
from ray_job.ingest.sales import newest_sales, sorted_sales
from ray_job.ingest.workspace import Workspace, workspace
from ray_job.progress import Progress, SilentProgress
from ray_job.settings import Settings

_ROUNDS = 20
"""Each lost race means that another ingest won: this many in a row is no accident any more."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest brought in. `version` is the table's, None where there is no table yet."""

    files: int = 0
    rows: int = 0
    stores: int = 0
    bytes: int = 0
    version: int | None = None
    compacted: int = 0
    not_compacted: str | None = None
    """Why nothing was compacted, where that failed."""
    bad: tuple[BadDelivery, ...] = ()
    """What was left out, if that was asked for."""


def ingest(
    storage: Storage,
    settings: Settings,
    files: Sequence[Path] = (),
    *,
    kind: str | None = None,
    replace: bool = False,
    now: datetime,
    compact: CompactScope | None = None,
    leave_out_bad: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """Copy `files` into raw_data/, then bring every new raw file in, then compact.

    All or nothing: whatever is wrong with one file, no file is brought in, and a bad one of
    `files` is not copied. With `leave_out_bad` all others are brought in, in one commit, and the
    report names what was left out; it is new to the next ingest, too, until it is mended or gone.
    Idempotent: what is in is left alone. Safe to race: whoever loses looks again what is left to
    do. Raises InputError for bad input, naming file, row and column.

    Compaction only tidies up. Where it fails, for a damaged history, a full disk or what nobody
    foresaw, the report says so; everything stays as it is, and the next turn of these stores comes.
    """
    progress = progress or SilentProgress()
    kind_of(kind or SALES)
    if not files and (kind is not None or replace):
        raise InputError("--kind and --replace say how FILEs are meant, and there is no FILE")
    bad: dict[str, str] = {}
    while True:
        try:
            report = _bring_in(storage, settings, files, kind or SALES, replace, now, progress, bad)
            break
        except BadFilesError as error:
            if not leave_out_bad or files:
                raise
            bad |= error.problems
    told = tuple(BadDelivery(key=key, reason=f"{key}: {bad[key]}") for key in sorted(bad))
    report = dataclasses.replace(report, bad=told)
    if compact is None:
        return report
    try:
        compacted = compact_stores(storage, settings, compact, now=now, progress=progress)
    except Exception as error:  # noqa: BLE001 - tidying up ends no night
        kind = "" if isinstance(error, StorecastError) else f"{type(error).__name__}: "
        return dataclasses.replace(report, not_compacted=kind + str(error).partition("\n")[0])
    return dataclasses.replace(report, compacted=compacted, version=_version(storage))


def _bring_in(
    storage: Storage,
    settings: Settings,
    files: Sequence[Path],
    kind: str,
    replace: bool,
    now: datetime,
    progress: Progress,
    left_out: Collection[str],
) -> IngestReport:
    for _ in range(_ROUNDS):
        try:
            with workspace(settings) as work:
                attempt = _Attempt(storage, settings, work, now, progress, left_out)
                return attempt.run(files, kind, replace)
        except _LostRaceError:
            continue
    raise ConflictError(f"{keys.BATCH_DATA}: {_ROUNDS} times another ingest committed first")


def _version(storage: Storage) -> int | None:
    table = open_table(storage, keys.BATCH_DATA)
    return None if table is None else int(table.version())


class _LostRaceError(Exception):
    """Another ingest committed first."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    storage: Storage
    settings: Settings
    work: Workspace
    now: datetime
    progress: Progress
    left_out: Collection[str]

    def run(self, files: Sequence[Path], kind: str, replace: bool) -> IngestReport:
        table = open_table(self.storage, keys.BATCH_DATA)
        past = read_past(self.storage, 0 if table is None else transaction_version(table, APP_ID))
        sources = self._sources(past, files, kind, replace)
        if not sources:
            return IngestReport(version=None if table is None else table.version())
        schemas = self._schemas(table)
        with self.progress.stage("read", len(sources), "files") as stage:
            batch = read_batch(self.work, self.settings, sources, schemas, stage)
        check_unchanged(self.storage, sources)
        return self._commit(past, self._delivered(batch))

    def _sources(
        self, past: PastIngests, files: Sequence[Path], kind: str, replace: bool
    ) -> list[Source]:
        """The new raw files, oldest first, and then the FILEs that are not among them yet."""
        pending = given(self.storage, files, kind, replace_rows=replace)
        objects = new_objects(self.storage, past.files, self.left_out)
        with self.progress.stage("fetch", len(objects), "files") as stage:
            found = fetch(self.storage, objects, past.files, self.work.folder, stage)
        return [*found, *pending]

    def _schemas(self, table: DeltaTable | None) -> dict[str, pa.Schema]:
        tables = {SALES: table} | {
            kind: open_table(self.storage, keys.context(kind)) for kind in keys.CONTEXT_KINDS
        }
        return {kind: arrow_schema(one) for kind, one in tables.items() if one is not None}

    def _delivered(self, batch: Batch) -> _Delivered:
        """The batch with all its files lying in raw_data now, each with its time of delivery."""
        try:
            sources = {
                number: deliver(self.storage, source) if source.info is None else source
                for number, source in batch.sources.items()
            }
        except ConflictError as error:
            raise _LostRaceError from error
        return _Delivered(batch, sources)

    def _commit(self, past: PastIngests, delivered: _Delivered) -> IngestReport:
        batch = delivered.batch
        times = delivered.times(past)
        note_deliveries(self.work, times)
        for kind in keys.CONTEXT_KINDS:
            if loaded := batch.of(kind):
                new = batch.new_columns.get(kind, ())
                merge_context(self.work, self.storage, loaded, new, self.now)
        newest = newest_sales(self.work, batch.of(SALES))
        table = self._table(past, batch)
        name = uuid4().hex
        added, removed = self._write(table, batch, name)
        self.work.close()
        self.storage.sync()
        stores = len({one.store_id for one in added})
        entries = delivered.entries(times)
        manifest = write_manifest(self.storage, past, name, entries, stores, self.now, newest)
        transaction = (APP_ID, manifest.number)
        try:
            commit(table, added, removed, transaction=transaction, now=self.now)
        except (ConflictError, StorageError) as error:
            self._look(manifest, error)
        return IngestReport(
            files=len(entries),
            rows=manifest.rows,
            stores=stores,
            bytes=manifest.bytes,
            version=_version(self.storage),
        )

    def _table(self, past: PastIngests, batch: Batch) -> DeltaTable:
        """The histories with all the columns that are needed, at the transaction of `past`."""
        table = open_or_create(self.storage, keys.BATCH_DATA, SALES_SCHEMA, [STORE])
        there = set(arrow_schema(table).names)
        missing = [one for one in batch.new_columns.get(SALES, ()) if one.name not in there]
        if missing:
            try:
                add_columns(table, missing)
            except ConflictError as error:
                raise _LostRaceError from error
        if transaction_version(table, APP_ID) != past.number:
            raise _LostRaceError
        return table

    def _look(self, manifest: Manifest, error: Exception) -> None:
        """After a commit that was refused, or whose answer was lost: raise unless it landed."""
        table = open_table(self.storage, keys.BATCH_DATA)
        there = 0 if table is None else transaction_version(table, APP_ID)
        if is_in(self.storage, there, manifest):
            return
        if isinstance(error, ConflictError):
            raise _LostRaceError from error
        raise error

    def _write(
        self, table: DeltaTable, batch: Batch, name: str
    ) -> tuple[list[DataFile], list[DataFile]]:
        """Write the files of the commit, unseen; what it adds and what it removes."""
        loaded = batch.of(SALES)
        if not loaded:
            return [], []
        schema = arrow_schema(table)
        with self.progress.stage("sort") as stage, self.work.watched(stage):
            rows = sorted_sales(self.work, self.settings, loaded, schema)
        row_group_rows = self.settings.ingest.row_group_rows
        writer = PartitionWriter(
            self.storage, stored_schema(schema), row_group_rows, self.work.folder
        )
        with self.progress.stage("write", unit="stores") as stage:
            added = writer.write(rows, name, stage)
        replaced = replaced_days(self.work, loaded)
        if not replaced:
            return added, []
        with self.progress.stage("replace", unit="files") as stage:
            rewritten, removed = take_out(writer, table, replaced, name, stage)
        return [*added, *rewritten], removed


@dataclass(frozen=True, slots=True)
class _Delivered:
    """A batch whose files all lie in raw_data; `sources` by their number."""

    batch: Batch
    sources: Mapping[int, Source]

    def times(self, past: PastIngests) -> dict[int, int]:
        """When each file was delivered, in microseconds since 1970."""
        created = {one.key: one.lying.created for one in self.sources.values()}
        by_key = delivery_times(created, past.delivered)
        return {number: by_key[source.key] for number, source in self.sources.items()}

    def entries(self, times: Mapping[int, int]) -> list[Entry]:
        return [
            Entry(
                key=source.key,
                generation=source.lying.generation,
                checksum=source.checksum,
                delivered=times[number],
                kind=source.kind,
                bytes=source.size,
                rows=self.batch.rows[number],
            )
            for number, source in self.sources.items()
        ]
