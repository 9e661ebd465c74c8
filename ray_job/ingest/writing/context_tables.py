"""Writing the context tables: small Delta tables of weather, holidays and stores.

Of each key a table has the row that was delivered last. A table is one file, rewritten as a whole.
"""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import pyarrow as pa
from deltalake import DeltaTable

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, InputError
from ray_job.bucket.storage import Storage
from ray_job.data.delta import (
    APP_ID,
    DataFile,
    add_columns,
    arrow_schema,
    check_table,
    commit,
    list_files,
    open_or_create,
    parquet_writer,
    replace_all_files,
    transaction_version,
)
from ray_job.data.parquet import conform, first_line, read_table
from ray_job.data.table_columns import check_context, check_context_rows
from ray_job.data.table_files import new_file_name
from ray_job.ingest.reading.batch import LoadedGroup
from ray_job.ingest.reading.groups import FILE
from ray_job.ingest.reading.kinds import kind_of
from ray_job.ingest.reading.workspace import Workspace, quote_name
from ray_job.ingest.writing.column_text import number_as_text

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
        check_table(storage, table, root)
        check_context(kind_name, arrow_schema(table), table.metadata().partition_columns)
        texts = {name for group in groups for name, kind in group.types.items() if kind == "text"}
        present = set(arrow_schema(table).names)
        needed = [*kind_of(kind_name).schema(), *new_columns]
        missing = [column for column in needed if column.name not in present]
        try:
            if _make_text(storage, root, table, texts, now):
                table = open_or_create(storage, root, kind_of(kind_name).schema())
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
    before = read_context_table(storage, root, table)
    check_context_rows(kind.name, before)
    merged = _newest_rows(workspace, root, kind.key, before, groups)
    if merged.equals(before):
        return False
    path, size = _write_file(storage, root, merged)
    replaced_files = [
        DataFile(row["path"], None, row["size"], row["rows"])
        for row in list_files(table).to_pylist()
    ]
    commit(
        table,
        [DataFile(path, None, size, merged.num_rows)],
        replaced_files,
        transaction=(APP_ID, transaction_version(table, APP_ID) + 1),
        now=now,
    )
    return True


def _make_text(
    storage: Storage, root: str, table: DeltaTable, texts: Collection[str], now: datetime
) -> bool:
    """Commit the table with the columns `texts` as text. False if they are text already."""
    schema = arrow_schema(table)
    after = pa.schema(
        [
            pa.field(field.name, pa.string())
            if field.name in texts and pa.types.is_floating(field.type)
            else field
            for field in schema
        ]
    )
    if after.equals(schema):
        return False
    rows = read_context_table(storage, root, table)
    for place, field in enumerate(after):
        if field != schema.field(place):
            rows = rows.set_column(place, field, number_as_text(rows.column(place)))
    path, size = _write_file(storage, root, rows.cast(after))
    replace_all_files(table, [DataFile(path, None, size, rows.num_rows)], after, now)
    return True


def _write_file(storage: Storage, root: str, rows: pa.Table) -> tuple[str, int]:
    """Write the only file of a table that nobody reads yet; its path and its size in bytes."""
    sink = pa.BufferOutputStream()
    with parquet_writer(sink, rows.schema) as writer:
        writer.write_table(rows)
    content = sink.getvalue().to_pybytes()
    path = f"{new_file_name()}.parquet"
    storage.write_unseen(f"{root}/{path}", content)
    storage.sync()
    return path, len(content)


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
    root: str,
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
    try:
        return merged.cast(before.schema)
    except pa.ArrowInvalid as error:  # a column of another program's table, such as days as text
        raise InputError(
            f"{root}: the table cannot be merged with the new rows: {first_line(error)}"
        ) from error
