"""The sales that scores are made with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.arrays import Floats

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

LAST_WEEK = timedelta(days=7)
"""The naive rule forecasts the sales of so many days before the target date."""


SOLD_DECIMALS = 6
"""The decimals of a store's sales of a day, all its items together."""


@dataclass(frozen=True, slots=True)
class SalesTotals:
    """The sales (n, d) of n stores on d consecutive days, oldest first; NaN where unknown."""

    store_ids: Sequence[str]
    days: npt.NDArray[np.datetime64]
    totals: Floats

    def on(self, day: date) -> Floats:
        """The sales of a day: (n,)."""
        places = np.flatnonzero(self.days == np.datetime64(day, "D"))
        if len(places) == 0:
            return np.full(len(self.store_ids), np.nan)
        return np.ascontiguousarray(self.totals[:, places[0]])


@dataclass(frozen=True, slots=True)
class TargetSales:
    """The sales (n,) of n stores on a target date and one week before it; NaN where unknown."""

    target: date
    actual: Floats
    naive: Floats

    @classmethod
    def of(cls, totals: SalesTotals, target: date) -> TargetSales:
        return cls(target, totals.on(target), totals.on(target - LAST_WEEK))

    @property
    def known(self) -> Flags:
        """The stores whose sales of the target date are known: (n,)."""
        return ~np.isnan(self.actual)

    def digest(self, stores: bytes) -> str:
        """The sha256 of the sales; `stores` is the digest of the stores' ids."""
        return hashlib.sha256(stores + _bits(self.actual) + _bits(self.naive)).hexdigest()

    def agree_with(self, scores: pa.Table | None, stores: pa.Array) -> bool:
        """Whether the scores of all stores with known sales were made with these sales."""
        if scores is None:
            return False
        at = places_among(scores["store_id"], stores)
        rows = np.flatnonzero(at >= 0)
        rows = rows[self.known[at[rows]]]
        places = at[rows]
        scored = np.zeros(len(self.actual), dtype=np.bool_)
        scored[places] = True
        return bool(
            _are_equal(scores["actual"].to_numpy()[rows], self.actual[places])
            and _are_equal(scores["naive"].to_numpy()[rows], self.naive[places])
            and scored[self.known].all()
        )


def places_among(ids: pa.ChunkedArray, stores: pa.Array) -> Ints:
    """The place of each id among `stores`, -1 for other ids."""
    places = pc.fill_null(pc.index_in(ids, value_set=stores), -1)
    return np.asarray(places.to_numpy(), dtype=np.int64)


def _are_equal(scored: Floats, sales: Floats) -> bool:
    """Whether scored sales are these. Scores of earlier versions have unrounded sums."""
    return np.array_equal(np.round(scored, SOLD_DECIMALS), sales, equal_nan=True)


def _bits(values: Floats) -> bytes:
    """Equal bytes for equal values: all NaN get one pattern, and so do both zeros."""
    return np.where(np.isnan(values), np.nan, values + 0.0).tobytes()
