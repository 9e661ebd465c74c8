"""Files of one shape, read by DuckDB into one table and checked there.

A row of the table is a row of a file, in the file's order, with the file's number and, if there
is something wrong with it, a sentence about that. Errors count rows as a spreadsheet does: the
header of a CSV file is its row 1; Parquet files have no header, their first row is 1.
"""

# Names and texts in SQL are quoted by `workspace`.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import uuid4

import duckdb

from ray_job.ingest.bad import BadFilesError, bad_file
from ray_job.ingest.files import Source, all_of
from ray_job.ingest.kinds import Kind
from ray_job.ingest.shapes import FORMATS, Column, Shape
from ray_job.ingest.workspace import Workspace, name, shortage, text
from ray_job.progress import Stage
from ray_job.settings import ColumnType

FILE = "__file"
PROBLEM = "__problem"
_FILES_AT_ONCE = 1_000
"""In one query DuckDB keeps a buffer for each file: 100,000 of them would not fit in memory."""
_PATTERN = frozenset("*?[")
_DAYS = "DATE '1900-01-01' AND DATE '2199-12-31'"


@dataclass(frozen=True, slots=True)
class Group:
    """Files of one kind and shape; the first of them has number `first`, the next one more."""

    kind: Kind
    shape: Shape
    columns: tuple[Column, ...]
    sources: tuple[Source, ...]
    first: int

    @property
    def table(self) -> str:
        return f"group_{self.first}"

    def source(self, number: int) -> Source:
        return self.sources[number - self.first]

    def further(self) -> list[Column]:
        """The columns that are not of the kind's key."""
        return [column for column in self.columns if column.name not in self.kind.key]

    def row(self, record: int) -> int:
        """The number that errors give to a file's n-th record, counted from 0."""
        return record + (2 if self.shape.format == "csv" else 1)


def as_number(expression: str) -> str:
    """SQL for a text as a number; true is 1 and false 0; NULL where it is none."""
    return (
        f"CASE lower({expression}) WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0"
        f" ELSE try_cast({expression} AS DOUBLE) END"
    )


def load(
    work: Workspace, group: Group, types: Mapping[str, ColumnType | None], stage: Stage
) -> dict[int, int]:
    """Read the group's files into the table `group.table`; how many rows each file has.

    A column of `types` is read as a number or as text; one without a type as the file has it.
    Raises BadFilesError for what cannot be read, and for the first row of each that is wrong.
    """
    with all_of(group.sources):
        expressions, problems = _expressions(group, types)
    problem = f"CASE {' '.join(problems)} END" if problems else "NULL"
    selected = ", ".join(f"{sql} AS {name(known)}" for known, sql in expressions.items())
    paths = [_literal(work, source) for source in group.sources]
    for start in range(0, len(paths), _FILES_AT_ONCE):
        into = f"INSERT INTO {group.table}" if start else f"CREATE TABLE {group.table} AS"
        some = paths[start : start + _FILES_AT_ONCE]
        try:
            work.run(
                f"{into} SELECT {selected}, {problem} AS {PROBLEM},"
                f" (file_index + {group.first + start})::INTEGER AS {FILE} FROM {_reader(group)}",
                [some],
            )
        except duckdb.Error as error:
            sources = group.sources[start : start + _FILES_AT_ONCE]
            raise _unreadable(work, group, dict(zip(some, sources, strict=True)), error) from error
        stage.advance(len(some))
    return _check_rows(work, group)


def _literal(work: Workspace, source: Source) -> str:
    """A path that DuckDB takes for one file: it reads some characters of a name as a pattern."""
    if not _PATTERN & set(str(source.path)):
        return str(source.path)
    ending = next(one for one in FORMATS if source.path.name.lower().endswith(one))
    link = work.folder / f"link-{uuid4().hex}{ending}"
    link.symlink_to(source.path.resolve())
    return str(link)


def _reader(group: Group) -> str:
    if group.shape.format == "parquet":
        return "read_parquet(?, hive_partitioning=false)"
    columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(group.shape.header)))
    return (
        f"read_csv(?, columns={{{columns}}}, auto_detect=false, header=true, skip=0,"
        f" delim={text(group.shape.delimiter)}, quote='\"', escape='\"', hive_partitioning=false)"
    )


def _expressions(
    group: Group, types: Mapping[str, ColumnType | None]
) -> tuple[dict[str, str], list[str]]:
    """SQL of each column under our name, and the WHEN … THEN of what can be wrong with a row."""
    by_name = {column.name: column for column in group.columns}
    expressions: dict[str, str] = {}
    problems: list[str] = []
    for key in group.kind.key:
        column = by_name.get(key)
        if column is None:
            expressions[key] = "''"
            continue
        raw = f"CAST({_raw(group, column)} AS VARCHAR)"
        label = text(_label(column))
        if key == "date":
            expressions[key] = _day(group, column)
            problems += [
                f"WHEN nullif({raw}, '') IS NULL THEN {label} || ' is empty'",
                _when(f"{expressions[key]} IS NULL", label, raw, "is not a date (YYYY-MM-DD)"),
                _when(f"{expressions[key]} NOT BETWEEN {_DAYS}", label, raw, "is out of range"),
            ]
        elif key in group.kind.optional:
            expressions[key] = f"coalesce({raw}, '')"
        else:
            expressions[key] = raw
            problems.append(f"WHEN nullif({raw}, '') IS NULL THEN {label} || ' is empty'")
        if key == "store_id":
            bad = f"NOT regexp_full_match({raw}, '[A-Za-z0-9_-]{{1,64}}')"
            why = "cannot name a store: letters, digits, _ and -, at most 64 of them"
            problems.append(_when(bad, label, raw, why))
    for column in group.further():
        expression, wrong = _further(group, column, types.get(column.name))
        expressions[column.name] = expression
        problems += wrong
    return expressions, problems


def _further(group: Group, column: Column, wanted: ColumnType | None) -> tuple[str, list[str]]:
    raw, label = _raw(group, column), text(_label(column))
    whose, first = f"the column {column.header}", group.sources[0].name
    if column.found == "other":
        raise bad_file(first, f"{whose} is neither numbers nor text: list it under ignore")
    if wanted == "number" and column.found == "day":
        raise bad_file(first, f"{whose} holds dates where numbers are expected")
    if wanted == "text" and column.found == "number":
        raise bad_file(first, f"{whose} holds numbers where text is expected")
    if column.found in ("untyped", "text"):
        raw = f"nullif(CAST({raw} AS VARCHAR), '')"
        if wanted != "number":
            return raw, []
        number = as_number(raw)
    elif wanted == "text" or column.found == "day":
        return f"CAST({raw} AS VARCHAR)", []
    else:
        number = f"CAST({raw} AS DOUBLE)"
    bad = f"{raw} IS NOT NULL AND coalesce(NOT isfinite({number}), true)"
    return number, [_when(bad, label, raw, "is not a number")]


def _raw(group: Group, column: Column) -> str:
    return name(column.header) if group.shape.format == "parquet" else f"c{column.index}"


def _label(column: Column) -> str:
    return f"the column {column.header}"


def _when(condition: str, label: str, raw: str, why: str) -> str:
    """SQL: under this condition the row is wrong, because of this value."""
    shown = f"left(CAST({raw} AS VARCHAR), 40)"
    return f"WHEN {condition} THEN {label} || ' is \"' || {shown} || '\", which {why}'"


def _day(group: Group, column: Column) -> str:
    raw = _raw(group, column)
    return f"CAST({raw} AS DATE)" if column.found == "day" else f"try_cast({raw} AS DATE)"


def _check_rows(work: Workspace, group: Group) -> dict[int, int]:
    wrong = work.run(
        f"SELECT min(rowid) AS first, {FILE}, arg_min({PROBLEM}, rowid) FROM {group.table}"
        f" WHERE {PROBLEM} IS NOT NULL GROUP BY {FILE} ORDER BY first"
    )
    bad = {
        group.source(number).name: f"row {row_of(work, group, number, row)}: {problem}"
        for row, number, problem in wrong
    }
    rows = dict(work.run(f"SELECT {FILE}, count(*) FROM {group.table} GROUP BY {FILE}"))
    for number, source in enumerate(group.sources, group.first):
        if number not in rows:
            bad[source.name] = "the file is empty: it has a header but no rows"
    if bad:
        raise BadFilesError(bad)
    return rows


def row_of(work: Workspace, group: Group, number: int, row: int) -> int:
    """What errors call the table's row `row`, which is one of file `number`."""
    [(first,)] = work.run(f"SELECT min(rowid) FROM {group.table} WHERE {FILE} = ?", [number])
    return group.row(row - first)


def _unreadable(
    work: Workspace, group: Group, sources: Mapping[str, Source], error: duckdb.Error
) -> Exception:
    """The error as sentences that name the files, if it is theirs.

    `sources` are the files of the query by the paths that DuckDB was given.
    """
    if (short := shortage(work.folder, error)) is not None:
        return short
    told = str(error)
    found = dict(_alone(work, group, sources))
    if not found:
        # No file fails by itself: the one that DuckDB names, else the last.
        named = [path for path in sources if path in told]
        found = {max(named, key=len) if named else list(sources)[-1]: told}
    return BadFilesError(
        {sources[path].name: _sentence(group, words) for path, words in found.items()}
    )


def _alone(
    work: Workspace, group: Group, sources: Mapping[str, Source]
) -> Iterator[tuple[str, str]]:
    """The files that cannot be read by themselves either, each with what DuckDB says of it."""
    columns = ", ".join(f"max(hash({_raw(group, column)}))" for column in group.columns)
    for path in sources:
        try:
            work.run(f"SELECT {columns} FROM {_reader(group)}", [[path]])
        except duckdb.Error as error:
            yield path, str(error)


def _sentence(group: Group, told: str) -> str:
    line = re.search(r"on Line: (\d+)", told)
    where = f"line {line[1]}: " if line else ""
    for pattern, sentence in _REASONS:
        if found := re.search(pattern, told):
            return f"{where}{sentence.format(*found.groups())}"
    if group.shape.format == "parquet":
        return f"{where}the Parquet file is damaged or cut off"
    return f"{where}{told.splitlines()[0]}"


_REASONS = (
    (r"GZIP", "the gzip file is damaged or cut off"),
    (r"Expected Number of Columns: (\d+) Found: (\d+)", "there are {1} columns instead of {0}"),
    (r"unterminated quote", "a quotation mark is not closed"),
    (r"Invalid unicode|not utf-8", "the text is not UTF-8"),
)
