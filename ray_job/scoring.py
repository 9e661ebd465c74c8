"""Scoring: earlier forecasts against what was sold since, per store and days ahead.

Only what was live counts: of each as-of the release that stood when the target date ended, and of
it the rows that were made before that, so that a backfill never speaks for the night that it
repeats. The scores of a target date are one immutable object. As all that they are made of but the
sales stays as it is, a date is scored once when its sales arrive, however late (up to SCORED_DAYS),
and again only where its sales, or those of a week before, have changed since.

Which sales a run has seen is noted, as one digest per target date, in the metadata of the scores
that it writes: on a usual night the newest object tells that nothing older has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
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
from ray_job.bucket.pointer import Pointer, Published
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

SCORED_DAYS = 14
"""Target dates up to the as-of that a run scores; sales that come later are not scored."""

_WEEK = 7
SOLD_DAYS = SCORED_DAYS + _WEEK
"""So many days' sales, up to the as-of, tell all that scoring asks."""

_SEEN = b"storecast.seen"
_BOUNDS = ("predicted", "lower_80", "upper_80")
_FROM_RELEASE = ("store_id", "as_of", "generated_at", "run_id", *_BOUNDS)
_DAY = timedelta(days=1)


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
        return np.ascontiguousarray(self.totals[:, found[0]])


@dataclass(frozen=True, slots=True)
class _Known:
    """The stores whose sales of the target date are known, and what they sold a week before."""

    target: date
    stores: pa.Array
    actual: Floats
    naive: Floats

    @classmethod
    def of(cls, sold: Sold, stores: pa.Array, target: date) -> _Known:
        actual, naive = sold.on(target), sold.on(target - _WEEK * _DAY)
        known = ~np.isnan(actual)
        return cls(target, stores.filter(pa.array(known)), actual[known], naive[known])

    def digest(self) -> str:
        names = "\n".join(self.stores.to_pylist()).encode()
        return hashlib.sha256(names + self.actual.tobytes() + self.naive.tobytes()).hexdigest()

    def said_by(self, scores: pa.Table | None) -> bool:
        """Whether scores rest on the same sales. What nothing was said of does not matter."""
        if scores is None:
            return False
        at = pc.index_in(scores["store_id"], value_set=self.stores).to_numpy()
        rows = np.flatnonzero(~np.isnan(at))
        places = at[rows].astype(np.int64)
        return bool(
            np.array_equal(scores["actual"].to_numpy()[rows], self.actual[places])
            and np.array_equal(scores["naive"].to_numpy()[rows], self.naive[places], equal_nan=True)
            and np.bincount(places, minlength=len(self.actual)).all()
        )


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
    stores = pa.array(sold.store_ids, pa.string())
    targets = [as_of - back * _DAY for back in range(SCORED_DAYS)]
    known = [one for one in (_Known.of(sold, stores, day) for day in targets) if len(one.stores)]
    if not known:
        return {}
    digests = {str(one.target): one.digest() for one in known}
    seen = _seen(storage, current)
    loaded: dict[str, pa.Table] = {}
    changed: dict[date, pa.Table] = {}
    for one in known:
        if digests[str(one.target)] == seen.get(str(one.target)):
            continue
        before = _read(storage, current.accuracy.get(one.target))
        if one.said_by(before):
            continue
        rows = [
            _scored(_load(storage, entry, loaded), one, entry.as_of, zone)
            for entry in _live(current, one.target, horizon, zone)
        ]
        table = _merge(before, rows)
        if table.num_rows and (before is None or not _same(table, before)):
            changed[one.target] = table.replace_schema_metadata({_SEEN: json.dumps(digests)})
    return changed


def write(storage: Storage, scores: Mapping[date, pa.Table], run_id: str) -> dict[date, str]:
    """Write scores unseen; returns their keys, for the pointer. Idempotent per run."""
    written = {}
    for target, table in scores.items():
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            compression="zstd",
            use_dictionary=["store_id", "as_of", "days_ahead", "run_id"],
            write_statistics=False,
            write_page_checksum=True,
        )
        key = keys.accuracy(target, run_id)
        storage.create(key, sink.getvalue().to_pybytes())
        written[target] = key
    return written


def read(storage: Storage, key: str) -> pa.Table:
    """The scores of one target date (ACCURACY_SCHEMA). Raises NotFoundError or CorruptError."""
    return _decode(storage.read(key), key)


def _live(current: Pointer, target: date, horizon: int, zone: ZoneInfo) -> Iterator[Published]:
    """Of each as-of that could speak of `target`, the last release before the day was over."""
    ended = _end(target, zone)
    for ahead in range(horizon, 0, -1):
        night = target - ahead * _DAY
        # The history is newest first.
        found = next(
            (
                entry
                for entry in current.history
                if entry.as_of == night
                and entry.published_at < ended
                and entry.release not in current.bad
            ),
            None,
        )
        if found is not None:
            yield found


def _end(target: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(target + _DAY, time(), zone)


def _load(storage: Storage, entry: Published, loaded: dict[str, pa.Table]) -> pa.Table:
    if entry.release not in loaded:
        loaded[entry.release] = releases.load_columns(
            storage, entry.release, entry.sha256, _FROM_RELEASE
        )
    return loaded[entry.release]


def _scored(release: pa.Table, known: _Known, as_of: date, zone: ZoneInfo) -> pa.Table:
    """The release's own rows (none that it carries) of stores whose sales are known."""
    ahead = (known.target - as_of).days
    at = pc.index_in(release["store_id"], value_set=known.stores)
    ended = pa.scalar(_end(known.target, zone), pa.timestamp("us", "UTC"))
    theirs = pc.and_(
        pc.and_(
            pc.equal(release["as_of"], pa.scalar(as_of, pa.date32())),
            pc.less(release["generated_at"], ended),
        ),
        pc.and_(
            pc.is_valid(at), pc.greater_equal(pc.list_value_length(release["predicted"]), ahead)
        ),
    )
    rows = release.filter(pc.fill_null(theirs, False))
    places = at.filter(pc.fill_null(theirs, False)).to_numpy().astype(np.int64)
    columns = {
        "store_id": rows["store_id"],
        "as_of": rows["as_of"],
        "days_ahead": pa.repeat(pa.scalar(ahead, pa.int16()), rows.num_rows),
        **{name: pc.list_element(rows[name], ahead - 1) for name in _BOUNDS},
        "actual": pa.array(known.actual[places]),
        "naive": pa.array(known.naive[places]),
        "run_id": rows["run_id"],
    }
    return pa.table([columns[field.name] for field in ACCURACY_SCHEMA], schema=ACCURACY_SCHEMA)


def _merge(before: pa.Table | None, new: Sequence[pa.Table]) -> pa.Table:
    """The new scores, and those of before for stores and nights that have no new one, sorted."""
    table = pa.concat_tables([ACCURACY_SCHEMA.empty_table(), *new])
    fresh = table.num_rows
    if before is not None:
        table = pa.concat_tables([table, before.replace_schema_metadata(None)])
    stores = pc.unique(table["store_id"])
    stores = stores.take(pc.sort_indices(stores))
    place = pc.index_in(table["store_id"], value_set=stores).to_numpy().astype(np.int64)
    night = table["as_of"].to_numpy().astype("datetime64[D]").astype(np.int64)
    order = np.lexsort((np.arange(len(place)) >= fresh, night, place))
    first = np.append(True, (np.diff(place[order]) != 0) | (np.diff(night[order]) != 0))
    return table.take(pa.array(order[first[: len(order)]])).combine_chunks()


def _same(one: pa.Table, other: pa.Table) -> bool:
    return one.num_rows == other.num_rows and all(
        pc.all(pc.equal(one[name], other[name])).as_py()
        if name != "naive"
        else np.array_equal(one[name].to_numpy(), other[name].to_numpy(), equal_nan=True)
        for name in ACCURACY_SCHEMA.names
    )


def _seen(storage: Storage, current: Pointer) -> dict[str, str]:
    """The digests that the newest scores note."""
    if not current.accuracy:
        return {}
    key = current.accuracy[max(current.accuracy)]
    try:
        metadata = pq.read_metadata(pa.BufferReader(storage.read(key))).metadata or {}
    except pa.ArrowException as error:
        raise CorruptError(f"{key}: the scores cannot be read: {error}") from error
    found: dict[str, str] = json.loads(metadata.get(_SEEN, b"{}"))
    return found


def _read(storage: Storage, key: str | None) -> pa.Table | None:
    return None if key is None else read(storage, key)


def _decode(data: bytes, key: str) -> pa.Table:
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            return file.read(use_threads=False).cast(ACCURACY_SCHEMA)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise CorruptError(f"{key}: the scores cannot be read: {error}") from error
