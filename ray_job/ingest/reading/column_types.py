"""The types of further columns. Some are known only after all files of a group were read."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping

from ray_job.ingest.reading.expressions import NOT_A_NUMBER, as_number
from ray_job.ingest.reading.groups import FILE, FileGroup
from ray_job.ingest.reading.raw_files import BadFilesError, bad_file
from ray_job.ingest.reading.workspace import Workspace, quote_name
from ray_job.settings import ColumnType


def expected_types(
    group: FileGroup, declared: Mapping[str, ColumnType], known: Mapping[str, ColumnType]
) -> dict[str, ColumnType | None]:
    """The type of each further column as the settings or the table know it, else None.

    `declared` are the types of the settings, `known` those of the table and of earlier files.
    Raises BadFilesError, in the name of the first file, if a column differs from a known one by
    capitals only, since Delta does not allow both, or if the settings contradict the table.
    """
    known_by_folded = {name.casefold(): name for name in known}
    types: dict[str, ColumnType | None] = {}
    for column in group.further_columns():
        first_file, label = group.files[0].name, f"the column {column.header}"
        known_name = known_by_folded.get(column.name.casefold(), column.name)
        if known_name != column.name:
            raise bad_file(
                first_file,
                f"{label} differs from the table's column {known_name} by capitals only:"
                " give its header under columns in the settings",
            )
        declared_type, known_type = declared.get(column.name), known.get(column.name)
        if declared_type is not None and known_type is not None and declared_type != known_type:
            raise bad_file(
                first_file,
                f"{label} is {declared_type} in the settings but {known_type} in the table:"
                f" declare it as {known_type}",
            )
        types[column.name] = known_type or declared_type or group.kind.types.get(column.name)
    return types


def settle_types(
    workspace: Workspace, group: FileGroup, types: Mapping[str, ColumnType | None]
) -> dict[str, ColumnType]:
    """The types of the further columns, without columns that hold no value in any file.

    `types` are those of `expected_types`. A column of a CSV file whose type is not known is a
    number if each of its values is one. Raises BadFilesError for numbers that are not finite.
    """
    settled = {column: kind for column, kind in types.items() if kind is not None}
    unknown = [column for column in group.further_columns() if types.get(column.name) is None]
    if not unknown:
        return settled
    counts = ", ".join(
        f"count({quote_name(column.name)}), count({number}), count(*) FILTER (isfinite({number}))"
        for column in unknown
        for number in [_number(group, column.name)]
    )
    [counted] = workspace.run(f"SELECT {counts} FROM {group.table}")
    for column, values, numbers, finite in zip(
        unknown, counted[::3], counted[1::3], counted[2::3], strict=True
    ):
        if values == 0:
            continue
        is_text = column.file_type in ("text", "day")
        settled[column.name] = "text" if is_text or numbers < values else "number"
        if settled[column.name] == "number" and finite < values:
            raise _not_finite(workspace, group, column.name, column.header)
    return settled


def typed_value(
    group: FileGroup, column: str, types: Mapping[str, ColumnType | None], settled: ColumnType
) -> str:
    """SQL of a further column of the group's table in its settled type."""
    is_stored_as_text = types.get(column) is None and _number(group, column) != quote_name(column)
    if settled == "number" and is_stored_as_text:
        return as_number(quote_name(column))
    return quote_name(column)


def _number(group: FileGroup, column: str) -> str:
    """SQL, as a number, of a column whose type was not known when the group was loaded."""
    file_type = next(each.file_type for each in group.columns if each.name == column)
    if file_type in ("number", "integer"):
        return quote_name(column)
    return as_number(quote_name(column)) if file_type == "untyped" else "CAST(NULL AS DOUBLE)"


def _not_finite(workspace: Workspace, group: FileGroup, column: str, header: str) -> BadFilesError:
    number = _number(group, column)
    bad_rows = workspace.run(
        f"SELECT min(rowid) AS first, {FILE}, arg_min({quote_name(column)}::VARCHAR, rowid)"
        f" FROM {group.table} WHERE NOT isfinite({number}) GROUP BY {FILE} ORDER BY first"
    )
    return BadFilesError(
        {
            group.file(file_number).name: f"row {group.row_number(workspace, file_number, row)}:"
            f' the column {header} has the value "{value}", which {NOT_A_NUMBER}'
            for row, file_number, value in bad_rows
        }
    )
