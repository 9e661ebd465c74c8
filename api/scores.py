"""How good forecasts have been: what was said of past days against what was sold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from api.columns import ColumnFiles, rows_of
from api.snapshot import finite
from ray_job.bucket import releases
from ray_job.bucket.errors import NotFoundError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.scores import SCORES_SCHEMA, decode
from ray_job.bucket.storage import Storage

_DAY = timedelta(days=1)
_LONGEST_HORIZON = 14


@dataclass(frozen=True, slots=True)
class Scored:
    """A past day of a store: the last forecast that was made of it before it ended."""

    target_date: date
    as_of: date
    days_ahead: int
    predicted: float | None
    lower: float | None
    upper: float | None
    actual: float | None
    naive: float | None
    run_id: str | None

    @property
    def error(self) -> float | None:
        if self.predicted is None or self.actual is None:
            return None
        return self.predicted - self.actual


class Scores:
    """Reads the score files that the pointer names, once each; thread-safe."""

    def __init__(
        self, storage: Storage, folder: Path, on_read: Callable[[str], None] = lambda _: None
    ) -> None:
        self._storage = storage
        self._files = ColumnFiles(folder)
        self._on_read = on_read

    def history(
        self, pointer: Pointer, schedule: Schedule, store_id: str, days: list[date]
    ) -> list[Scored]:
        """Every one of these past days of which something was said, oldest first.

        Sales that were not delivered (or not scored) yet are None.
        Raises StorageError or CorruptError.
        """
        found = [self._of_day(pointer, schedule, store_id, day) for day in days]
        return [each for each in found if each is not None]

    def _of_day(
        self, pointer: Pointer, schedule: Schedule, store_id: str, day: date
    ) -> Scored | None:
        key = pointer.accuracy.get(day)
        if key is not None:
            try:
                found = _newest(self._files.get(_name(key), lambda: self._read(key)), store_id, day)
            except NotFoundError:
                found = None
            if found is not None:
                return found
        entry = _live_on(pointer, day)
        if entry is None:
            return None
        name = _name(f"{entry.sha256} {day}")
        try:
            table = self._files.get(name, lambda: self._read_release(entry, schedule, day))
        except NotFoundError:
            return None
        return _newest(table, store_id, day)

    def _read(self, key: str) -> pa.Table:
        self._on_read("accuracy")
        return decode(self._storage.read(key), key)

    def _read_release(self, entry: Published, schedule: Schedule, day: date) -> pa.Table:
        """What a release said of a day, as scores without sales."""
        self._on_read("release")
        stores = releases.load(self._storage, entry.release, entry.sha256).stores
        ended = datetime.combine(day + _DAY, time(), schedule.zone).astimezone(UTC)
        made_in_time = pc.less(
            stores.column("generated_at"), pa.scalar(ended, pa.timestamp("us", "UTC"))
        )
        stores = stores.filter(pc.fill_null(made_in_time, fill_value=False)).combine_chunks()
        dates = stores.column("target_dates").combine_chunks()
        parents = pc.list_parent_indices(dates)
        matching = pc.equal(dates.flatten(), pa.scalar(day, pa.date32()))
        rows = parents.filter(matching)
        length = len(rows)
        as_of = stores.column("as_of").take(rows)
        ahead = pc.days_between(as_of, pa.scalar(day, pa.date32()))
        return pa.table(
            {
                "store_id": stores.column("store_id").take(rows),
                "as_of": as_of,
                "days_ahead": ahead.cast(pa.int16()),
                **{
                    name: stores.column(name).combine_chunks().flatten().filter(matching)
                    for name in ("predicted", "lower_80", "upper_80")
                },
                "actual": pa.nulls(length, pa.float64()),
                "naive": pa.nulls(length, pa.float64()),
                "run_id": stores.column("run_id").take(rows),
            },
            schema=SCORES_SCHEMA,
        )


def _live_on(pointer: Pointer, day: date) -> Published | None:
    """The release of the newest as-of before a day."""
    for ahead in range(1, _LONGEST_HORIZON + 1):
        name = pointer.dates.get(day - ahead * _DAY)
        if name is not None and name not in pointer.bad:
            return pointer.entry(name)
    return None


def _newest(table: pa.Table, store_id: str, day: date) -> Scored | None:
    rows = rows_of(table, store_id).to_pylist()
    if not rows:
        return None
    row = min(rows, key=lambda each: each["days_ahead"])
    return Scored(
        day,
        row["as_of"],
        row["days_ahead"],
        finite(row["predicted"]),
        finite(row["lower_80"]),
        finite(row["upper_80"]),
        finite(row["actual"]),
        finite(row["naive"]),
        row["run_id"],
    )


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Summary:
    """Over the days whose sales are known. `wape`: Σ|error| / Σ actual; `bias`: Σ error / Σ actual.

    Days that were forecast as closed, and were, are no proof of skill and don't count. `naive_wape`
    is that of the naive rule: what was sold on that weekday a week earlier. Of the `compared_days`
    that have it, on `better_days` the forecast was nearer to the sales.
    """

    days: int
    mae: float | None
    wape: float | None
    bias: float | None
    coverage_80: float | None
    naive_wape: float | None
    compared_days: int
    better_days: int


def summarise(days: list[Scored]) -> Summary:
    known = [
        (each, each.predicted, each.actual)
        for each in days
        if each.predicted is not None
        and each.actual is not None
        and (each.predicted > 0 or each.actual > 0)
    ]
    sold = sum(actual for _, _, actual in known)
    off = sum(abs(predicted - actual) for _, predicted, actual in known)
    bounded = [
        each.lower <= actual <= each.upper
        for each, _, actual in known
        if each.lower is not None and each.upper is not None
    ]
    ruled = [
        (each.naive, predicted, actual)
        for each, predicted, actual in known
        if each.naive is not None
    ]
    ruled_sold = sum(actual for _, _, actual in ruled)
    ruled_off = sum(abs(naive - actual) for naive, _, actual in ruled)
    return Summary(
        days=len(known),
        mae=_ratio(off, len(known)),
        wape=_ratio(off, sold),
        bias=_ratio(sum(predicted - actual for _, predicted, actual in known), sold),
        coverage_80=_ratio(sum(bounded), len(bounded)),
        naive_wape=_ratio(ruled_off, ruled_sold),
        compared_days=len(ruled),
        better_days=sum(
            abs(predicted - actual) < abs(naive - actual) for naive, predicted, actual in ruled
        ),
    )


def _ratio(value: float, of: float) -> float | None:
    return value / of if of else None
