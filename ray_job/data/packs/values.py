"""Columns of a pack: numbers as the smallest integers that give back the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ray_job.data.arrays import Floats

_SCALE_KEY = b"storecast.scale"
_SCALES = (1.0, 10.0, 100.0, 1000.0)
_KINDS = (np.int8, np.int16, np.int32)
_SAMPLE = 64
"""So many values are tried first."""


def pack_numbers(name: str, values: Floats) -> tuple[pa.Field, pa.Array]:
    """The field and the array for numbers, NaN where a value is unknown.

    A number with few decimals is an integer divided by a power of ten, which rounds to the same
    double. The lowest integer of the type stands for NaN. Numbers that have no such form stay as
    they are.
    """
    unknown = np.isnan(values)
    known = values[~unknown] if unknown.any() else values
    for scale in _SCALES:
        if _integers(known[:_SAMPLE], scale) is None:
            continue
        integers = _integers(known, scale)
        if integers is not None:
            kind = _smallest(integers)
            packed = np.full(len(values), np.iinfo(kind).min, kind)
            packed[~unknown] = integers
            metadata = {_SCALE_KEY: str(scale).encode()}
            array = pa.array(packed)
            return pa.field(name, pa.list_(array.type), metadata=metadata), array
    array = pa.array(values)
    return pa.field(name, pa.list_(array.type)), array


def unpack_numbers(field: pa.Field, array: pa.Array) -> Floats:
    """The numbers that `pack_numbers` was given."""
    packed: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    scale = float((field.metadata or {}).get(_SCALE_KEY, b"0"))
    if not scale:
        return packed.astype(np.float64, copy=False)
    values = packed.astype(np.float64)
    if scale != 1.0:
        values /= scale
    unknown = packed == np.iinfo(packed.dtype).min
    if unknown.any():
        values[unknown] = np.nan
    return values


def _integers(values: Floats, scale: float) -> Floats | None:
    """The values times the scale, where that gives back every bit; else None."""
    largest = np.iinfo(np.int32).max
    if len(values) and not np.abs(values).max() < largest / scale:
        return None
    integers = np.rint(values * scale) if scale != 1.0 else np.rint(values)
    back = integers / scale if scale != 1.0 else integers
    # Bits, since 0.0 equals -0.0, which an integer cannot say.
    is_same = np.array_equal(back.view(np.int64), values.view(np.int64))
    has_negative_zero = bool((np.signbit(values) & (values == 0)).any())
    return integers if is_same and not has_negative_zero else None


def _smallest(integers: Floats) -> type[np.signedinteger[Any]]:
    if not len(integers):
        return np.int8
    low, high = integers.min(), integers.max()
    for kind in _KINDS:
        if low > np.iinfo(kind).min and high <= np.iinfo(kind).max:
            return kind
    return np.int32
