"""Rows of one file with the same key: equal ones are dropped, different ones are an error."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.ingest.reading.groups import FILE, FileGroup
from ray_job.ingest.reading.raw_files import BadFilesError
from ray_job.ingest.reading.workspace import Workspace, quote_name


def drop_duplicates(workspace: Workspace, group: FileGroup, values: Mapping[str, str]) -> None:
    """Delete all but the first of equal rows of a file from the group's table.

    `values` is the SQL of the further columns. Raises BadFilesError, with the numbers of two rows,
    for files in which rows of the same key differ.
    """
    key = ", ".join((FILE, *map(quote_name, group.kind.key)))
    # The memory of a sort does not grow with the number of rows, that of GROUP BY does. Rows whose
    # hashes collide are compared below.
    hashes = workspace.stream(f"SELECT hash({key}) AS hash FROM {group.table} ORDER BY hash")
    repeated = repeated_values(batch.column("hash") for batch in hashes)
    if not repeated:
        return
    workspace.connection.register("repeated", pa.table({"hash": pa.chunked_array(repeated)}))
    content = ", ".join((*values.values(), "0"))
    workspace.run(
        f"CREATE OR REPLACE TEMP TABLE duplicates AS"
        f" SELECT {key}, min(rowid) AS __kept FROM {group.table}"
        f" WHERE hash({key}) IN (SELECT hash FROM repeated)"
        f" GROUP BY {key} HAVING count(*) > 1"
    )
    same_key = " AND ".join(
        f"r.{quote_name(column)} = d.{quote_name(column)}" for column in (FILE, *group.kind.key)
    )
    conflicts = workspace.run(
        f"SELECT r.{FILE}, d.__kept, r.rowid FROM {group.table} r JOIN duplicates d ON {same_key}"
        f" JOIN (SELECT rowid AS __row, ({content}) AS __content FROM {group.table}) a"
        f" ON a.__row = d.__kept"
        f" JOIN (SELECT rowid AS __row, ({content}) AS __content FROM {group.table}) b"
        f" ON b.__row = r.rowid"
        f" WHERE a.__content IS DISTINCT FROM b.__content"
        f" QUALIFY row_number() OVER (PARTITION BY r.{FILE} ORDER BY r.rowid) = 1 ORDER BY r.rowid"
    )
    problems = {}
    for file_number, *table_rows in conflicts:
        first, second = (group.row_number(workspace, file_number, row) for row in table_rows)
        problems[group.file(file_number).name] = (
            f"rows {first} and {second} have the same {', '.join(group.kind.key)} but differ:"
            " keep one of them"
        )
    if problems:
        raise BadFilesError(problems)
    workspace.run(
        f"DELETE FROM {group.table} r USING duplicates d WHERE {same_key} AND r.rowid <> d.__kept"
    )


def repeated_values(sorted_batches: Iterable[pa.Array]) -> list[pa.Array]:
    """The values of a sorted stream that equal the value before them, in this batch or the last."""
    repeated: list[pa.Array] = []
    last: pa.Array | None = None
    for batch in sorted_batches:
        values = batch if last is None else pa.concat_arrays([last, batch])
        later = values.slice(1)
        equal = later.filter(pc.equal(later, values.slice(0, len(later))))
        if len(equal):
            repeated.append(equal)
        last = values.slice(max(len(values) - 1, 0))
    return repeated
