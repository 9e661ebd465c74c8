"""Groups of raw files of one kind and shape. Each group is one table in DuckDB.

A row of the table is a row of a file, in the file's order. The column `FILE` has the file's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from ray_job.ingest.reading.kinds import Kind, delivery_of, kind_of
from ray_job.ingest.reading.raw_files import BadFilesError, RawFile, bad_file, same_problem
from ray_job.ingest.reading.shapes import Column, Shape, columns_of, read_shape
from ray_job.ingest.reading.workspace import Workspace, quote_name, shortage
from ray_job.settings import Delivery, Settings

FILE = "__file"
MOMENT = "__moment"
"""The column with the instant of a row in microseconds, NULL if the row is of a whole day."""
UNREADABLE = "the file cannot be read"


def value_column(name: str) -> str:
    """The SQL name of a further column in the tables of DuckDB.

    The prefix keeps it apart from our own columns and from those that DuckDB adds, like `rowid`.
    """
    return quote_name(f"v_{name}")


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files of one kind and shape. Their numbers are `first`, `first` + 1, …

    `today` is the date where the stores are.
    """

    kind: Kind
    shape: Shape
    columns: tuple[Column, ...]
    files: tuple[RawFile, ...]
    first: int
    settings: Settings
    today: date

    @property
    def table(self) -> str:
        return f"group_{self.first}"

    @property
    def end(self) -> int:
        """The number after that of the last file."""
        return self.first + len(self.files)

    @property
    def delivery(self) -> Delivery:
        return delivery_of(self.settings, self.kind.name)

    def file(self, number: int) -> RawFile:
        return self.files[number - self.first]

    def further_columns(self) -> list[Column]:
        """The columns that are not part of the kind's key."""
        return [column for column in self.columns if column.name not in self.kind.key]

    def row_number(self, workspace: Workspace, number: int, table_row: int) -> int:
        """How messages count the table's row `table_row`, which is a row of the file `number`.

        They count as a spreadsheet does: the header of a CSV file is its row 1, unless lines that
        were skipped are before it. A Parquet file has no header, so that its first row is 1.
        """
        [(first_row,)] = workspace.run(
            f"SELECT min(rowid) FROM {self.table} WHERE {FILE} = ?",  # noqa: S608 - our own names
            [number],
        )
        before = self.file(number).skipped + 2 if self.shape.format == "csv" else 1
        return int(table_row - first_row) + before


def group_files(
    workspace: Workspace, settings: Settings, files: Sequence[RawFile], today: date
) -> list[FileGroup]:
    """The files in groups. Each group has its files in order; groups are in order of their first.

    Raises BadFilesError for files whose header cannot be read or lacks a column.
    """
    shaped: list[tuple[RawFile, Shape, tuple[str, ...]]] = []
    problems: dict[str, str] = {}
    for file in files:
        path_headers = _path_headers(file, settings)
        try:
            shaped.append((*_read_shape(workspace, settings, file, path_headers), path_headers))
        except BadFilesError as error:
            problems |= error.problems
    order: dict[tuple[object, ...], int] = {}
    for file, *rest in shaped:
        order.setdefault((file.kind, *rest), len(order))
    shaped.sort(key=lambda triple: order[triple[0].kind, *triple[1:]])
    groups: list[FileGroup] = []
    first = 0
    for (kind_name, shape, path_headers), triples in groupby(
        shaped, key=lambda triple: (triple[0].kind, *triple[1:])
    ):
        kind = kind_of(kind_name)
        members = tuple(file for file, *_ in triples)
        delivery = delivery_of(settings, kind_name)
        missing_in_file = tuple(name for name in path_headers if name not in shape.header)
        try:
            with same_problem(members):
                columns = columns_of(shape, delivery, members[0].name, missing_in_file)
                kind.check_header(columns, settings, members[0].name)
        except BadFilesError as error:
            problems |= error.problems
            continue
        groups.append(FileGroup(kind, shape, columns, members, first, settings, today))
        first += len(members)
    if problems:
        raise BadFilesError(problems)
    return groups


def _path_headers(file: RawFile, settings: Settings) -> tuple[str, ...]:
    """The headers of columns in the file's path that are part of the kind's key."""
    headers = delivery_of(settings, file.kind).columns
    own = {headers.get(name, name) for name in kind_of(file.kind).key}
    return tuple(name for name in file.path_columns if name in own or name in headers.values())


def _read_shape(
    workspace: Workspace, settings: Settings, file: RawFile, path_headers: Sequence[str]
) -> tuple[RawFile, Shape]:
    """As `read_shape`; whatever the file raises is its own problem."""
    headers = delivery_of(settings, file.kind).columns
    needed = {headers.get(name, name) for name in kind_of(file.kind).required}
    try:
        return read_shape(file, needed - set(path_headers), workspace.folder)
    except BadFilesError:
        raise
    except Exception as error:
        if (storage_error := shortage(workspace.folder, error)) is not None:
            raise storage_error from error
        raise bad_file(file.name, unreadable(error)) from error


def unreadable(error: Exception) -> str:
    """The sentence for a file that raised an error of any class."""
    lines = str(error).strip().splitlines()
    cause = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"{UNREADABLE} ({cause}): deliver it again, or remove it"
