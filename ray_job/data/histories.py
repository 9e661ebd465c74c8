"""The histories of all stores: the files of a snapshot of the table, and the newest sales."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ray_job import plan
from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.storage import Storage
from ray_job.data import delta, manifest
from ray_job.data.delta_log.log_replay import TableSnapshot
from ray_job.data.store_days import read_store_days
from ray_job.data.table_columns import check_histories
from ray_job.data.table_files import (
    MOST_LISTED,
    NO_FOREIGN_FILES,
    ForeignFiles,
    not_ingested,
    own_names,
)

_DAY = timedelta(days=1)
_EPOCH = date(1970, 1, 1)
_READ_FOR_NEWEST = 64
_OUTSIDE = r"//|^/|(^|/)\.\.?(/|$)|^[A-Za-z][A-Za-z0-9+.-]*:"
"""A path that leads out of the table, or that is a file's second spelling."""


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
    _check_stores(table)
    check_histories(table.columns, f"{storage.url}/{keys.BATCH_DATA}")
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
        newest_sales=_newest_sales(storage, listed, transaction),
        foreign_files=_foreign_files(storage, paths, transaction),
    )


def _check_stores(table: TableSnapshot) -> None:
    """Raise InputError unless each file is of one store, whose id can be a part of a key."""
    root = keys.BATCH_DATA
    if list(table.features.partition_columns) != [delta.STORE]:
        raise InputError(
            f"{root}: the table is partitioned by {list(table.features.partition_columns)}: it has"
            " to be partitioned by store_id"
        )
    outside = pc.match_substring_regex(table.files["path"], _OUTSIDE)
    if pc.any(outside).as_py():
        path = table.files.filter(outside)["path"][0].as_py()
        raise InputError(
            f"{root}: the table's log names {path!r}, a file outside of the table, as a shallow"
            " clone does, or under another spelling: such a table is not read; copy its files into"
            " the table"
        )
    stores = table.files["store_id"]
    is_id = pc.fill_null(pc.match_substring_regex(stores, f"^{keys.STORE_ID_PATTERN}$"), False)
    if not pc.all(is_id).as_py():
        bad = table.files.filter(pc.invert(is_id)).slice(0, 1).to_pylist()[0]
        raise InputError(
            f"{root}/{bad['path']}: {bad['store_id']!r} is no store id: ids have letters, digits,"
            " _ and -, at most 64; remove the partition, or write it under another id"
        )


def _newest_sales(storage: Storage, files: pa.Table, transaction: int) -> date | None:
    """The last date that has sales, in ingests and in what other writers committed.

    `files` are those of the snapshot. Of the files of others those are read of which the log does
    not say the dates, the newest ones first, and those whose dates end last, as long as one of them
    may have newer sales; at most _READ_FOR_NEWEST of each, since others may know many days ahead.
    """
    newest = manifest.newest_sales(storage, transaction)
    foreign = files.filter(pc.invert(own_names(files["path"])))
    undated = foreign.filter(pc.is_null(foreign["last_date"]))
    undated = undated.sort_by([("modified", "descending"), ("path", "ascending")])
    dated = foreign.filter(pc.is_valid(foreign["last_date"]))
    dated = dated.sort_by([("last_date", "descending"), ("path", "ascending")])
    read = [each.slice(0, _READ_FOR_NEWEST) for each in (undated, dated)]
    for file in pa.concat_tables(read).to_pylist():
        last = file["last_date"]
        if last is not None and newest is not None and last <= newest:
            break
        with suppress(CorruptError, NotFoundError):
            delivered = read_store_days(storage, [delta.partition_key(file["path"])]).delivered
            if len(delivered):
                day = _EPOCH + timedelta(days=int(delivered[-1]))
                newest = day if newest is None else max(newest, day)
    return newest


def _foreign_files(storage: Storage, paths: pa.ChunkedArray, transaction: int) -> ForeignFiles:
    """The foreign files, of tables that are not too large to list."""
    if len(paths) > MOST_LISTED:
        return ForeignFiles()
    return not_ingested(storage, set(paths.to_pylist()), transaction)


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
