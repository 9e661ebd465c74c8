"""Reading the files of a group into its table, and the check of each row."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from ray_job.ingest.reading.column_types import check_dots
from ray_job.ingest.reading.expressions import RowSql, dots_column, raw_column, row_sql
from ray_job.ingest.reading.groups import FILE, UNREADABLE, FileGroup, unreadable
from ray_job.ingest.reading.plain_text import DAMAGED_GZIP, plain_copy
from ray_job.ingest.reading.raw_files import BadFilesError, RawFile, same_problem
from ray_job.ingest.reading.shapes import DAMAGED_PARQUET, PATH_INDEX
from ray_job.ingest.reading.way_out import with_way_out
from ray_job.ingest.reading.workspace import Workspace, quote_text, shortage
from ray_job.progress import Stage
from ray_job.settings import ColumnType

PROBLEM = "__problem"
"""The column with a sentence about the row, NULL if the row has no problem."""
_FILES_PER_QUERY = 1_000
"""DuckDB keeps a buffer for each file of a query. The buffers of 100,000 files exceed memory."""
_FILE_INDEX = "file_index"
"""The column that DuckDB adds; a Parquet file may have a column of this name."""
_LINE_ENDS = "state machine"
"""DuckDB's message contains this for line ends of different kinds."""
_PATTERN_CHARACTERS = re.compile(r"[*?\[]")


def load(
    workspace: Workspace, group: FileGroup, types: Mapping[str, ColumnType | None], stage: Stage
) -> dict[int, int]:
    """Read the group's files into its table. Returns the number of rows by file number.

    `types` are the types of further columns. A column of type None is stored as the file has it.
    Raises BadFilesError for files that cannot be read, and for the first bad row of each file.
    """
    with same_problem(group.files):
        rows = row_sql(group, types)
    left_out = ", ".join(map(quote_text, group.settings.sales.leave_out_stores))
    problem = f"CASE {' '.join(rows.problems)} END" if rows.problems else "NULL"
    if left_out and "store_id" in group.kind.key:
        problem = f"CASE WHEN store_id NOT IN ({left_out}) THEN {problem} END"
    _insert(workspace, group, rows, problem, stage)
    numbers_of_rows = _check_rows(workspace, group)
    names = [column.name for column in group.further_columns()]
    dots = {name: dots_column(name) for name in names if dots_column(name) in rows.values}
    check_dots(workspace, group, dots)
    if left_out and "store_id" in group.kind.key:
        workspace.run(f"DELETE FROM {group.table} WHERE store_id IN ({left_out})")
    return numbers_of_rows


def _insert(
    workspace: Workspace, group: FileGroup, rows: RowSql, problem: str, stage: Stage
) -> None:
    """Make the group's table. A file that DuckDB cannot read as it is, is read as a plain copy."""
    has_file_index = any(name.casefold() == _FILE_INDEX for name in group.shape.header)
    step = 1 if has_file_index and group.shape.format == "parquet" else _FILES_PER_QUERY
    number = "0" if step == 1 else _FILE_INDEX
    for start in range(0, len(group.files), step):
        files = list(group.files[start : start + step])
        into = f"INSERT INTO {group.table}" if start else f"CREATE TABLE {group.table} AS"
        query = (
            f"{into} SELECT {', '.join(rows.values)}, {problem} AS {PROBLEM}, {FILE}"
            f" FROM (SELECT *, {_named(rows.values)}"
            f" FROM (SELECT {_named(rows.texts)},"
            f" (__storecast_index + {group.first + start})::INTEGER AS {FILE}"
            f" FROM (SELECT *, {number} AS __storecast_index"
            f"{_path_values(group, files, number)} FROM {reader_sql(group)})))"
        )
        paths = [path_for_duckdb(file.readable) for file in files]
        try:
            workspace.run(query, [paths])
        except Exception as error:
            if (storage_error := shortage(workspace.folder, error)) is not None:
                raise storage_error from error
            messages = _messages(workspace, group, paths, error)
            copies = _plain_copies(workspace, group, files, messages)
            try:
                workspace.run(query, [copies])
            except Exception as second_error:
                if (storage_error := shortage(workspace.folder, second_error)) is not None:
                    raise storage_error from second_error
                messages = _messages(workspace, group, copies, second_error)
                raise _read_error(group, files, messages) from second_error
        stage.advance(len(files))


def _named(expressions: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {name}" for name, sql in expressions.items())


def _plain_copies(
    workspace: Workspace, group: FileGroup, files: Sequence[RawFile], messages: Mapping[int, str]
) -> list[str]:
    """The paths of the files, with plain copies of those whose line ends DuckDB does not read.

    `messages` are DuckDB's by place. Raises BadFilesError if there are others.
    """
    others = {place: text for place, text in messages.items() if _LINE_ENDS not in text}
    if others:
        raise _read_error(group, files, others)
    paths = []
    for place, file in enumerate(files):
        if place in messages:
            copy = plain_copy(file.readable, file.name, "utf-8-sig", 0, workspace.folder)
            paths.append(path_for_duckdb(copy))
        else:
            paths.append(path_for_duckdb(file.readable))
    return paths


def _path_values(group: FileGroup, files: Sequence[RawFile], number: str) -> str:
    """SQL of the columns that are in the folders of the files' keys; `number` is the file's."""
    columns = [column for column in group.columns if column.index == PATH_INDEX]
    return "".join(
        f", ([{', '.join(quote_text(file.path_columns[column.header]) for file in files)}])"
        f"[{number}::BIGINT + 1] AS {raw_column(group, column)}"
        for column in columns
    )


def path_for_duckdb(path: Path) -> str:
    """The path as a pattern that DuckDB finds this file alone by."""
    return _PATTERN_CHARACTERS.sub(r"[\g<0>]", str(path))


def reader_sql(group: FileGroup) -> str:
    """SQL of the function that reads files of the group's shape; its parameter is their paths."""
    if group.shape.format == "parquet":
        return "read_parquet(?, hive_partitioning=false)"
    columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(group.shape.header)))
    return (
        f"read_csv(?, columns={{{columns}}}, auto_detect=false, header=true, skip=0,"
        f" delim={quote_text(group.shape.delimiter)}, quote='\"', escape='\"',"
        " hive_partitioning=false)"
    )


def _check_rows(workspace: Workspace, group: FileGroup) -> dict[int, int]:
    bad_rows = workspace.run(
        f"SELECT min(rowid) AS first, {FILE}, arg_min({PROBLEM}, rowid) FROM {group.table}"
        f" WHERE {PROBLEM} IS NOT NULL GROUP BY {FILE} ORDER BY first"
    )
    problems = {
        group.file(number).name: (
            f"row {group.row_number(workspace, number, row)}: {with_way_out(group, problem)}"
        )
        for row, number, problem in bad_rows
    }
    if problems:
        raise BadFilesError(problems)
    rows = dict(workspace.run(f"SELECT {FILE}, count(*) FROM {group.table} GROUP BY {FILE}"))
    return {number: rows.get(number, 0) for number in range(group.first, group.end)}


def _read_error(
    group: FileGroup, files: Sequence[RawFile], messages: Mapping[int, str]
) -> BadFilesError:
    """Our error for the messages of DuckDB about some of the files, by place."""
    return BadFilesError(
        {
            files[place].name: _sentence(group, text, files[place].skipped)
            for place, text in messages.items()
        }
    )


def _messages(
    workspace: Workspace, group: FileGroup, paths: Sequence[str], error: Exception
) -> dict[int, str]:
    """DuckDB's message about each file that it cannot read alone, by place in `paths`.

    If it can read each of them, `error` is about the one that it names, or else the last one.
    """
    columns = ", ".join(
        f"max(hash({raw_column(group, column)}))"
        for column in group.columns
        if column.index != PATH_INDEX
    )
    messages: dict[int, str] = {}
    for place, path in enumerate(paths):
        try:
            workspace.run(f"SELECT {columns} FROM {reader_sql(group)}", [[path]])
        except Exception as single_error:
            if (storage_error := shortage(workspace.folder, single_error)) is not None:
                raise storage_error from single_error
            messages[place] = _message(single_error)
    if messages:
        return messages
    message = _message(error)
    named = [place for place, path in enumerate(paths) if path in message]
    return {max(named, key=lambda place: len(paths[place])) if named else len(paths) - 1: message}


def _message(error: Exception) -> str:
    is_about_content = isinstance(error, duckdb.Error) and not isinstance(
        error, duckdb.BinderException
    )
    return str(error) if is_about_content else unreadable(error)


def _sentence(group: FileGroup, message: str, skipped: int) -> str:
    """Our sentence for a message of DuckDB about a file, whose first `skipped` lines it lacks."""
    line = re.search(r"on Line: (\d+)", message)
    prefix = f"line {int(line[1]) + skipped}: " if line else ""
    for pattern, sentence in _SENTENCES:
        if match := re.search(pattern, message):
            return f"{prefix}{sentence.format(*match.groups())}"
    if group.shape.format == "parquet" and not message.startswith(UNREADABLE):
        return f"{prefix}{DAMAGED_PARQUET}"
    return f"{prefix}{(message.splitlines() or ['it cannot be read'])[0]}"


_SENTENCES = (
    (r"GZIP", DAMAGED_GZIP),
    (
        r"Expected Number of Columns: (\d+) Found: (\d+)",
        "there are {1} columns instead of {0}: correct the line",
    ),
    (r"unterminated quote", "a quotation mark is not closed: close it"),
    (r"Invalid unicode|not utf-8", "the text is not UTF-8: save the file as UTF-8"),
    (
        r"state machine|Maximum line size",
        "the quotation marks or the line ends are damaged: save the file again as CSV",
    ),
)
"""By a pattern of DuckDB's message, our sentence with the groups of the match."""
