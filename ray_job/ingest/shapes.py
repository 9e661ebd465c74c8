"""The shape of a delivered file: its format, header and column types, read without its rows.

Files of one shape are read in one query, however many they are.
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

from ray_job.ingest.bad import bad_file
from ray_job.settings import Delivery

FORMATS = (".csv", ".csv.gz", ".parquet")
_DELIMITERS = ",;\t|"
_HEADER_BYTES = 1 << 16

Found = Literal["untyped", "number", "integer", "text", "day", "other"]


@dataclass(frozen=True, slots=True)
class Shape:
    """`types` are those that the file itself gives its columns: those of a CSV are untyped."""

    format: Literal["csv", "parquet"]
    delimiter: str
    header: tuple[str, ...]
    types: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is taken from a file: our name, the header's, its place and found type."""

    name: str
    header: str
    index: int
    found: Found


def has_known_format(name: str) -> bool:
    return name.lower().endswith(FORMATS)


def read_shape(path: Path, name: str) -> Shape:
    """The shape of the file at `path`, which errors call `name`. Raises BadFilesError."""
    try:
        if path.stat().st_size == 0:
            raise bad_file(name, "the file is empty")
        if path.name.lower().endswith(".parquet"):
            return _parquet_shape(path, name)
        return _csv_shape(path, name)
    except OSError as error:
        raise bad_file(name, f"{error.strerror or error}") from error


def _csv_shape(path: Path, name: str) -> Shape:
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path, "rb") as file:
                start = file.read(_HEADER_BYTES)
        else:
            with path.open("rb") as file:
                start = file.read(_HEADER_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise bad_file(name, f"the gzip file is damaged or cut off ({error})") from error
    try:
        text = start.decode(
            "utf-8-sig", errors="strict" if len(start) < _HEADER_BYTES else "ignore"
        )
    except UnicodeDecodeError as error:
        raise bad_file(name, f"the file is not UTF-8 text ({error.reason})") from error
    if not text.strip():
        raise bad_file(name, "the file is empty")
    first = text.splitlines()[0]
    delimiter = max(
        _DELIMITERS, key=lambda mark: (len(_fields(first, mark)), -_DELIMITERS.index(mark))
    )
    header = tuple(field.strip() for field in _fields(text, delimiter))
    untyped: Found = "untyped"
    return Shape("csv", delimiter, header, (untyped,) * len(header))


def _fields(text: str, delimiter: str) -> list[str]:
    return next(csv.reader(io.StringIO(text), delimiter=delimiter), [])


def _parquet_shape(path: Path, name: str) -> Shape:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise bad_file(name, "the Parquet file is damaged or cut off") from error
    return Shape("parquet", "", tuple(schema.names), tuple(_found(one) for one in schema.types))


def _found(kind: pa.DataType) -> Found:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "day"
    if pa.types.is_null(kind):
        return "text"
    return "other"


def columns_of(shape: Shape, delivery: Delivery, name: str) -> tuple[Column, ...]:
    """The file's columns under our names, without those that the settings ignore.

    A header that the settings map is read under the name that they give; any other one keeps its
    own. Raises BadFilesError where two columns get one name (capitals don't count), or one none.
    """
    ours = {header: known for known, header in delivery.columns.items()}
    taken = tuple(
        Column(ours.get(header, header), header, index, found)
        for index, (header, found) in enumerate(zip(shape.header, shape.types, strict=True))
        if header not in delivery.ignore
    )
    for column in taken:
        if not column.name:
            raise bad_file(name, f"column {column.index + 1} has no name in the header")
    counts = Counter(column.name.casefold() for column in taken)
    for column in taken:
        if counts[column.name.casefold()] > 1:
            raise bad_file(name, f"more than one column of the header is {column.name}")
    return taken
