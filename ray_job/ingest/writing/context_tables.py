"""Writing the context tables: small Delta tables of weather, holidays and stores.

Of each key a table has the row that was delivered last. A table is one file, rewritten as a whole.
"""

# `workspace` quotes all names and texts in SQL.
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
from ray_job.data.parquet import conform, read_table
from ray_job.ingest.reading.batch import LoadedGroup
from ray_job.ingest.reading.groups import FILE
from ray_job.ingest.reading.kinds import kind_of
from ray_job.ingest.reading.workspace import Workspace, quote_name

_ATTEMPTS = 20


def merge_context(
    workspace: Workspace,
    storage: Storage,
    groups: Sequence[LoadedGroup],
    new_columns: Sequence[pa.Field],
    now: datetime,
) -> None:
    """Merge the rows of files of one kind into its table, in one commit.

    Needs the table `deliveries` in DuckDB. Idempotent, and the order of merges makes no difference:
    after a lost race, or a lost answer, the rows are merged again. Raises ConflictError after many
    lost races.
    """
    kind_name = groups[0].files.kind.name
    root = keys.context(kind_name)
    for _ in range(_ATTEMPTS):
        table = open_or_create(storage, root, kind_of(kind_name).schema())
        present = set(arrow_schema(table).names)
        missing = [column for column in new_columns if column.name not in present]
        try:
            if missing:
                add_columns(table, missing)
            if not _merge(workspace, storage, table, groups, now):
                return
        except ConflictError:
            continue
    raise ConflictError(
        f"{root}: another ingest was faster {_ATTEMPTS} times in a row: try again later"
    )


def _merge(
    workspace: Workspace,
    storage: Storage,
    table: DeltaTable,
    groups: Sequence[LoadedGroup],
    now: datetime,
) -> bool:
    """Merge into this snapshot of the table and commit. False if there is nothing to change."""
    kind = groups[0].files.kind
    root = keys.context(kind.name)
    schema = arrow_schema(table)
    before = read_context_table(storage, root, table)
    merged = _newest_rows(workspace, kind.key, before, groups)
    if merged.equals(before):
        return False
    sink = pa.BufferOutputStream()
    with parquet_writer(sink, schema) as writer:
        writer.write_table(merged)
    content = sink.getvalue().to_pybytes()
    path = f"{uuid4().hex}.parquet"
    storage.write_unseen(f"{root}/{path}", content)
    storage.sync()
    replaced_files = [
        DataFile(row["path"], None, row["size"], row["rows"])
        for row in list_files(table).to_pylist()
    ]
    commit(
        table,
        [DataFile(path, None, len(content), merged.num_rows)],
        replaced_files,
        transaction=(APP_ID, transaction_version(table, APP_ID) + 1),
        now=now,
    )
    return True


def read_context_table(storage: Storage, root: str, table: DeltaTable) -> pa.Table:
    """All rows of a snapshot of the table at `root`, in the columns of its schema.

    Raises NotFoundError, CorruptError or StorageError.
    """
    schema = arrow_schema(table)
    batches = [
        conform(batch, schema)
        for row in list_files(table).to_pylist()
        for batch in read_table(storage, f"{root}/{row['path']}", row["size"]).to_batches()
    ]
    return pa.Table.from_batches(batches, schema)


def _newest_rows(
    workspace: Workspace,
    key: Sequence[str],
    before: pa.Table,
    groups: Sequence[LoadedGroup],
) -> pa.Table:
    """Of each key the row that was delivered last, in `before` or in the files, sorted by key."""
    key_columns = ", ".join(map(quote_name, key))
    workspace.connection.register("before", before)
    selects = [f"SELECT * FROM {quote_name('before')}"]
    for group in groups:
        further = "".join(
            f", {sql} AS {quote_name(column)}" for column, sql in group.values.items()
        )
        selects.append(
            f"SELECT {key_columns}{further}, make_timestamptz(__delivered) AS delivered_at"
            f" FROM {group.files.table} JOIN deliveries USING ({FILE})"
        )
    columns = ", ".join(map(quote_name, before.schema.names))
    try:
        merged = workspace.connection.sql(
            f"SELECT {columns} FROM ({' UNION ALL BY NAME '.join(selects)})"
            f" QUALIFY row_number()"
            f" OVER (PARTITION BY {key_columns} ORDER BY delivered_at DESC) = 1"
            f" ORDER BY {key_columns}"
        ).to_arrow_table()
    finally:
        workspace.connection.unregister("before")
    return merged.cast(before.schema)
