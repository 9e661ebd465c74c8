"""The shape of a raw file: its format, header and column types, read without its rows.

Files of the same shape are read with one query.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.bucket.errors import DISK_FULL
from ray_job.ingest.reading.plain_text import EMPTY_FILE, plain_copy, read_start
from ray_job.ingest.reading.raw_files import RawFile, bad_file
from ray_job.settings import Delivery

DAMAGED_PARQUET = "the Parquet file is damaged or cut off: deliver it again"
PATH_INDEX = -1
"""The index of a column that is not in the file, but in the folders of its key."""

FileType = Literal["untyped", "number", "integer", "text", "day", "other"]
"""The type of a column in its file. All columns of a CSV file are `untyped`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`types` are the types of the columns of `header`, in the same order."""

    format: Literal["csv", "parquet"]
    delimiter: str
    header: tuple[str, ...]
    types: tuple[FileType, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is read. `name` is its name in the tables, `header` its name in the file.

    `index` is its place in the file, from 0, or `PATH_INDEX`.
    """

    name: str
    header: str
    index: int
    file_type: FileType


def read_shape(file: RawFile, required: Collection[str], folder: Path) -> tuple[RawFile, Shape]:
    """The file and its shape. A CSV file that is not plain gets a plain copy in `folder`.

    `required` are the headers that the file must have. Raises BadFilesError.
    """
    path, name = file.path, file.name
    try:
        if path.stat().st_size == 0:
            raise bad_file(name, EMPTY_FILE)
        if path.name.lower().endswith(".parquet"):
            return file, _parquet_shape(path, name)
        start = read_start(path, name, required)
        if not start.is_plain:
            copy = plain_copy(path, name, start.encoding, start.skipped, folder)
            file = replace(file, plain=copy, skipped=start.skipped)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise bad_file(name, f"the file cannot be read: {error.strerror or error}") from error
    untyped: FileType = "untyped"
    return file, Shape("csv", start.delimiter, start.header, (untyped,) * len(start.header))


def _parquet_shape(path: Path, name: str) -> Shape:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise bad_file(name, DAMAGED_PARQUET) from error
    types = tuple(_file_type(arrow_type) for arrow_type in schema.types)
    return Shape("parquet", "", tuple(schema.names), types)


def _file_type(arrow_type: pa.DataType) -> FileType:
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    if pa.types.is_boolean(arrow_type) or pa.types.is_integer(arrow_type):
        return "integer"
    if pa.types.is_floating(arrow_type) or pa.types.is_decimal(arrow_type):
        return "number"
    if (
        pa.types.is_string(arrow_type)
        or pa.types.is_large_string(arrow_type)
        or pa.types.is_string_view(arrow_type)
    ):
        return "text"
    if pa.types.is_date(arrow_type) or pa.types.is_timestamp(arrow_type):
        return "day"
    if pa.types.is_null(arrow_type):
        return "text"
    return "other"


def columns_of(
    shape: Shape, delivery: Delivery, name: str, path_headers: Collection[str] = ()
) -> tuple[Column, ...]:
    """The columns of a file that are read: all except those that the settings ignore.

    A header that the settings map gets the name of the settings. Any other column keeps its header
    as its name. Raises BadFilesError if a column has no name, or if two names differ at most by
    capitals. `name` is the file's name in messages; `path_headers` are columns of the file's path.
    """
    name_of_header = {header: known for known, header in delivery.columns.items()}
    columns = tuple(
        Column(name_of_header.get(header, header), header, index, file_type)
        for index, (header, file_type) in enumerate(zip(shape.header, shape.types, strict=True))
        if header not in delivery.ignore
    )
    columns += tuple(
        Column(name_of_header.get(header, header), header, PATH_INDEX, "untyped")
        for header in path_headers
    )
    for column in columns:
        if not column.name:
            raise bad_file(
                name, f"column {column.index + 1} has no name in the header: name or remove it"
            )
    counts = Counter(column.name.casefold() for column in columns)
    for column in columns:
        if counts[column.name.casefold()] > 1:
            raise bad_file(
                name,
                f"more than one column of the header is {column.name}:"
                " rename one of them, or list it under ignore in the settings",
            )
    return columns
