"""Types of further columns and duplicates: what can be told only when a file was read whole."""

# Names and texts in SQL are quoted by `workspace`.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.ingest.bad import BadFilesError, bad_file
from ray_job.ingest.load import FILE, Group, as_number, row_of
from ray_job.ingest.workspace import Workspace, name
from ray_job.settings import ColumnType


def expected_types(
    group: Group, declared: Mapping[str, ColumnType], known: Mapping[str, ColumnType]
) -> dict[str, ColumnType | None]:
    """The type of each further column, as far as the settings or the table know it.

    `known` are the table's columns and those of the files before. Raises BadFilesError where a
    column's name differs from a known one by capitals only, which Delta cannot hold apart, and
    where the settings contradict the table.
    """
    folded = {one.casefold(): one for one in known}
    types: dict[str, ColumnType | None] = {}
    for column in group.further():
        first, whose = group.sources[0].name, f"the column {column.header}"
        twin = folded.get(column.name.casefold(), column.name)
        if twin != column.name:
            raise bad_file(
                first, f"{whose} differs from the table's column {twin} by capitals only"
            )
        told, there = declared.get(column.name), known.get(column.name)
        if told is not None and there is not None and told != there:
            raise bad_file(first, f"{whose} is {told} in the settings but {there} in the table")
        types[column.name] = there or told or group.kind.types.get(column.name)
    return types


def settle_types(
    work: Workspace, group: Group, types: Mapping[str, ColumnType | None]
) -> dict[str, ColumnType]:
    """The types of all further columns that hold a value anywhere in the group.

    A column of a CSV file whose type is not known holds numbers if every value is one.
    """
    settled = {name: kind for name, kind in types.items() if kind is not None}
    unknown = [column for column in group.further() if types.get(column.name) is None]
    if not unknown:
        return settled
    counts = ", ".join(
        f"count({name(column.name)}), count({number}), count(*) FILTER (isfinite({number}))"
        for column in unknown
        for number in [_number(group, column.name)]
    )
    [counted] = work.run(f"SELECT {counts} FROM {group.table}")
    for column, values, numbers, finite in zip(
        unknown, counted[::3], counted[1::3], counted[2::3], strict=True
    ):
        if values == 0:
            continue
        is_text = column.found in ("text", "day")
        settled[column.name] = "text" if is_text or numbers < values else "number"
        if settled[column.name] == "number" and finite < values:
            raise _not_finite(work, group, column.name, column.header)
    return settled


def _number(group: Group, column: str) -> str:
    found = next(one.found for one in group.columns if one.name == column)
    if found in ("number", "integer"):
        return name(column)
    return as_number(name(column)) if found == "untyped" else "CAST(NULL AS DOUBLE)"


def value(
    group: Group, column: str, types: Mapping[str, ColumnType | None], settled: ColumnType
) -> str:
    """SQL for a further column of the group's table in its settled type."""
    loaded_as_text = types.get(column) is None and _number(group, column) != name(column)
    return as_number(name(column)) if settled == "number" and loaded_as_text else name(column)


def _not_finite(work: Workspace, group: Group, column: str, header: str) -> BadFilesError:
    number = _number(group, column)
    found = work.run(
        f"SELECT min(rowid) AS first, {FILE}, arg_min({name(column)}::VARCHAR, rowid)"
        f" FROM {group.table} WHERE NOT isfinite({number}) GROUP BY {FILE} ORDER BY first"
    )
    return BadFilesError(
        {
            group.source(file).name: f"row {row_of(work, group, file, row)}:"
            f" the column {header} is {told}, which is not a number"
            for row, file, told in found
        }
    )


def drop_duplicates(work: Workspace, group: Group, values: Mapping[str, str]) -> None:
    """Keep one of the rows of a file that are equal; `values` is the SQL of further columns.

    Raises BadFilesError, with the numbers of two rows, where rows of one key differ.
    """
    key = ", ".join((FILE, *map(name, group.kind.key)))
    # A sort needs the same memory for any number of rows; grouping them takes more the more there
    # are. A collision of hashes costs the exact look below.
    hashes = work.stream(f"SELECT hash({key}) AS hash FROM {group.table} ORDER BY hash")
    repeated = repeats(batch.column("hash") for batch in hashes)
    if not repeated:
        return
    work.connection.register("repeated", pa.table({"hash": pa.chunked_array(repeated)}))
    content = ", ".join((*values.values(), "0"))
    work.run(
        f"CREATE OR REPLACE TEMP TABLE duplicates AS"
        f" SELECT {key}, min(rowid) AS __kept FROM {group.table}"
        f" WHERE hash({key}) IN (SELECT hash FROM repeated)"
        f" GROUP BY {key} HAVING count(*) > 1"
    )
    same = " AND ".join(
        f"r.{name(column)} = d.{name(column)}" for column in (FILE, *group.kind.key)
    )
    conflicts = work.run(
        f"SELECT r.{FILE}, d.__kept, r.rowid FROM {group.table} r JOIN duplicates d ON {same}"
        f" JOIN (SELECT rowid AS __row, ({content}) AS __content FROM {group.table}) a"
        f" ON a.__row = d.__kept"
        f" JOIN (SELECT rowid AS __row, ({content}) AS __content FROM {group.table}) b"
        f" ON b.__row = r.rowid"
        f" WHERE a.__content IS DISTINCT FROM b.__content"
        f" QUALIFY row_number() OVER (PARTITION BY r.{FILE} ORDER BY r.rowid) = 1 ORDER BY r.rowid"
    )
    bad = {}
    for file, first, second in conflicts:
        one, other = (row_of(work, group, file, row) for row in (first, second))
        columns = ", ".join(group.kind.key)
        bad[group.source(file).name] = f"rows {one} and {other} have the same {columns} but differ"
    if bad:
        raise BadFilesError(bad)
    work.run(f"DELETE FROM {group.table} r USING duplicates d WHERE {same} AND r.rowid <> d.__kept")


def repeats(sorted_batches: Iterable[pa.Array]) -> list[pa.Array]:
    """The values of a sorted stream that equal the one before them, also across batches."""
    found: list[pa.Array] = []
    last: pa.Array | None = None
    for batch in sorted_batches:
        values = batch if last is None else pa.concat_arrays([last, batch])
        later = values.slice(1)
        again = later.filter(pc.equal(later, values.slice(0, len(later))))
        if len(again):
            found.append(again)
        last = values.slice(max(len(values) - 1, 0))
    return found
