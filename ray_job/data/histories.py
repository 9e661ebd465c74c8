"""The histories of all stores: the files of a snapshot of the table, and the newest sales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from ray_job import plan
from ray_job.bucket import keys
from ray_job.bucket.errors import InputError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.storage import Storage
from ray_job.data import delta, manifest, partition
from ray_job.data.table_files import MOST_LISTED, NO_FOREIGN_FILES, ForeignFiles, not_ingested

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Histories:
    """A snapshot of the table of histories; `files` is of plan.FILES_SCHEMA."""

    version: int
    files: pa.Table
    columns: pa.Schema
    newest_sales: date | None
    foreign_files: ForeignFiles = NO_FOREIGN_FILES

    @property
    def store_ids(self) -> list[str]:
        ids: list[str] = pc.unique(self.files["store_id"]).to_pylist()
        return ids

    def categorical(self, names: Sequence[str]) -> list[str]:
        """Which of the columns hold text."""
        fields = [self.columns.field(name) for name in names if name in self.columns.names]
        return [field.name for field in fields if pa.types.is_string(field.type)]


def open_histories(storage: Storage) -> Histories:
    """The newest snapshot of the histories.

    Raises InputError where nothing was ingested yet, and where the table lacks a column that every
    history has.
    """
    table = delta.open_snapshot(storage, keys.BATCH_DATA)
    if table is None or table.files.num_rows == 0:
        foreign = not_ingested(storage, (), 0).sentence()
        raise InputError(
            f"{storage.url}: there are no histories; "
            + (foreign or "`storecast ingest` brings them in")
        )
    for name in partition.REQUIRED:
        if name not in table.columns.names:
            raise InputError(f"{storage.url}/{keys.BATCH_DATA}: the table has no column {name!r}")
    listed = table.files
    paths = delta.partition_keys(listed["path"])
    files = pa.table(
        [
            listed["store_id"],
            paths,
            listed["size"],
            listed["rows"],
            listed["first_date"],
            listed["last_date"],
        ],
        schema=plan.FILES_SCHEMA,
    )
    transaction = table.transactions.get(delta.APP_ID, 0)
    return Histories(
        version=table.version,
        files=files,
        columns=table.columns,
        newest_sales=manifest.newest_sales(storage, transaction),
        foreign_files=_foreign_files(storage, paths, transaction),
    )


def _foreign_files(storage: Storage, paths: pa.ChunkedArray, transaction: int) -> ForeignFiles:
    """The foreign files, of tables that are not too large to list."""
    if len(paths) > MOST_LISTED:
        return ForeignFiles()
    return not_ingested(storage, {unquote(path) for path in paths.to_pylist()}, transaction)


def resolve_as_of(
    given: date | None, histories: Histories, schedule: Schedule, now: datetime
) -> date:
    """The as-of of a run: `given`, else the newest date that has sales, never after yesterday.

    Raises InputError for a given as-of of today or later.
    """
    yesterday = schedule.today(now) - _DAY
    if given is not None:
        if given > yesterday:
            raise InputError(f"--as-of {given}: the last date that can be used is {yesterday}")
        return given
    if histories.newest_sales is None:
        raise InputError("there are no sales in the histories; `storecast ingest` brings them in")
    return min(histories.newest_sales, yesterday)
