"""Reading the files of a group into its table, and the check of each row."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from uuid import uuid4

import duckdb

from ray_job.ingest.reading.expressions import column_expressions, raw_column
from ray_job.ingest.reading.groups import FILE, FileGroup
from ray_job.ingest.reading.raw_files import FORMATS, BadFilesError, RawFile, same_problem
from ray_job.ingest.reading.shapes import DAMAGED_GZIP, DAMAGED_PARQUET
from ray_job.ingest.reading.workspace import Workspace, quote_name, quote_text, shortage
from ray_job.progress import Stage
from ray_job.settings import ColumnType

PROBLEM = "__problem"
"""The column with a sentence about the row, NULL if the row has no problem."""
_FILES_PER_QUERY = 1_000
"""DuckDB keeps a buffer for each file of a query. The buffers of 100,000 files exceed memory."""
_PATTERN_CHARACTERS = frozenset("*?[")


def load(
    workspace: Workspace, group: FileGroup, types: Mapping[str, ColumnType | None], stage: Stage
) -> dict[int, int]:
    """Read the group's files into its table. Returns the number of rows by file number.

    `types` are the types of further columns. A column of type None is stored as the file has it.
    Raises BadFilesError for files that cannot be read, and for the first bad row of each file.
    """
    with same_problem(group.files):
        expressions, problems = column_expressions(group, types)
    problem = f"CASE {' '.join(problems)} END" if problems else "NULL"
    selected = ", ".join(f"{sql} AS {quote_name(column)}" for column, sql in expressions.items())
    paths = [_path_for_duckdb(workspace, file) for file in group.files]
    for start in range(0, len(paths), _FILES_PER_QUERY):
        into = f"INSERT INTO {group.table}" if start else f"CREATE TABLE {group.table} AS"
        query_paths = paths[start : start + _FILES_PER_QUERY]
        try:
            workspace.run(
                f"{into} SELECT {selected}, {problem} AS {PROBLEM},"
                f" (file_index + {group.first + start})::INTEGER AS {FILE} FROM {_reader(group)}",
                [query_paths],
            )
        except duckdb.Error as error:
            files = group.files[start : start + _FILES_PER_QUERY]
            by_path = dict(zip(query_paths, files, strict=True))
            raise _read_error(workspace, group, by_path, error) from error
        stage.advance(len(query_paths))
    return _check_rows(workspace, group)


def _path_for_duckdb(workspace: Workspace, file: RawFile) -> str:
    """A path of the file that DuckDB does not take for a pattern of several files."""
    if not _PATTERN_CHARACTERS & set(str(file.path)):
        return str(file.path)
    ending = next(ending for ending in FORMATS if file.path.name.lower().endswith(ending))
    link = workspace.folder / f"link-{uuid4().hex}{ending}"
    link.symlink_to(file.path.resolve())
    return str(link)


def _reader(group: FileGroup) -> str:
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
        group.file(number).name: f"row {group.row_number(workspace, number, row)}: {problem}"
        for row, number, problem in bad_rows
    }
    rows = dict(workspace.run(f"SELECT {FILE}, count(*) FROM {group.table} GROUP BY {FILE}"))
    for number, file in enumerate(group.files, group.first):
        if number not in rows:
            problems[file.name] = "the file has no rows: deliver it again, or remove it"
    if problems:
        raise BadFilesError(problems)
    return rows


def _read_error(
    workspace: Workspace, group: FileGroup, by_path: Mapping[str, RawFile], error: duckdb.Error
) -> Exception:
    """Our error for a failed query: StorageError for a lack of space, else BadFilesError.

    The keys of `by_path` are the paths that DuckDB got.
    """
    if (storage_error := shortage(workspace.folder, error)) is not None:
        return storage_error
    message = str(error)
    messages = dict(_errors_of_single_files(workspace, group, by_path))
    if not messages:
        # No file fails alone. Blame the file that DuckDB names, or else the last one.
        named = [path for path in by_path if path in message]
        messages = {max(named, key=len) if named else list(by_path)[-1]: message}
    return BadFilesError(
        {by_path[path].name: _sentence(group, text) for path, text in messages.items()}
    )


def _errors_of_single_files(
    workspace: Workspace, group: FileGroup, by_path: Mapping[str, RawFile]
) -> Iterator[tuple[str, str]]:
    """The paths of files that DuckDB cannot read alone, each with DuckDB's message."""
    columns = ", ".join(f"max(hash({raw_column(group, column)}))" for column in group.columns)
    for path in by_path:
        try:
            workspace.run(f"SELECT {columns} FROM {_reader(group)}", [[path]])
        except duckdb.Error as error:
            yield path, str(error)


def _sentence(group: FileGroup, message: str) -> str:
    """Our sentence for a message of DuckDB about a file."""
    line = re.search(r"on Line: (\d+)", message)
    prefix = f"line {line[1]}: " if line else ""
    for pattern, sentence in _SENTENCES:
        if match := re.search(pattern, message):
            return f"{prefix}{sentence.format(*match.groups())}"
    if group.shape.format == "parquet":
        return f"{prefix}{DAMAGED_PARQUET}"
    return f"{prefix}{message.splitlines()[0]}"


_SENTENCES = (
    (r"GZIP", DAMAGED_GZIP),
    (
        r"Expected Number of Columns: (\d+) Found: (\d+)",
        "there are {1} columns instead of {0}: correct the line",
    ),
    (r"unterminated quote", "a quotation mark is not closed: close it"),
    (r"Invalid unicode|not utf-8", "the text is not UTF-8: save the file as UTF-8"),
)
"""By a pattern of DuckDB's message, our sentence with the groups of the match."""
