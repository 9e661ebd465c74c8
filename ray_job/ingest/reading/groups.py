"""Groups of raw files of one kind and shape. Each group is one table in DuckDB.

A row of the table is a row of a file, in the file's order. The column `FILE` has the file's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from ray_job.ingest.reading.kinds import Kind, delivery_of, kind_of
from ray_job.ingest.reading.raw_files import BadFilesError, RawFile, same_problem
from ray_job.ingest.reading.shapes import Column, Shape, columns_of, read_shape
from ray_job.ingest.reading.workspace import Workspace
from ray_job.settings import Settings

FILE = "__file"


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files of one kind and shape. Their numbers are `first`, `first` + 1, …"""

    kind: Kind
    shape: Shape
    columns: tuple[Column, ...]
    files: tuple[RawFile, ...]
    first: int

    @property
    def table(self) -> str:
        return f"group_{self.first}"

    def file(self, number: int) -> RawFile:
        return self.files[number - self.first]

    def further_columns(self) -> list[Column]:
        """The columns that are not part of the kind's key."""
        return [column for column in self.columns if column.name not in self.kind.key]

    def row_number(self, workspace: Workspace, number: int, table_row: int) -> int:
        """How messages count the table's row `table_row`, which is a row of the file `number`.

        They count as a spreadsheet does: the header of a CSV file is its row 1. A Parquet file has
        no header, so that its first row is 1.
        """
        [(first_row,)] = workspace.run(
            f"SELECT min(rowid) FROM {self.table} WHERE {FILE} = ?",  # noqa: S608 - our own names
            [number],
        )
        return int(table_row - first_row) + (2 if self.shape.format == "csv" else 1)


def group_files(settings: Settings, files: Sequence[RawFile]) -> list[FileGroup]:
    """The files in groups. Each group has its files in order; groups are in order of their first.

    Raises BadFilesError for files whose header cannot be read or lacks a column.
    """
    shaped = []
    problems: dict[str, str] = {}
    for file in files:
        try:
            shaped.append((file, read_shape(file.path, file.name)))
        except BadFilesError as error:
            problems |= error.problems
    if problems:
        raise BadFilesError(problems)
    order: dict[tuple[object, ...], int] = {}
    for file, shape in shaped:
        order.setdefault((file.kind, shape), len(order))
    shaped.sort(key=lambda pair: order[pair[0].kind, pair[1]])
    groups: list[FileGroup] = []
    first = 0
    for (kind_name, shape), pairs in groupby(shaped, key=lambda pair: (pair[0].kind, pair[1])):
        kind = kind_of(kind_name)
        members = tuple(file for file, _ in pairs)
        with same_problem(members):
            columns = columns_of(shape, delivery_of(settings, kind_name), members[0].name)
            kind.check_header(columns, settings, members[0].name)
        groups.append(FileGroup(kind, shape, columns, members, first))
        first += len(members)
    return groups
