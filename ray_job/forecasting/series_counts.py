"""How many series of each kind are forecast by each method."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.panel import Flags
from ray_job.features.kinds import KINDS
from ray_job.forecasting.predict import (
    CLOSED,
    ENDED,
    FALLBACK,
    METHODS,
    MODEL,
    RULE,
    SIMILAR,
    Predictions,
)

Ints = npt.NDArray[np.int64]

ORDER = [MODEL, RULE, SIMILAR, FALLBACK, ENDED]
"""The first of these methods that is used names a series, or a store's day; else it is closed."""


def counted_series(made: Predictions, known: Flags, stores: Ints, number: int) -> Ints:
    """The number of known series (`number`, kinds × methods) of each store, by kind and method.

    `known` and `stores` are (n,): whether a series counts, and the place of its store.
    """
    used = [(made.method == method).any(axis=1) for method in ORDER]
    cell = made.kinds * len(METHODS) + np.select(used, ORDER, CLOSED)
    cells = len(KINDS) * len(METHODS)
    counts = np.bincount(stores[known] * cells + cell[known], minlength=number * cells)
    return counts.reshape(number, cells)


def series_by_kind(outcomes: Iterable[pa.Table]) -> dict[str, dict[str, int]]:
    """The number of series by kind and by method, of the outcomes of chunks.

    What no series has is left out. Outcomes of earlier versions have no such numbers.
    """
    total = np.zeros((len(KINDS), len(METHODS)), dtype=np.int64)
    for table in outcomes:
        numbers = pc.list_flatten(table["series"]).to_numpy()
        total += numbers.reshape(-1, *total.shape).sum(axis=0)
    return {
        kind: {method: int(number) for method, number in zip(METHODS, row, strict=True) if number}
        for kind, row in zip(KINDS, total, strict=True)
        if row.any()
    }
