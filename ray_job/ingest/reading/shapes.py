"""The shape of a raw file: its format, header and column types, read without its rows.

Files of the same shape are read with one query.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.ingest.reading.raw_files import bad_file
from ray_job.settings import Delivery

EMPTY_FILE = "the file is empty: deliver it again, or remove it"
DAMAGED_GZIP = "the gzip file is damaged or cut off: deliver it again"
DAMAGED_PARQUET = "the Parquet file is damaged or cut off: deliver it again"
_DELIMITERS = ",;\t|"
_HEADER_BYTES = 1 << 16

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

    `index` is its place in the file, from 0.
    """

    name: str
    header: str
    index: int
    file_type: FileType


def read_shape(path: Path, name: str) -> Shape:
    """The shape of the file at `path`, which messages call `name`. Raises BadFilesError."""
    try:
        if path.stat().st_size == 0:
            raise bad_file(name, EMPTY_FILE)
        if path.name.lower().endswith(".parquet"):
            return _parquet_shape(path, name)
        return _csv_shape(path, name)
    except OSError as error:
        raise bad_file(name, f"the file cannot be read: {error.strerror or error}") from error


def _csv_shape(path: Path, name: str) -> Shape:
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path, "rb") as file:
                start = file.read(_HEADER_BYTES)
        else:
            with path.open("rb") as file:
                start = file.read(_HEADER_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise bad_file(name, DAMAGED_GZIP) from error
    try:
        text = start.decode(
            "utf-8-sig", errors="strict" if len(start) < _HEADER_BYTES else "ignore"
        )
    except UnicodeDecodeError as error:
        raise bad_file(name, "the file is not UTF-8 text: save it as UTF-8") from error
    if not text.strip():
        raise bad_file(name, EMPTY_FILE)
    first_line = text.splitlines()[0]
    delimiter = max(
        _DELIMITERS, key=lambda mark: (len(_fields(first_line, mark)), -_DELIMITERS.index(mark))
    )
    header = tuple(field.strip() for field in _fields(text, delimiter))
    untyped: FileType = "untyped"
    return Shape("csv", delimiter, header, (untyped,) * len(header))


def _fields(text: str, delimiter: str) -> list[str]:
    """The fields of the first record of a CSV text."""
    return next(csv.reader(io.StringIO(text), delimiter=delimiter), [])


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


def columns_of(shape: Shape, delivery: Delivery, name: str) -> tuple[Column, ...]:
    """The columns of a file that are read: all except those that the settings ignore.

    A header that the settings map gets the name of the settings. Any other column keeps its header
    as its name. Raises BadFilesError if a column has no name, or if two names differ at most by
    capitals. `name` is the file's name in messages.
    """
    name_of_header = {header: known for known, header in delivery.columns.items()}
    columns = tuple(
        Column(name_of_header.get(header, header), header, index, file_type)
        for index, (header, file_type) in enumerate(zip(shape.header, shape.types, strict=True))
        if header not in delivery.ignore
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
