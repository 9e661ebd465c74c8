"""SQL of the columns of a group of raw files, and of what can be wrong with their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ray_job.bucket.keys import STORE_ID_PATTERN
from ray_job.ingest.reading.groups import MOMENT, FileGroup, value_column
from ray_job.ingest.reading.notation import (
    NUMBERS_TOO,
    day_sql,
    dots_sql,
    encoded_id_sql,
    flag_sql,
    id_sql,
    moment_of,
    moment_sql,
    number_sql,
)
from ray_job.ingest.reading.raw_files import bad_file
from ray_job.ingest.reading.shapes import PATH_INDEX, Column
from ray_job.ingest.reading.workspace import quote_name, quote_text
from ray_job.settings import ColumnType

NOT_A_NUMBER = "is not a number: correct it or leave it empty"
NOT_A_FLAG = "is neither yes nor no: write 1 or 0, or leave it empty"
NOT_A_DATE = "is not a date: write an existing day as YYYY-MM-DD"
NOT_A_STORE = "is not a store id: use 1 to 64 letters, digits, _ and -"
_EMPTY = "is empty: fill it in"
_DAYS = "DATE '1900-01-01' AND DATE '2199-12-31'"
_FAR_DATE = "is out of range: use a date from 1900-01-01 to 2199-12-31"


@dataclass(slots=True)
class RowSql:
    """SQL of the rows of a group, in three steps, so that nothing is computed twice.

    `texts` are the delivered columns by their SQL name. `values` are what is stored, by
    its SQL name in the group's table; they use the names of `texts`. `problems` are `WHEN … THEN
    <sentence>` for each possible problem of a row; they use both names.
    """

    texts: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def raw_column(group: FileGroup, column: Column) -> str:
    """SQL of a column as the reader of the group's files returns it."""
    if column.index == PATH_INDEX:
        return quote_name(f"__path_{column.name}")
    if group.shape.format == "parquet":
        return quote_name(column.header)
    return f"c{column.index}"


def dots_column(name: str) -> str:
    """The column with the texts of a number whose points read both ways, see `dots_sql`."""
    return quote_name(f"__dots_{name}")


def row_sql(group: FileGroup, types: Mapping[str, ColumnType | None]) -> RowSql:
    """SQL of the group's rows.

    `types` are the types of further columns, None if not known. Raises BadFilesError, in the name
    of the first file, if a column of the files cannot have its type.
    """
    by_name = {column.name: column for column in group.columns}
    rows = RowSql()
    rows.values[MOMENT] = "NULL::BIGINT"
    for key in group.kind.key:
        column = by_name.get(key)
        if column is None:
            rows.values[key] = "''"
        elif key == "date":
            _add_day(rows, group, column)
        else:
            _add_id(rows, group, column)
    for column in group.further_columns():
        _add_further_column(rows, group, column, types.get(column.name))
    if {"date", "sales"} <= by_name.keys():
        is_to_come = f"date > DATE '{group.today}' AND {value_column('sales')} <> 0"
        sentence = (
            f"lies after today, {group.today}, but the row has sales: correct the date, or leave"
            " the sales of days to come empty"
        )
        rows.problems.append(_problem(is_to_come, by_name["date"], "date", sentence))
    return rows


def _add_day(rows: RowSql, group: FileGroup, column: Column) -> None:
    raw, text = raw_column(group, column), _text_column(column)
    if column.file_type == "day":
        rows.texts[text] = raw
        rows.values["date"] = f"CAST({text} AS DATE)"
        rows.values[MOMENT] = moment_of(text)
        is_empty = f"{text} IS NULL"
    else:
        rows.texts[text] = f"nullif(CAST({raw} AS VARCHAR), '')"
        rows.values["date"] = day_sql(text, group.delivery)
        rows.values[MOMENT] = moment_sql(text, group.delivery)
        is_empty = f"{text} IS NULL"
    rows.problems += [
        f"WHEN {is_empty} THEN {_sentence(column, _EMPTY)}",
        _problem("date IS NULL", column, text, NOT_A_DATE),
        _problem(f"date NOT BETWEEN {_DAYS}", column, text, _FAR_DATE),
    ]


def _add_id(rows: RowSql, group: FileGroup, column: Column) -> None:
    """Add a column of the key that is text."""
    raw, name, text = raw_column(group, column), column.name, _text_column(column)
    is_number = column.file_type == "number"
    rows.texts[text] = raw if is_number else f"CAST({raw} AS VARCHAR)"
    value = id_sql(text, is_number=is_number)
    if name == "store_id" and group.settings.sales.store_ids == "encode":
        value = encoded_id_sql(value)
    if name in group.kind.optional:
        rows.values[name] = f"coalesce({value}, '')"
        return
    rows.values[name] = value
    rows.problems.append(f"WHEN nullif({name}, '') IS NULL THEN {_sentence(column, _EMPTY)}")
    if name == "store_id":
        is_bad = f"NOT regexp_full_match(store_id, '{STORE_ID_PATTERN}')"
        rows.problems.append(_problem(is_bad, column, name, NOT_A_STORE))


def _add_further_column(
    rows: RowSql, group: FileGroup, column: Column, expected: ColumnType | None
) -> None:
    raw, name, text = raw_column(group, column), column.name, _text_column(column)
    value = value_column(name)
    is_flag = name in group.kind.flags and group.delivery.types.get(name) != "text"
    _check_file_type(group, column, "number" if is_flag else expected)
    is_text = column.file_type in ("untyped", "text")
    rows.texts[text] = f"nullif(CAST({raw} AS VARCHAR), '')" if is_text else raw
    problem = NOT_A_NUMBER
    if is_flag:
        number = flag_sql(text if is_text else f"CAST({text} AS VARCHAR)", name, group.delivery)
        problem = NOT_A_NUMBER if name in NUMBERS_TOO else NOT_A_FLAG
        if expected == "text":
            rows.values[value] = f"CAST(CAST({number} AS BIGINT) AS VARCHAR)"
            rows.problems.append(
                _problem(f"{text} IS NOT NULL AND {value} IS NULL", column, text, problem)
            )
            return
    elif is_text and expected != "number":
        rows.values[value] = text
        return
    elif expected == "text" or column.file_type == "day":
        rows.values[value] = f"CAST({text} AS VARCHAR)"
        return
    else:
        number = number_sql(text, group.delivery) if is_text else f"CAST({text} AS DOUBLE)"
    rows.values[value] = number
    if is_text and not is_flag and reads_both_ways(group):
        rows.values[dots_column(name)] = dots_sql(text)
    is_bad = f"{text} IS NOT NULL AND coalesce(NOT isfinite({value}), true)"
    rows.problems.append(_problem(is_bad, column, text, problem))


def _check_file_type(group: FileGroup, column: Column, expected: ColumnType | None) -> None:
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


def _text_column(column: Column) -> str:
    return quote_name(f"t_{column.name}")


def reads_both_ways(group: FileGroup) -> bool:
    """Whether the settings leave open how numbers of the group are written."""
    return group.delivery.decimal is None and group.delivery.thousands is None


def _problem(condition: str, column: Column, raw: str, problem: str) -> str:
    """SQL `WHEN condition THEN sentence`. The sentence quotes the value, at most 40 characters."""
    value = f"left(CAST({raw} AS VARCHAR), 40)"
    before, after = _sentence(column, 'has the value "'), quote_text(f'", which {problem}')
    return f"WHEN {condition} THEN {before} || {value} || {after}"


def _sentence(column: Column, predicate: str) -> str:
    """SQL of the sentence `the column <header> <predicate>`."""
    return quote_text(f"the column {column.header} {predicate}")
