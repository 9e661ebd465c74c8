"""Columns of lists as arrays."""

from __future__ import annotations

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
