"""SQL of the columns of a group of raw files, and of what can be wrong with their values."""

from __future__ import annotations

from collections.abc import Mapping

from ray_job.bucket.keys import STORE_ID_PATTERN
from ray_job.ingest.reading.groups import FileGroup
from ray_job.ingest.reading.raw_files import bad_file
from ray_job.ingest.reading.shapes import Column
from ray_job.ingest.reading.workspace import quote_name, quote_text
from ray_job.settings import ColumnType

NOT_A_NUMBER = "is not a number: correct it or leave it empty"
_EMPTY = "is empty: fill it in"
_DAYS = "DATE '1900-01-01' AND DATE '2199-12-31'"
_BAD_DATE = "is not a date: write an existing day as YYYY-MM-DD"
_FAR_DATE = "is out of range: use a date from 1900-01-01 to 2199-12-31"
_BAD_STORE = "is not a store id: use 1 to 64 letters, digits, _ and -"


def as_number(expression: str) -> str:
    """SQL of a text as a number: `true` is 1, `false` is 0, NULL if it is not a number."""
    return (
        f"CASE lower({expression}) WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0"
        f" ELSE try_cast({expression} AS DOUBLE) END"
    )


def raw_column(group: FileGroup, column: Column) -> str:
    """SQL of a column as the reader of the group's files returns it."""
    if group.shape.format == "parquet":
        return quote_name(column.header)
    return f"c{column.index}"


def column_expressions(
    group: FileGroup, types: Mapping[str, ColumnType | None]
) -> tuple[dict[str, str], list[str]]:
    """SQL of each column by name, and `WHEN … THEN <sentence>` for each possible problem of a row.

    `types` are the types of further columns, None if not known. Raises BadFilesError, in the name
    of the first file, if a column of the files cannot have its type.
    """
    by_name = {column.name: column for column in group.columns}
    expressions: dict[str, str] = {}
    problems: list[str] = []
    for key in group.kind.key:
        column = by_name.get(key)
        if column is None:
            expressions[key] = "''"
            continue
        raw = f"CAST({raw_column(group, column)} AS VARCHAR)"
        is_empty = f"WHEN nullif({raw}, '') IS NULL THEN {_sentence(column, _EMPTY)}"
        if key == "date":
            expressions[key] = _day(group, column)
            problems += [
                is_empty,
                _problem(f"{expressions[key]} IS NULL", column, raw, _BAD_DATE),
                _problem(f"{expressions[key]} NOT BETWEEN {_DAYS}", column, raw, _FAR_DATE),
            ]
        elif key in group.kind.optional:
            expressions[key] = f"coalesce({raw}, '')"
        else:
            expressions[key] = raw
            problems.append(is_empty)
        if key == "store_id":
            is_bad = f"NOT regexp_full_match({raw}, '{STORE_ID_PATTERN}')"
            problems.append(_problem(is_bad, column, raw, _BAD_STORE))
    for column in group.further_columns():
        expression, column_problems = _further_column(group, column, types.get(column.name))
        expressions[column.name] = expression
        problems += column_problems
    return expressions, problems


def _further_column(
    group: FileGroup, column: Column, expected: ColumnType | None
) -> tuple[str, list[str]]:
    raw = raw_column(group, column)
    label, first_file = f"the column {column.header}", group.files[0].name
    if column.file_type == "other":
        raise bad_file(
            first_file,
            f"{label} holds neither numbers nor text: list it under ignore in the settings",
        )
    if expected == "number" and column.file_type == "day":
        raise bad_file(
            first_file, f"{label} holds dates where numbers are expected: write numbers into it"
        )
    if expected == "text" and column.file_type == "number":
        raise bad_file(
            first_file, f"{label} holds numbers where text is expected: write text into it"
        )
    if column.file_type in ("untyped", "text"):
        raw = f"nullif(CAST({raw} AS VARCHAR), '')"
        if expected != "number":
            return raw, []
        number = as_number(raw)
    elif expected == "text" or column.file_type == "day":
        return f"CAST({raw} AS VARCHAR)", []
    else:
        number = f"CAST({raw} AS DOUBLE)"
    is_bad = f"{raw} IS NOT NULL AND coalesce(NOT isfinite({number}), true)"
    return number, [_problem(is_bad, column, raw, NOT_A_NUMBER)]


def _problem(condition: str, column: Column, raw: str, problem: str) -> str:
    """SQL `WHEN condition THEN sentence`. The sentence quotes the value, at most 40 characters."""
    value = f"left(CAST({raw} AS VARCHAR), 40)"
    before, after = _sentence(column, 'has the value "'), quote_text(f'", which {problem}')
    return f"WHEN {condition} THEN {before} || {value} || {after}"


def _sentence(column: Column, predicate: str) -> str:
    """SQL of the sentence `the column <header> <predicate>`."""
    return quote_text(f"the column {column.header} {predicate}")


def _day(group: FileGroup, column: Column) -> str:
    raw = raw_column(group, column)
    return f"CAST({raw} AS DATE)" if column.file_type == "day" else f"try_cast({raw} AS DATE)"
