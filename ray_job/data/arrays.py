"""Columns of lists as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]


def matrix(column: pa.ChunkedArray) -> Floats:
    """A column of lists as an array, shorter ones filled up with NaN; null is NaN."""
    flat: Floats = pc.list_flatten(column).to_numpy().astype(np.float64)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    width = int(lengths.max(initial=0))
    if len(flat) == len(lengths) * width:
        return flat.reshape(len(lengths), width)
    padded = np.full((len(lengths), width), np.nan)
    padded[np.arange(width) < lengths[:, None]] = flat
    return padded


def rounding_cast(column: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> Any:
    """The column in another type, rounded where a double or a microsecond says less.

    Raises ArrowInvalid for a value that is outside of the type's range.
    """
    is_exact = not pa.types.is_integer(column.type) or not pa.types.is_floating(kind)
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(column.type):
        is_exact = column.type.unit != "ns"
    return column.cast(kind, safe=is_exact)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in the one type that this program uses for what Arrow has several types for.

    Text becomes string, also from dictionaries; numbers and flags become double, dates date32.
    Columns of other types are returned as they are.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pa.chunked_array(
            [chunk.dictionary_decode() for chunk in column.chunks], type=kind.value_type
        )
        kind = column.type
    is_number = (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )
    if pa.types.is_string(kind) or kind == pa.float64() or pa.types.is_date32(kind):
        return column
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if is_number:
        return rounding_cast(column, pa.float64())
    return column.cast(pa.date32()) if pa.types.is_date64(kind) else column
