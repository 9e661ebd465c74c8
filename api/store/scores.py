"""Forecasts of past days and the sales of these days."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from api.store.snapshot import finite
from api.store.table_cache import TableCache, rows_of
from ray_job.bucket import releases
from ray_job.bucket.errors import NotFoundError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.scores import SCORES_SCHEMA, decode
from ray_job.bucket.storage import Storage

_DAY = timedelta(days=1)
_MAX_HORIZON = 14


@dataclass(frozen=True, slots=True)
class ScoredDay:
    """A past day of a store with the last forecast that was made before the day ended.

    `actual` and `naive` are None while the sales are not known.
    """

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


class ScoreReader:
    """Reads the score files that the pointer names, once each. Thread-safe.

    `on_read` is called with `accuracy` or `release` before each read of the bucket.
    """

    def __init__(
        self, storage: Storage, folder: Path, on_read: Callable[[str], None] = lambda _: None
    ) -> None:
        self._storage = storage
        self._tables = TableCache(folder)
        self._on_read = on_read

    def scored_days(
        self, pointer: Pointer, schedule: Schedule, store_id: str, days: list[date]
    ) -> list[ScoredDay]:
        """Those of `days` for which there was a forecast, in the same order.

        Raises StorageError or CorruptError.
        """
        scored = [self._scored_day(pointer, schedule, store_id, day) for day in days]
        return [day for day in scored if day is not None]

    def _scored_day(
        self, pointer: Pointer, schedule: Schedule, store_id: str, day: date
    ) -> ScoredDay | None:
        """From the scores of the day, else from the release that was live on the evening before."""
        key = pointer.accuracy.get(day)
        if key is not None:
            try:
                scores = self._tables.get(_table_name(key), lambda: self._read_scores(key))
            except NotFoundError:
                scored = None
            else:
                scored = _latest_forecast(scores, store_id, day)
            if scored is not None:
                return scored
        entry = _release_before(pointer, day)
        if entry is None:
            return None
        name = _table_name(f"{entry.sha256} {day}")
        try:
            forecasts = self._tables.get(name, lambda: self._read_release(entry, schedule, day))
        except NotFoundError:
            return None
        return _latest_forecast(forecasts, store_id, day)

    def _read_scores(self, key: str) -> pa.Table:
        self._on_read("accuracy")
        return decode(self._storage.read(key), key)

    def _read_release(self, entry: Published, schedule: Schedule, day: date) -> pa.Table:
        """The forecasts of `day` that were made before it ended (SCORES_SCHEMA), without sales."""
        self._on_read("release")
        stores = releases.load(self._storage, entry.release, entry.sha256).stores
        day_end = datetime.combine(day + _DAY, time(), schedule.zone).astimezone(UTC)
        made_in_time = pc.less(
            stores.column("generated_at"), pa.scalar(day_end, pa.timestamp("us", "UTC"))
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


def _release_before(pointer: Pointer, day: date) -> Published | None:
    """The release of the newest as-of before `day`, None if there is none within the horizon."""
    for ahead in range(1, _MAX_HORIZON + 1):
        name = pointer.dates.get(day - ahead * _DAY)
        if name is not None and name not in pointer.bad:
            return pointer.entry(name)
    return None


def _latest_forecast(table: pa.Table, store_id: str, day: date) -> ScoredDay | None:
    """The store's row with the fewest days ahead. `table` has SCORES_SCHEMA."""
    rows = rows_of(table, store_id).to_pylist()
    if not rows:
        return None
    row = min(rows, key=lambda score: score["days_ahead"])
    return ScoredDay(
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


def _table_name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
