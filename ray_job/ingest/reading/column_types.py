"""The types of further columns. Some are known only after all files of a group were read."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping

from ray_job.ingest.reading.expressions import NOT_A_NUMBER, reads_both_ways
from ray_job.ingest.reading.groups import FILE, FileGroup, value_column
from ray_job.ingest.reading.notation import dots_sql, number_pattern, number_sql
from ray_job.ingest.reading.raw_files import BadFilesError, bad_file
from ray_job.ingest.reading.shapes import Column
from ray_job.ingest.reading.way_out import both_ways, toml_key
from ray_job.ingest.reading.workspace import Workspace, quote_text
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
        if declared_type == "number" and known_type == "text":
            raise bad_file(
                first_file,
                f"{label} is number in the settings but text in the table: declare it as text",
            )
        types[column.name] = declared_type or known_type or group.kind.types.get(column.name)
    return types


def settle_types(
    workspace: Workspace, group: FileGroup, types: Mapping[str, ColumnType | None]
) -> dict[str, ColumnType]:
    """The types of the further columns, without columns that hold no value in any file.

    `types` are those of `expected_types`. A column of a CSV file whose type is not known is a
    number if each of its values is one. Raises BadFilesError for numbers that are not finite, and
    for numbers that read in two ways.
    """
    settled = {column: kind for column, kind in types.items() if kind is not None}
    unknown = [column for column in group.further_columns() if types.get(column.name) is None]
    if not unknown:
        return settled
    ambiguous = {
        column.name
        for column in unknown
        if column.file_type == "untyped" and column.name not in group.kind.flags
    }
    if not reads_both_ways(group):
        ambiguous = set()
    comma = quote_text(number_pattern(",", None))
    counts = ", ".join(
        f"count({value}), count({number}), count(*) FILTER (isfinite({number})),"
        f" {_commas(value, comma) if column.name in ambiguous else 0}"
        for column in unknown
        for value, number in [(value_column(column.name), _number(group, column.name))]
    )
    [counted] = workspace.run(f"SELECT {counts} FROM {group.table}")
    for column, values, numbers, finite, commas in zip(
        unknown, *(counted[place::4] for place in range(4)), strict=True
    ):
        if values == 0:
            continue
        is_flag = column.name in group.kind.flags
        is_text = column.file_type in ("text", "day") and not is_flag
        settled[column.name] = "text" if is_text or numbers < values else "number"
        if settled[column.name] == "number" and finite < values:
            raise _not_finite(workspace, group, column.name, column.header)
        if column.name in ambiguous:
            value = value_column(column.name)
            if settled[column.name] == "number":
                check_dots(workspace, group, {column.name: dots_sql(value)})
            elif commas == values:
                raise _decimal_comma(workspace, group, column)
    return settled


def _commas(value: str, pattern: str) -> str:
    return f"count(*) FILTER (regexp_full_match({value}::VARCHAR, {pattern}))"


def check_dots(workspace: Workspace, group: FileGroup, dots: Mapping[str, str]) -> None:
    """Raise BadFilesError for files with a column in which every point reads in two ways.

    `dots` is, by column, SQL of `dots_sql` on the group's table.
    """
    problems: dict[str, str] = {}
    for name, sql in dots.items():
        column = next(each for each in group.columns if each.name == name)
        for number, row, value in workspace.run(
            f"SELECT {FILE}, min(rowid) FILTER (({sql}) > ''), arg_min({sql}, rowid)"
            f" FROM {group.table} GROUP BY {FILE} HAVING min({sql}) > ''"
        ):
            place = group.row_number(workspace, number, row)
            sentence = f"row {place}: {both_ways(group, column, value)}"
            problems.setdefault(group.file(number).name, sentence)
    if problems:
        raise BadFilesError(problems)


def typed_value(
    group: FileGroup, column: str, types: Mapping[str, ColumnType | None], settled: ColumnType
) -> str:
    """SQL of a further column of the group's table in its settled type."""
    is_stored_as_text = types.get(column) is None and _number(group, column) != value_column(column)
    if settled == "number" and is_stored_as_text:
        return number_sql(value_column(column), group.delivery)
    return value_column(column)


def _number(group: FileGroup, column: str) -> str:
    """SQL, as a number, of a column whose type was not known when the group was loaded."""
    file_type = next(each.file_type for each in group.columns if each.name == column)
    if file_type in ("number", "integer") or column in group.kind.flags:
        return value_column(column)
    if file_type != "untyped":
        return "CAST(NULL AS DOUBLE)"
    return number_sql(value_column(column), group.delivery)


def _not_finite(workspace: Workspace, group: FileGroup, column: str, header: str) -> BadFilesError:
    number = _number(group, column)
    bad_rows = workspace.run(
        f"SELECT min(rowid) AS first, {FILE}, arg_min({value_column(column)}::VARCHAR, rowid)"
        f" FROM {group.table} WHERE NOT isfinite({number}) GROUP BY {FILE} ORDER BY first"
    )
    return BadFilesError(
        {
            group.file(file_number).name: f"row {group.row_number(workspace, file_number, row)}:"
            f' the column {header} has the value "{value}", which {NOT_A_NUMBER}'
            for row, file_number, value in bad_rows
        }
    )


def _decimal_comma(workspace: Workspace, group: FileGroup, column: Column) -> BadFilesError:
    """The error for files with a further column whose values are numbers with a decimal comma."""
    value_sql = value_column(column.name)
    rows = workspace.run(
        f"SELECT {FILE}, min(rowid), arg_min({value_sql}, rowid) FROM {group.table}"
        f" WHERE contains({value_sql}, ',') GROUP BY {FILE}"
    )
    return BadFilesError(
        {
            group.file(number).name: (
                f"row {group.row_number(workspace, number, row)}: the column {column.header} has"
                f' the value "{value}", which is not a number as it is: put decimal = "," under'
                f" [{group.kind.name}] in the settings, or types = {{ {toml_key(column.name)} ="
                ' "text" } if it is text'
            )
            for number, row, value in rows
        }
    )
