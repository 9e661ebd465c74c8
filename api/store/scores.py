"""Forecasts of past days and the sales of these days."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from api.store.local.table_cache import TableCache, rows_of
from api.store.snapshot import finite
from api.store.storage_pool import DEADLINE_SECONDS, StoragePool
from ray_job.bucket import releases
from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError, StorecastError
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


@dataclass(frozen=True, slots=True)
class PastDays:
    """`days` are in the order of the dates. `unread`: why some of them may be missing."""

    days: tuple[ScoredDay, ...]
    unread: StorecastError | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """A table with forecasts of one past day. `name` is its name in the cache."""

    name: str
    read: Callable[[], pa.Table]


class ScoreReader:
    """Reads the score files that the pointer names, once each. For one event loop.

    `on_read` is called with `accuracy` or `release` before each read of the bucket.
    """

    def __init__(
        self,
        storage: Storage,
        folder: Path,
        pool: StoragePool,
        on_read: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._storage = storage
        self._pool = pool
        self._tables = TableCache(folder)
        self._on_read = on_read

    async def past_days(
        self,
        pointer: Pointer,
        schedule: Schedule,
        store_id: str,
        days: list[date],
        seconds: float = DEADLINE_SECONDS,
    ) -> PastDays:
        """Those of `days` for which there was a forecast, in the same order.

        From the scores of the day, else from the release that was live on the evening before. What
        is not on the local disk is read from the bucket, for `seconds` at most. What cannot be read
        in that time is left out, and `unread` of the result says why.
        """
        scored: dict[date, ScoredDay] = {}
        unread: dict[date, StorecastError] = {}
        until = asyncio.get_running_loop().time() + seconds
        for source_of in (self._scores_of, self._release_of):
            sources = {
                day: source
                for day in days
                if day not in scored
                and day not in unread
                and (source := source_of(pointer, schedule, day)) is not None
            }
            forecasts, missing = await asyncio.to_thread(self._cached_forecasts, sources, store_id)
            scored |= forecasts
            if missing:
                left = until - asyncio.get_running_loop().time()
                unread |= await self._read(missing, max(left, 0.0))
                forecasts, _ = await asyncio.to_thread(self._cached_forecasts, missing, store_id)
                scored |= forecasts
        return PastDays(
            tuple(scored[day] for day in days if day in scored), next(iter(unread.values()), None)
        )

    def _scores_of(self, pointer: Pointer, _: Schedule, day: date) -> _Source | None:
        key = pointer.accuracy.get(day)
        if key is None:
            return None
        return _Source(_table_name(key), lambda: self._read_scores(key))

    def _release_of(self, pointer: Pointer, schedule: Schedule, day: date) -> _Source | None:
        entry = _release_before(pointer, day)
        if entry is None:
            return None
        return _Source(
            _table_name(f"{entry.sha256} {day}"), lambda: self._read_release(entry, schedule, day)
        )

    async def _read(
        self, sources: Mapping[date, _Source], seconds: float
    ) -> dict[date, StorecastError]:
        """Read tables into the cache. Returns the errors. A table that is not there is none."""
        results = await asyncio.gather(
            *(
                self._pool.run(
                    ("table", source.name),
                    partial(self._tables.get, source.name, source.read),
                    seconds,
                )
                for source in sources.values()
            ),
            return_exceptions=True,
        )
        errors: dict[date, StorecastError] = {}
        for day, result in zip(sources, results, strict=True):
            if isinstance(result, StorageError | CorruptError):
                errors[day] = result
            elif isinstance(result, BaseException) and not isinstance(result, NotFoundError):
                raise result
        return errors

    def _cached_forecasts(
        self, sources: Mapping[date, _Source], store_id: str
    ) -> tuple[dict[date, ScoredDay], dict[date, _Source]]:
        """The forecasts of the store in the cached tables, and the tables that are not cached."""
        forecasts, missing = {}, {}
        for day, source in sources.items():
            table = self._tables.find(source.name)
            if table is None:
                missing[day] = source
                continue
            forecast = _latest_forecast(table, store_id, day)
            if forecast is not None:
                forecasts[day] = forecast
        return forecasts, missing

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
                "items": stores.column("items").take(rows),
                "model_version": stores.column("model_version").take(rows),
                "lower_factor": pa.nulls(length, pa.float64()),
                "upper_factor": pa.nulls(length, pa.float64()),
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
