"""Scoring: earlier forecasts against what was sold since, per store and days ahead.

Only what was live counts: a row is scored if it was made before its target date ended, so that a
backfill never speaks for the night that it repeats. Scores of a target date are one immutable
object; a newer one replaces it in the pointer when sales arrive late or are corrected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_job.bucket import keys, releases
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.storage import Storage

Floats = npt.NDArray[np.float64]

ACCURACY_SCHEMA = pa.schema(
    [
        ("store_id", pa.string()),
        ("as_of", pa.date32()),
        ("days_ahead", pa.int16()),
        ("predicted", pa.float64()),
        ("lower_80", pa.float64()),
        ("upper_80", pa.float64()),
        ("actual", pa.float64()),
        ("naive", pa.float64()),
        ("run_id", pa.string()),
    ]
)
"""One row per store and as-of, sorted; `naive` is what was sold on that weekday a week earlier."""

_WEEK = 7


@dataclass(frozen=True, slots=True)
class Sold:
    """Totals of n stores on d consecutive days, oldest first; NaN where nothing is known."""

    store_ids: Sequence[str]
    days: npt.NDArray[np.datetime64]
    totals: Floats

    def on(self, day: date) -> Floats:
        found = np.flatnonzero(self.days == np.datetime64(day, "D"))
        if len(found) == 0:
            return np.full(len(self.store_ids), np.nan)
        return np.asarray(self.totals[:, found[0]])


def score(
    storage: Storage,
    current: Pointer,
    sold: Sold,
    *,
    as_of: date,
    horizon: int,
    zone: ZoneInfo,
) -> dict[date, pa.Table]:
    """The scores (ACCURACY_SCHEMA) of the target dates whose known sales have changed."""
    if not len(sold.store_ids):
        return {}
    loaded: dict[str, pa.Table | None] = {}
    changed: dict[date, pa.Table] = {}
    for back in range(horizon):
        target = as_of - timedelta(days=back)
        actual = sold.on(target)
        known = {
            store: (float(value), float(naive))
            for store, value, naive in zip(
                sold.store_ids, actual, sold.on(target - timedelta(days=_WEEK)), strict=True
            )
            if not np.isnan(value)
        }
        before = _read(storage, current.accuracy.get(target))
        if not known or _says(before, known):
            continue
        rows = [
            _scored(release, target, day, known, zone)
            for day in _nights(current, target, horizon)
            if (release := _release(storage, current, current.dates[day], loaded)) is not None
        ]
        table = _merge(before, [one for one in rows if one.num_rows])
        if table.num_rows and (before is None or not table.equals(before)):
            changed[target] = table
    return changed


def write(storage: Storage, scores: Mapping[date, pa.Table], run_id: str) -> dict[date, str]:
    """Write scores unseen; returns their keys, for the pointer. Idempotent per run."""
    written = {}
    for target, table in scores.items():
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        key = keys.accuracy(target, run_id)
        storage.create(key, sink.getvalue().to_pybytes())
        written[target] = key
    return written


def _nights(current: Pointer, target: date, horizon: int) -> list[date]:
    nights = [target - timedelta(days=k) for k in range(horizon, 0, -1)]
    return [day for day in nights if current.dates.get(day) not in (None, *current.bad)]


def _release(
    storage: Storage, current: Pointer, name: str, loaded: dict[str, pa.Table | None]
) -> pa.Table | None:
    if name not in loaded:
        entry = current.entry(name)
        loaded[name] = None if entry is None else releases.load(storage, name, entry.sha256).stores
    return loaded[name]


def _scored(
    release: pa.Table,
    target: date,
    as_of: date,
    known: Mapping[str, tuple[float, float]],
    zone: ZoneInfo,
) -> pa.Table:
    ended = datetime.combine(target + timedelta(days=1), time(), zone)
    theirs = pc.and_(
        pc.equal(release["as_of"], pa.scalar(as_of, pa.date32())),
        pc.less(release["generated_at"], pa.scalar(ended, pa.timestamp("us", "UTC"))),
    )
    stores = pa.array(list(known), pa.string())
    rows = release.filter(
        pc.and_(pc.fill_null(theirs, False), pc.is_in(release["store_id"], stores))
    )
    ahead = (target - as_of).days
    rows = rows.filter(pc.greater_equal(pc.list_value_length(rows["predicted"]), ahead))
    if rows.num_rows == 0:
        return ACCURACY_SCHEMA.empty_table()
    found = [known[store] for store in rows["store_id"].to_pylist()]
    columns = {
        "store_id": rows["store_id"],
        "as_of": rows["as_of"],
        "days_ahead": pa.repeat(pa.scalar(ahead, pa.int16()), rows.num_rows),
        **{
            name: pc.list_element(rows[name], ahead - 1)
            for name in ("predicted", "lower_80", "upper_80")
        },
        "actual": pa.array([actual for actual, _ in found], pa.float64()),
        "naive": pa.array([naive for _, naive in found], pa.float64()),
        "run_id": rows["run_id"],
    }
    return pa.table([columns[field.name] for field in ACCURACY_SCHEMA], schema=ACCURACY_SCHEMA)


def _merge(before: pa.Table | None, new: Sequence[pa.Table]) -> pa.Table:
    """The new scores, and those of before for stores and nights that have no new one."""
    table = pa.concat_tables([*new, ACCURACY_SCHEMA.empty_table()])
    if before is not None:
        mine = {
            (row["store_id"], row["as_of"])
            for row in table.select(["store_id", "as_of"]).to_pylist()
        }
        kept = [
            (row["store_id"], row["as_of"]) not in mine
            for row in before.select(["store_id", "as_of"]).to_pylist()
        ]
        table = pa.concat_tables([table, before.filter(pa.array(kept, pa.bool_()))])
    return table.sort_by([("store_id", "ascending"), ("as_of", "ascending")]).combine_chunks()


def _says(before: pa.Table | None, known: Mapping[str, tuple[float, float]]) -> bool:
    """Whether the scores that are there rest on the same sales."""
    if before is None:
        return False
    there = dict(zip(before["store_id"].to_pylist(), before["actual"].to_pylist(), strict=True))
    return all(there.get(store) == actual for store, (actual, _) in known.items())


def _read(storage: Storage, key: str | None) -> pa.Table | None:
    if key is None:
        return None
    try:
        with pq.ParquetFile(
            pa.BufferReader(storage.read(key)), page_checksum_verification=True
        ) as file:
            return file.read().cast(ACCURACY_SCHEMA)
    except pa.ArrowException as error:
        raise CorruptError(f"{key}: the scores cannot be read: {error}") from error
