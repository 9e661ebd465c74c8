"""ingest: every new raw file into the histories and the context, in one commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, InputError
from ray_job.bucket.storage import Storage
from ray_job.ingest.batch import Batch, read_batch
from ray_job.ingest.files import (
    Source,
    check_unchanged,
    deliver,
    fetch,
    given,
    new_objects,
)
from ray_job.ingest.kinds import SALES, kind_of
from ray_job.ingest.manifest import (
    APP_ID,
    Entry,
    Past,
    delivery_times,
    is_in,
    read_past,
    write_manifest,
)
from ray_job.ingest.partitions import PartitionWriter
from ray_job.ingest.sales import sorted_sales
from ray_job.ingest.workspace import Workspace, workspace
from ray_job.progress import Progress, SilentProgress
from ray_job.settings import Settings
from ray_job.tables import (
    SALES_SCHEMA,
    STORE,
    DataFile,
    add_columns,
    arrow_schema,
    commit,
    open_or_create,
    open_table,
    transaction_version,
)

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


def ingest(
    storage: Storage,
    settings: Settings,
    files: Sequence[Path] = (),
    *,
    kind: str | None = None,
    replace: bool = False,
    now: datetime,
    progress: Progress | None = None,
) -> IngestReport:
    """Copy `files` into raw_data/, then bring every new raw file in.

    All or nothing: whatever is wrong with one file, no file is brought in, and a bad one of
    `files` is not copied. Idempotent: what is in is left alone. Safe to race: whoever loses looks
    again what is left to do. Raises InputError for bad input, naming file, row and column.
    """
    progress = progress or SilentProgress()
    kind_of(kind or SALES)
    if not files and (kind is not None or replace):
        raise InputError("--kind and --replace say how FILEs are meant, and there is no FILE")
    for _ in range(_ROUNDS):
        try:
            with workspace(settings) as work:
                attempt = _Attempt(storage, settings, work, now, progress)
                return attempt.run(files, kind or SALES, replace)
        except _LostRaceError:
            files = ()
    raise ConflictError(f"{keys.BATCH_DATA}: {_ROUNDS} times another ingest committed first")


class _LostRaceError(Exception):
    """Another ingest committed first."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    storage: Storage
    settings: Settings
    work: Workspace
    now: datetime
    progress: Progress

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
        batch_sources = self._delivered(batch)
        return self._bring_in(past, batch, batch_sources)

    def _sources(self, past: Past, files: Sequence[Path], kind: str, replace: bool) -> list[Source]:
        """The new raw files, oldest first, and then the FILEs that are not among them yet."""
        pending = given(self.storage, files, kind, replace_rows=replace)
        objects = new_objects(self.storage, past.files)
        with self.progress.stage("fetch", len(objects), "files") as stage:
            found = fetch(self.storage, objects, past.files, self.work.folder, stage)
        return [*found, *pending]

    def _schemas(self, table: DeltaTable | None) -> dict[str, pa.Schema]:
        tables = {SALES: table} | {
            kind: open_table(self.storage, keys.context(kind)) for kind in keys.CONTEXT_KINDS
        }
        return {kind: arrow_schema(one) for kind, one in tables.items() if one is not None}

    def _delivered(self, batch: Batch) -> dict[int, Source]:
        """Every file of the batch by its number, all of them lying in raw_data now."""
        return {
            number: deliver(self.storage, source) if source.info is None else source
            for number, source in batch.sources.items()
        }

    def _bring_in(self, past: Past, batch: Batch, sources: Mapping[int, Source]) -> IngestReport:
        created = {one.key: one.info.created for one in sources.values() if one.info is not None}
        times = delivery_times(created, past.delivered)
        delivered = {number: times[source.key] for number, source in sources.items()}
        table = open_or_create(self.storage, keys.BATCH_DATA, SALES_SCHEMA, [STORE])
        if batch.new_columns.get(SALES):
            add_columns(table, batch.new_columns[SALES])
        if transaction_version(table, APP_ID) != past.number:
            raise _LostRaceError
        name = uuid4().hex
        added = self._partitions(table, batch, delivered, name)
        self.storage.sync()
        entries = [
            Entry(
                source.key,
                source.info.generation,
                source.checksum,
                delivered[number],
                source.kind,
                source.size,
                batch.rows[number],
            )
            for number, source in sources.items()
            if source.info is not None
        ]
        manifest = write_manifest(
            self.storage, past, name, entries, len({one.store_id for one in added}), self.now
        )
        try:
            commit(table, added, transaction=(APP_ID, manifest.number), now=self.now)
        except ConflictError as error:
            again = open_table(self.storage, keys.BATCH_DATA)
            there = 0 if again is None else transaction_version(again, APP_ID)
            if not is_in(self.storage, there, manifest):
                raise _LostRaceError from error
        table.update_incremental()
        return IngestReport(
            files=len(entries),
            rows=manifest.rows,
            stores=manifest.stores,
            bytes=manifest.bytes,
            version=table.version(),
        )

    def _partitions(
        self, table: DeltaTable, batch: Batch, delivered: Mapping[int, int], name: str
    ) -> list[DataFile]:
        loaded = batch.of(SALES)
        if not loaded:
            return []
        schema = arrow_schema(table)
        reader = sorted_sales(self.work, self.settings, loaded, delivered, schema)
        writer = PartitionWriter(
            self.storage, schema, self.settings.ingest.row_group_rows, self.work.folder
        )
        with self.progress.stage("write", unit="stores") as stage:
            return writer.write(reader, name, stage)
