"""All raw files of an ingest, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from ray_job.ingest.reading.column_types import expected_types, settle_types, typed_value
from ray_job.ingest.reading.duplicates import drop_duplicates
from ray_job.ingest.reading.groups import FILE, FileGroup, group_files
from ray_job.ingest.reading.kinds import ARROW_TYPES, KINDS, SALES, delivery_of, kind_of
from ray_job.ingest.reading.load import load
from ray_job.ingest.reading.raw_files import RawFile, same_problem
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
) -> RawBatch:
    """Read and check all files. `schemas` are those of the tables that exist, by kind.

    Raises BadFilesError for the files that cannot be read or have bad rows.
    """
    tables = {}
    for kind_name in KINDS:
        kind = kind_of(kind_name)
        types = kind.further_types(schemas.get(kind_name, kind.schema()))
        tables[kind_name] = _TableColumns(types)
    groups = []
    rows: dict[int, int] = {}
    for group in group_files(settings, files):
        kind_name = group.kind.name
        columns = tables[kind_name]
        declared = delivery_of(settings, kind_name).types
        with same_problem(group.files):
            expected = expected_types(group, declared, columns.known)
        with workspace.watched(stage):
            group_rows = load(workspace, group, expected, stage)
            settled = settle_types(workspace, group, expected)
            values = {
                column: typed_value(group, column, expected, settled[column]) for column in settled
            }
            if kind_name != SALES or settings.sales.rows == "daily":
                drop_duplicates(workspace, group, values)
        for column, column_type in settled.items():
            if column not in columns.known:
                columns.known[column] = column_type
                columns.new.append(pa.field(column, ARROW_TYPES[column_type]))
        groups.append(LoadedGroup(group, settled, values))
        rows |= group_rows
        stage.advance(0, rows=sum(rows.values()))
    new_columns = {kind_name: columns.new for kind_name, columns in tables.items() if columns.new}
    return RawBatch(groups, new_columns, rows)


def store_delivery_times(workspace: Workspace, times: Mapping[int, int]) -> None:
    """Create the table `deliveries` (`FILE`, `__delivered`) in DuckDB.

    `times` are microseconds since 1970 by file number.
    """
    workspace.run(
        f"CREATE TEMP TABLE deliveries AS"
        f" SELECT unnest(?::INTEGER[]) AS {FILE}, unnest(?::BIGINT[]) AS __delivered",
        [list(times), list(times.values())],
    )
