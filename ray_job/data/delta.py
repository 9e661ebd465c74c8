"""The Delta tables of the bucket: opening, creating, listing and committing.

Other modules write the files; nobody reads a file before a commit names it. A table handle is a
snapshot: it does not change when a commit is made, not even by its own commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, CorruptError, StorageError
from ray_job.bucket.storage import Storage
from ray_job.bucket.storage.patience import PATIENCE
from ray_job.bucket.storage.refusals import ended_early, sentence_of, storage_error
from ray_job.data.delta_log import log_replay
from ray_job.data.delta_log.damage import has_commits, raise_damage
from ray_job.data.delta_log.file_statistics import column_of
from ray_job.data.delta_log.log_replay import FILES_SCHEMA, TableSnapshot, UnsupportedLogError
from ray_job.data.delta_log.table_features import deletion_vector_error, features_of

STORE = "store_id"
APP_ID = "ingest"
_REWRITE = "rewrite"
_USUAL_SECONDS = 30.0
"""A large table takes so long to open or to commit to."""
_CHECKPOINT_INTERVAL = "10"
"""Commits. Opening reads all since a checkpoint; 100,000 files are 47 MB, or 7 in a checkpoint."""
SALES_SCHEMA = pa.schema(
    [
        (STORE, pa.string()),
        ("item_id", pa.string()),
        ("date", pa.date32()),
        ("sales", pa.float64()),
        ("delivered_at", pa.timestamp("us", "UTC")),
        ("op", pa.string()),
    ]
)
"""The columns that every history has. Further columns are double or string."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file that a commit adds.

    Without dates and items its only statistic is the number of rows.
    """

    path: str
    store_id: str | None
    size: int
    rows: int
    first_date: date | None = None
    last_date: date | None = None
    first_item: str | None = None
    last_item: str | None = None
    modified: int | None = None


@contextmanager
def _translated_errors(root: str) -> Iterator[None]:
    """Raise errors of delta-rs as errors of this project."""
    with PATIENCE.call(root, _USUAL_SECONDS):
        try:
            yield
        except CommitFailedError as error:
            raise ConflictError(f"{root}: {sentence_of(error)}") from error
        except (DeltaError, OSError) as error:
            raise storage_error(root, error, sentence_of(error)) from error


def open_table(storage: Storage, root: str, *, to_write: bool = True) -> DeltaTable | None:
    """The newest snapshot of the table under `root`, None where there is no table.

    Raises CorruptError where delta-rs sees no table in a log, or, `to_write`, could not commit.
    """
    address, options = storage.delta(root)
    for attempt in range(2):  # another process may be making it
        try:
            with _translated_errors(root), suppress(TableNotFoundError):
                table = DeltaTable(address, storage_options=options)
                log_replay.check_newest_commit(storage, root, table.version(), to_write=to_write)
                return table
        except StorageError as error:
            raise_damage(storage, root, error)
            if attempt or not ended_early(error):
                raise
        # Delta-rs says the same of a log that it cannot list. A new table would be made on top.
        if not has_commits(storage, root):
            return None
    raise CorruptError(
        f"{root}: there is a log, but no table can be read from it: its first commit or a"
        " checkpoint is missing; restore the objects of the log"
    )


def open_or_create(
    storage: Storage, root: str, schema: pa.Schema, partition_by: Sequence[str] = ()
) -> DeltaTable:
    """The newest snapshot of the table; a new table with `schema` if there is none.

    Safe when several processes do it at once.
    """
    table = open_table(storage, root)
    if table is not None:
        return table
    address, options = storage.delta(root)
    with _translated_errors(root):
        # delta-rs refuses this where another process made the table first.
        with suppress(CommitFailedError):
            DeltaTable.create(
                address,
                Schema.from_arrow(schema),
                mode="ignore",
                partition_by=list(partition_by),
                configuration={"delta.checkpointInterval": _CHECKPOINT_INTERVAL},
                storage_options=options,
            )
        return DeltaTable(address, storage_options=options)


def arrow_schema(table: DeltaTable) -> pa.Schema:
    """The table's columns, its partition column included."""
    return pa.schema(table.schema().to_arrow())


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The columns that a file of the histories holds; the store id is in its path only."""
    return pa.schema([field for field in schema if field.name != STORE])


def add_columns(table: DeltaTable, fields: Sequence[pa.Field]) -> None:
    """Commit new columns, which are null in older files. Moves the handle to the newest version."""
    root = table.table_uri
    with _translated_errors(root):
        table.alter.add_columns(list(Schema.from_arrow(pa.schema(fields)).fields))
        table.update_incremental()


def transaction_version(table: DeltaTable, app_id: str) -> int:
    """The last application transaction of the snapshot, 0 where there is none."""
    return table.transaction_version(app_id) or 0


def commit(
    table: DeltaTable,
    added: Sequence[DataFile],
    removed: Sequence[DataFile] = (),
    *,
    transaction: tuple[str, int] | None = None,
    changes_data: bool = True,
    now: datetime,
) -> None:
    """Add and remove files in one commit, on top of the snapshot that `table` is.

    With `transaction` (app id, version) the commit is refused if a commit of the same app id came
    after the snapshot. Of two commits that remove files the second is refused, too, unless its
    snapshot contains the first. A refused commit raises ConflictError. A commit whose answer was
    lost may raise it as well: open the table again to see whether it is there.
    """
    transactions = [] if transaction is None else [transaction]
    if removed:
        # delta-rs accepts two commits that remove the same file, and its rows double, if the first
        # one changes no data. The second commit of the same application transaction is refused.
        transactions.append((_REWRITE, transaction_version(table, _REWRITE) + 1))
    milliseconds = int(now.timestamp() * 1000)
    actions: list[AddAction | RemoveAction] = [
        AddAction(
            file.path, file.size, _partition(file), milliseconds, changes_data, _statistics(file)
        )
        for file in added
    ]
    actions += [
        RemoveAction(file.path, changes_data, milliseconds, file.size, _partition(file))
        for file in removed
    ]
    properties = CommitProperties(
        app_transactions=[Transaction(*pair, milliseconds) for pair in transactions] or None
    )
    with _translated_errors(table.table_uri):
        table.create_write_transaction(
            actions,
            mode="append",
            schema=table.schema(),
            partition_by=table.metadata().partition_columns,
            commit_properties=properties,
        )


def replace_all_files(
    table: DeltaTable, added: Sequence[DataFile], schema: pa.Schema, now: datetime
) -> None:
    """Replace all files of the snapshot by files of another schema, in one commit.

    The rows must be the same, so that the application transaction of the ingests stays. Raises
    ConflictError if another commit was first.
    """
    milliseconds = int(now.timestamp() * 1000)
    transactions = [
        Transaction(app_id, transaction_version(table, app_id) + step, milliseconds)
        for app_id, step in ((_REWRITE, 1), (APP_ID, 0))
    ]
    actions = [
        AddAction(file.path, file.size, _partition(file), milliseconds, True, _statistics(file))
        for file in added
    ]
    with _translated_errors(table.table_uri):
        table.create_write_transaction(
            actions,
            mode="overwrite",
            schema=Schema.from_arrow(schema),
            partition_by=table.metadata().partition_columns,
            commit_properties=CommitProperties(app_transactions=transactions),
        )


def _partition(file: DataFile) -> Mapping[str, str | None]:
    return {} if file.store_id is None else {STORE: file.store_id}


def _statistics(file: DataFile) -> str:
    statistics: dict[str, Any] = {"numRecords": file.rows}
    if file.first_date is not None and file.last_date is not None:
        statistics["minValues"] = {"item_id": file.first_item, "date": file.first_date.isoformat()}
        statistics["maxValues"] = {"item_id": file.last_item, "date": file.last_date.isoformat()}
        statistics["nullCount"] = {"item_id": 0, "date": 0}
    return json.dumps(statistics)


def open_snapshot(storage: Storage, root: str) -> TableSnapshot | None:
    """The newest snapshot of the table under `root`, for readers; None where there is no table.

    `log_replay` takes half the memory and time of delta-rs, which is used where the log has
    something that `log_replay` does not support.
    """
    with suppress(UnsupportedLogError):
        return log_replay.read(storage, root)
    table = open_table(storage, root, to_write=False)
    if table is None:
        return None
    features = features_of(table)
    features.check_readable(root)
    if "deletionVectors" in features.reader_features:
        # The list of files of delta-rs does not say which of them have one.
        raise deletion_vector_error(root, "a file")
    transactions = {APP_ID: transaction_version(table, APP_ID)}
    files = list_files(table)
    paths = pa.array([unquote(path) for path in files["path"].to_pylist()], pa.string())
    files = files.set_column(files.column_names.index("path"), "path", paths)
    return TableSnapshot(table.version(), arrow_schema(table), transactions, files, features)


def check_table(storage: Storage, table: DeltaTable, root: str) -> None:
    """Raise InputError, which names the feature, if the table cannot be read or written."""
    features = features_of(table)
    features.check_readable(root)
    features.check_writable(root)
    if "deletionVectors" in features.reader_features:
        # This refuses the table if a file has one.
        open_snapshot(storage, root)


def list_files(table: DeltaTable) -> pa.Table:
    """The snapshot's files (FILES_SCHEMA), one row each, in order of (store_id, path).

    Paths are relative to the table's root: `store_id=7/….parquet`.
    """
    actions = pa.table(table.get_add_actions(flatten=True))
    columns = {
        "path": "path",
        "store_id": f"partition.{STORE}",
        "size": "size_bytes",
        "rows": "num_records",
        "first_date": "min.date",
        "last_date": "max.date",
        "first_item": "min.item_id",
        "last_item": "max.item_id",
        "modified": "modification_time",
    }
    arrays = [column_of(actions, columns[field.name], field.type) for field in FILES_SCHEMA]
    order = [("store_id", "ascending"), ("path", "ascending")]
    return pa.table(arrays, schema=FILES_SCHEMA).sort_by(order)


def partition_key(path: str) -> str:
    """The bucket's key of a file of the histories, from its path in the table."""
    return f"{keys.BATCH_DATA}/{path}"


def logged_key(path: str) -> str:
    """The same from a path as it is in the log and in `list_files`."""
    return partition_key(unquote(path))


def partition_keys(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """`partition_key` of each path, in Arrow: a million of Python's strings would take 300 MB."""
    return pc.binary_join_element_wise(pa.scalar(keys.BATCH_DATA), paths, pa.scalar("/"))


def parquet_writer(sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """The writer of every file of a table.

    Small objects are read twice as fast with lz4 and without dictionaries. Pages have checksums.
    Statistics are there for the plan.
    """
    return pq.ParquetWriter(
        sink,
        schema,
        compression="lz4",
        use_dictionary=False,
        write_page_checksum=True,
        write_statistics=[name for name in ("item_id", "date") if name in schema.names],
        store_schema=False,
    )
