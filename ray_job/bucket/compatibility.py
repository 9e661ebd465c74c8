"""Objects that another version of this program wrote or will read. See decision 0090.

A format has a number. An object without a number is of format 1. Columns may be added within a
format: a reader ignores columns that it does not know, and a column that an object lacks is null.
Version 0.1 reads releases and scores only if these have exactly its own columns. So each column
that was added later is not a column of the Parquet file, but a part of the file's footer.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from ray_job.bucket.errors import CorruptError, UnknownFormatError

FORMAT = 1
"""The newest format that this version reads, of every kind of object."""

_FORMAT_KEY = b"storecast.format"
_ADDED_KEY = "storecast.added_columns"
_PIECE = 2**24
"""So many characters of a footer's value. Readers of Parquet refuse values of 100 MB and more."""


def check_format(number: object, key: str) -> None:
    """Raise UnknownFormatError, which names `key`, unless this version reads the format `number`.

    None means format 1.
    """
    if number is None or (isinstance(number, int) and number <= FORMAT):
        return
    raise UnknownFormatError(
        f"{key}: the object is of format {number}, and this version reads formats up to {FORMAT}:"
        " use the version of storecast that wrote it, or a newer one"
    )


def check_metadata(metadata: Mapping[bytes, bytes] | None, key: str) -> None:
    """`check_format` of a Parquet object with this metadata."""
    number = (metadata or {}).get(_FORMAT_KEY)
    if number is not None:
        text = number.decode(errors="replace")
        check_format(int(text) if text.isdecimal() else text, key)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` in its order and types. Missing columns and fields are null.

    Other columns of `table` are left out. Raises ArrowInvalid if a type cannot be converted.
    """
    if table.schema.equals(schema):
        return table
    present = set(table.column_names)
    columns = [
        table[field.name].cast(field.type)
        if field.name in present
        else pa.chunked_array([pa.nulls(table.num_rows, field.type)])
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def split_added(table: pa.Table, first: Collection[str]) -> tuple[pa.Table, dict[str, str]]:
    """The columns `first` of a table, and what the file's footer has of its other columns."""
    added = [name for name in table.column_names if name not in first]
    if not added:
        return table, {}
    sink = pa.BufferOutputStream()
    columns = table.select(added).replace_schema_metadata(None)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, columns.schema, options=options) as stream:
        stream.write_table(columns)
    text = base64.b64encode(sink.getvalue()).decode()
    pieces = [text[begin : begin + _PIECE] for begin in range(0, len(text), _PIECE)]
    footer = {f"{_ADDED_KEY}.{place}": piece for place, piece in enumerate(pieces)}
    return table.drop_columns(added), footer


def join_added(
    table: pa.Table, metadata: Mapping[bytes, bytes] | None, key: str, wanted: Sequence[str]
) -> pa.Table:
    """The table with those of the `wanted` columns that the file's footer has.

    Raises CorruptError, which names `key`, if the footer's columns cannot be read.
    """
    pieces: list[bytes] = []
    while piece := (metadata or {}).get(f"{_ADDED_KEY}.{len(pieces)}".encode()):
        pieces.append(piece)
    if not pieces or set(wanted) <= set(table.column_names):
        return table
    try:
        with pa.ipc.open_stream(base64.b64decode(b"".join(pieces))) as stream:
            added = stream.read_all()
    except (pa.ArrowException, ValueError, OSError) as error:
        raise CorruptError(f"{key}: the columns of the footer cannot be read: {error}") from error
    if added.num_rows != table.num_rows:
        raise CorruptError(f"{key}: the columns of the footer have another number of rows")
    for name in added.column_names:
        if name in wanted and name not in table.column_names:
            table = table.append_column(added.schema.field(name), added[name])
    return table
