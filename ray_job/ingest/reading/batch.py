"""All raw files of an ingest, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa

from ray_job.data.context.columns import is_text
from ray_job.ingest.reading.column_types import expected_types, settle_types, typed_value
from ray_job.ingest.reading.duplicates import resolve_duplicates
from ray_job.ingest.reading.groups import FILE, FileGroup, group_files
from ray_job.ingest.reading.kinds import ARROW_TYPES, KINDS, SALES, kind_of
from ray_job.ingest.reading.load import load
from ray_job.ingest.reading.raw_files import BadFilesError, RawFile, same_problem
from ray_job.ingest.reading.workspace import Workspace
from ray_job.progress import Stage
from ray_job.settings import ColumnType, Settings


@dataclass(frozen=True, slots=True)
class LoadedGroup:
    """A group whose rows are in its table.

    `types` and `values` are the type and the SQL of each further column that holds a value.
    """

    files: FileGroup
    types: Mapping[str, ColumnType]
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RawBatch:
    """All files of an ingest.

    `new_columns` are by kind the columns that its table does not have yet. `rows` is the number of
    rows by file number.
    """

    groups: Sequence[LoadedGroup]
    new_columns: Mapping[str, Sequence[pa.Field]]
    rows: Mapping[int, int]
    become_text: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By kind the columns that are numbers in its table and text in the settings."""
    warnings: Sequence[str] = ()
    """What looks odd, and does not keep the files out."""

    @property
    def files(self) -> dict[int, RawFile]:
        """All files by their number."""
        return {
            number: file
            for group in self.groups
            for number, file in enumerate(group.files.files, group.files.first)
        }

    def groups_of(self, kind: str) -> list[LoadedGroup]:
        return [group for group in self.groups if group.files.kind.name == kind]


@dataclass(slots=True)
class _TableColumns:
    """The types of a table's further columns, and the columns that are new to it."""

    known: dict[str, ColumnType]
    new: list[pa.Field] = field(default_factory=list)


def read_batch(
    workspace: Workspace,
    settings: Settings,
    files: Sequence[RawFile],
    schemas: Mapping[str, pa.Schema],
    stage: Stage,
    today: date,
) -> RawBatch:
    """Read and check all files. `schemas` are those of the tables that exist, by kind.

    `today` is the date where the stores are. Raises BadFilesError for the files that cannot be read
    or have bad rows.
    """
    tables = {}
    for kind_name in KINDS:
        kind = kind_of(kind_name)
        types = kind.further_types(schemas.get(kind_name, kind.schema()))
        tables[kind_name] = _TableColumns(types)
    groups = []
    rows: dict[int, int] = {}
    become_text: dict[str, set[str]] = {}
    problems: dict[str, str] = {}
    for group in group_files(workspace, settings, files, today):
        columns = tables[group.kind.name]
        try:
            _check_table_types(group, schemas.get(group.kind.name))
            loaded, group_rows = _load_group(workspace, group, columns, stage)
        except BadFilesError as error:
            problems |= error.problems
            continue
        for column, column_type in loaded.types.items():
            if column not in columns.known:
                columns.known[column] = column_type
                columns.new.append(pa.field(column, ARROW_TYPES[column_type]))
            elif column_type == "text" and columns.known[column] == "number":
                become_text.setdefault(group.kind.name, set()).add(column)
        groups.append(loaded)
        rows |= group_rows
        stage.advance(0, rows=sum(rows.values()))
    if problems:
        raise BadFilesError(problems)
    with workspace.watched(stage):
        for kind_name in KINDS:
            if kind_name == SALES and settings.sales.rows != "daily":
                continue
            members = [group for group in groups if group.files.kind.name == kind_name]
            values = {group.files.first: group.values for group in members}
            resolve_duplicates(workspace, [group.files for group in members], values)
    new_columns = {kind_name: columns.new for kind_name, columns in tables.items() if columns.new}
    sorted_texts = {kind_name: sorted(names) for kind_name, names in become_text.items()}
    return RawBatch(groups, new_columns, rows, sorted_texts)


def _check_table_types(group: FileGroup, schema: pa.Schema | None) -> None:
    """Raise BadFilesError for columns whose type in the table is not one that an ingest writes.

    Another program has made such a table.
    """
    for column in group.further_columns():
        place = -1 if schema is None else schema.get_field_index(column.name)
        kind = pa.float64() if schema is None or place < 0 else schema.field(place).type
        if not (pa.types.is_floating(kind) or is_text(kind)):
            way_out = f", or list the column under ignore of [{group.kind.name}] in the settings"
            problem = (
                f"the column {column.header} is of type {kind} in the table, where an ingest writes"
                " numbers as double and the rest as text: write the table anew with that type"
                f"{'' if column.name in group.kind.types else way_out}"
            )
            raise BadFilesError({file.name: problem for file in group.files})


def _load_group(
    workspace: Workspace, group: FileGroup, columns: _TableColumns, stage: Stage
) -> tuple[LoadedGroup, dict[int, int]]:
    """The group with its rows in its table, and the number of rows by file number.

    Raises BadFilesError.
    """
    with same_problem(group.files):
        expected = expected_types(group, group.delivery.types, columns.known)
    with workspace.watched(stage):
        rows = load(workspace, group, expected, stage)
        settled = settle_types(workspace, group, expected)
    values = {column: typed_value(group, column, expected, settled[column]) for column in settled}
    return LoadedGroup(group, settled, values), rows


def store_delivery_times(workspace: Workspace, times: Mapping[int, int]) -> None:
    """Create the table `deliveries` (`FILE`, `__delivered`) in DuckDB.

    `times` are microseconds since 1970 by file number.
    """
    workspace.run(
        f"CREATE TEMP TABLE deliveries AS"
        f" SELECT unnest(?::INTEGER[]) AS {FILE}, unnest(?::BIGINT[]) AS __delivered",
        [list(times), list(times.values())],
    )
