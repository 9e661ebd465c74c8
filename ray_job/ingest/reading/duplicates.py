"""Rows of one file with the same key: equal ones are dropped, different ones are an error."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.ingest.reading.groups import FILE, MOMENT, FileGroup
from ray_job.ingest.reading.kinds import SALES
from ray_job.ingest.reading.raw_files import BadFilesError
from ray_job.ingest.reading.workspace import Workspace, united


def resolve_duplicates(
    workspace: Workspace, groups: Sequence[FileGroup], values: Mapping[int, Mapping[str, str]]
) -> None:
    """Delete all but the first of equal rows of a file from the tables of the groups of a kind.

    `values` is the SQL of the further columns by the group's first file. Creates the table
    `repeated_table` with the hashes (`h`) of keys that occur more than once, in one file or in
    several. Raises BadFilesError, with the numbers of two rows, for files in which rows of the same
    key differ.
    """
    if not groups:
        return
    kind = groups[0].kind
    key = ", ".join(kind.key)
    # The memory of a sort does not grow with the number of rows, that of GROUP BY does. Rows whose
    # hashes collide are compared below.
    hashes = united([f"SELECT hash({key}) AS hash FROM {group.table}" for group in groups])
    sorted_hashes = workspace.stream(f"SELECT hash FROM {hashes} ORDER BY hash")
    repeated = repeated_values(batch.column("hash") for batch in sorted_hashes)
    hashes_table = pa.table({"h": pa.chunked_array(repeated, pa.uint64())})
    workspace.connection.register("repeated_stream", hashes_table)
    workspace.run(
        f"CREATE OR REPLACE TEMP TABLE {repeated_table(kind.name)} AS"
        " SELECT DISTINCT h FROM repeated_stream"
    )
    workspace.connection.unregister("repeated_stream")
    if not repeated:
        return
    problems: dict[str, str] = {}
    for group in groups:
        problems |= _conflicts(workspace, group, values[group.first])
    if problems:
        raise BadFilesError(problems)
    for group in groups:
        same_key = _same_key((FILE, *kind.key))
        workspace.run(
            f"DELETE FROM {group.table} r USING {_duplicates(group)} d"
            f" WHERE {same_key} AND r.rowid <> d.__kept"
        )


def repeated_table(kind_name: str) -> str:
    return f"repeated_{kind_name}"


def _duplicates(group: FileGroup) -> str:
    return f"duplicates_{group.first}"


def _same_key(columns: Sequence[str]) -> str:
    return " AND ".join(f"r.{column} = d.{column}" for column in columns)


def _conflicts(workspace: Workspace, group: FileGroup, values: Mapping[str, str]) -> dict[str, str]:
    """Make the table `_duplicates`, and find the files in which rows of the same key differ."""
    key = ", ".join((FILE, *group.kind.key))
    repeated = repeated_table(group.kind.name)
    workspace.run(
        f"CREATE OR REPLACE TEMP TABLE {_duplicates(group)} AS"
        f" SELECT {key}, min(rowid) AS __kept FROM {group.table}"
        f" WHERE hash({', '.join(group.kind.key)}) IN (SELECT h FROM {repeated})"
        f" GROUP BY {key} HAVING count(*) > 1"
    )
    content = ", ".join((*values.values(), "0"))
    conflicts = workspace.run(
        f"SELECT r.{FILE}, d.__kept, r.rowid, a.{MOMENT} IS DISTINCT FROM b.{MOMENT}"
        f" FROM {group.table} r JOIN {_duplicates(group)} d ON {_same_key((FILE, *group.kind.key))}"
        f" JOIN (SELECT rowid AS __row, {MOMENT}, ({content}) AS __content FROM {group.table}) a"
        f" ON a.__row = d.__kept"
        f" JOIN (SELECT rowid AS __row, {MOMENT}, ({content}) AS __content FROM {group.table}) b"
        f" ON b.__row = r.rowid"
        f" WHERE a.__content IS DISTINCT FROM b.__content"
        f" OR a.{MOMENT} IS DISTINCT FROM b.{MOMENT}"
        f" QUALIFY row_number() OVER (PARTITION BY r.{FILE} ORDER BY r.rowid) = 1 ORDER BY r.rowid"
    )
    problems = {}
    for file_number, *table_rows, is_of_moments in conflicts:
        first, second = (group.row_number(workspace, file_number, row) for row in table_rows)
        same = ", ".join(group.kind.key)
        if not is_of_moments:
            sentence = (
                f"rows {first} and {second} have the same {same} but differ: keep one of them"
            )
        elif group.kind.name == SALES:
            sentence = (
                f"rows {first} and {second} have the same {same}, but are of different times of the"
                ' day: put rows = "transactions" under [sales] in the settings, so that the rows of'
                " a day are added up"
            )
        else:
            sentence = (
                f"rows {first} and {second} have the same {same}, but are of different times of the"
                " day: deliver one row a day"
            )
        problems[group.file(file_number).name] = sentence
    return problems


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
