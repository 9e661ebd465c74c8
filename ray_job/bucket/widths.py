"""The widths of the intervals of an as-of: immutable factors, computed once from earlier scores.

A run computes the factors of its as-of and model before it plans, and creates an object with them.
Every later run of the same as-of and model reads this object, so that scores that arrive late
change no chunk. Of two runs at once the second one reads what the first one created.
`ray_job.model.adaptive` has the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, CorruptError, NotFoundError
from ray_job.bucket.records import Record
from ray_job.bucket.storage import Storage

SMALL = 1.6
"""A single series' forecast below this is small: see `IntervalWidths`.

Of counts with this mean a fifth is 0 (Poisson): such a series would be intermittent.
"""


class SideFactors(Record):
    """Factors of the distances from a forecast to its bounds, by days ahead from 1.

    Beyond the last one, the last one counts. Without any they are 1. `tracked` and `excess`, each
    for the lower and the upper side, are what the factors continue from.
    """

    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    tracked: tuple[tuple[float, ...], ...] = ()
    excess: tuple[tuple[float, ...], ...] = ()

    def at(self, days_ahead: int) -> tuple[float, float]:
        return _at(self.lower, days_ahead), _at(self.upper, days_ahead)


class IntervalWidths(Record):
    """`series` are for single series, and for stores with one; `totals` for sums over items.

    `small` are for the small forecasts of single series, whose bounds move by whole counts. None:
    they have those of `series`, as in an earlier version. `days` is the number of scored days that
    moved them, from the first night of the model on.
    """

    series: SideFactors = SideFactors()
    small: SideFactors | None = None
    totals: SideFactors = SideFactors()
    days: int = 0

    @property
    def is_neutral(self) -> bool:
        """Whether all factors are 1: the intervals are as they were calibrated."""
        sides = (self.series, self.of_small, self.totals)
        return all(factor == 1.0 for side in sides for factor in (*side.lower, *side.upper))

    @property
    def of_small(self) -> SideFactors:
        """The factors of small forecasts of single series."""
        return self.series if self.small is None else self.small


CALIBRATED = IntervalWidths()
"""The widths of intervals that are as they were calibrated."""


class KeptWidths(Record):
    """The widths of an as-of and a model; `counted` are the target dates that they come from."""

    as_of: date
    model_version: str
    widths: IntervalWidths = CALIBRATED
    counted: tuple[date, ...] = ()


def read(storage: Storage, as_of: date, model_version: str) -> KeptWidths | None:
    """The widths that were kept, None where there are none. Raises CorruptError."""
    key = keys.widths(as_of, model_version)
    try:
        return KeptWidths.from_bytes(storage.read(key), key)
    except NotFoundError:
        return None


def keep(storage: Storage, widths: KeptWidths) -> KeptWidths:
    """Create the object of an as-of and a model; returns what it holds, whoever was first.

    Raises CorruptError where the object of another writer cannot be read.
    """
    key = keys.widths(widths.as_of, widths.model_version)
    try:
        storage.create(key, widths.to_bytes())
    except ConflictError:
        winner = read(storage, widths.as_of, widths.model_version)
        if winner is None:
            raise CorruptError(f"{key}: the object was there and is gone") from None
        return winner
    return widths


def _at(factors: Sequence[float], days_ahead: int) -> float:
    return factors[min(days_ahead, len(factors)) - 1] if factors else 1.0
