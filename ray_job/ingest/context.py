"""Weather, holidays and stores: small Delta tables in which a newer delivery's rows win."""

# Names and texts in SQL are quoted by `workspace`.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError
from ray_job.bucket.storage import Storage
from ray_job.data.delta import (
    APP_ID,
    DataFile,
    add_columns,
    arrow_schema,
    commit,
    list_files,
    open_or_create,
    parquet_writer,
    transaction_version,
)
from ray_job.data.parquet import read_batches
from ray_job.ingest.batch import Loaded
from ray_job.ingest.kinds import kind_of
from ray_job.ingest.load import FILE
from ray_job.ingest.workspace import Workspace, name

_ROUNDS = 20


def merge_context(
    work: Workspace,
    storage: Storage,
    loaded: Sequence[Loaded],
    new_columns: Sequence[pa.Field],
    now: datetime,
) -> None:
    """Bring files of one kind into its table: of each key the row that was delivered last stays.

    The deliveries are noted already. Idempotent, and indifferent to the order in which deliveries
    are merged: whoever loses a race, or its answer, merges again. The table is one file, rewritten
    as a whole.
    """
    kind = loaded[0].group.kind.name
    root = keys.context(kind)
    for _ in range(_ROUNDS):
        table = open_or_create(storage, root, kind_of(kind).schema())
        there = set(arrow_schema(table).names)
        missing = [one for one in new_columns if one.name not in there]
        try:
            if missing:
                add_columns(table, missing)
            if not _merge(work, storage, table, loaded, now):
                return
        except ConflictError:
            continue
    raise ConflictError(f"{root}: {_ROUNDS} times another ingest committed first")


def _merge(
    work: Workspace,
    storage: Storage,
    table: DeltaTable,
    loaded: Sequence[Loaded],
    now: datetime,
) -> bool:
    """Merge into this snapshot and commit; False where nothing was left to change."""
    kind = loaded[0].group.kind
    root = keys.context(kind.name)
    schema = arrow_schema(table)
    before = read_table(storage, root, table)
    merged = _newest(work, kind.key, before, loaded)
    if merged.equals(before):
        return False
    sink = pa.BufferOutputStream()
    with parquet_writer(sink, schema) as writer:
        writer.write_table(merged)
    data = sink.getvalue().to_pybytes()
    path = f"{uuid4().hex}.parquet"
    storage.write_unseen(f"{root}/{path}", data)
    storage.sync()
    old = [
        DataFile(row["path"], None, row["size"], row["rows"])
        for row in list_files(table).to_pylist()
    ]
    commit(
        table,
        [DataFile(path, None, len(data), merged.num_rows)],
        old,
        transaction=(APP_ID, transaction_version(table, APP_ID) + 1),
        now=now,
    )
    return True


def read_table(storage: Storage, root: str, table: DeltaTable) -> pa.Table:
    """All rows of a small table without partitions. Raises NotFoundError, CorruptError."""
    schema = arrow_schema(table)
    batches = [
        batch
        for row in list_files(table).to_pylist()
        for batch in read_batches(storage, f"{root}/{row['path']}", row["size"], schema)
    ]
    return pa.Table.from_batches(batches, schema)


def _newest(
    work: Workspace,
    key: Sequence[str],
    before: pa.Table,
    loaded: Sequence[Loaded],
) -> pa.Table:
    """Of the table's rows and the files' the last delivered of each key, sorted by key."""
    columns = ", ".join(map(name, key))
    work.connection.register("before", before)
    parts = [f"SELECT * FROM {name('before')}"]
    for one in loaded:
        further = "".join(f", {sql} AS {name(column)}" for column, sql in one.values.items())
        parts.append(
            f"SELECT {columns}{further}, make_timestamptz(__delivered) AS delivered_at"
            f" FROM {one.group.table} JOIN deliveries USING ({FILE})"
        )
    wanted = ", ".join(map(name, before.schema.names))
    try:
        merged = work.connection.sql(
            f"SELECT {wanted} FROM ({' UNION ALL BY NAME '.join(parts)})"
            f" QUALIFY row_number() OVER (PARTITION BY {columns} ORDER BY delivered_at DESC) = 1"
            f" ORDER BY {columns}"
        ).to_arrow_table()
    finally:
        work.connection.unregister("before")
    return merged.cast(before.schema)
