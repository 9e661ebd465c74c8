"""Columns of the context's tables as Python lists and arrays; wrong ones are named."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ray_job.bucket.errors import InputError
from ray_job.data.panel import Floats

Ints = npt.NDArray[np.int64]


def require(table: pa.Table, kind: str, columns: Iterable[str]) -> None:
    for column in columns:
        if column not in table.column_names:
            raise InputError(f"{kind}: the column {column!r} is missing")


def is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_dictionary(kind)
    )


def texts(column: pa.ChunkedArray) -> list[str | None]:
    return [None if value is None else str(value) for value in column.to_pylist()]


def numbers(column: pa.ChunkedArray) -> Floats:
    values = column.cast(pa.float64()).to_numpy()
    return np.asarray(values, dtype=np.float64)


def ordinals(column: pa.ChunkedArray) -> Ints:
    days = column.cast(pa.date32()).cast(pa.int32())
    if days.null_count:
        raise InputError("weather: a row has no date")
    ordinals: Ints = days.to_numpy().astype(np.int64) + date(1970, 1, 1).toordinal()
    return ordinals
