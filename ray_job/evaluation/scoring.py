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
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_job.bucket import keys, releases
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.scores import SCORES_SCHEMA, decode
from ray_job.bucket.storage import Storage
from ray_job.data.arrays import Floats, matrix

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

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
    """What n stores sold on the target date and a week before; NaN where nothing is known."""

    target: date
    actual: Floats
    naive: Floats

    @classmethod
    def of(cls, sold: Sold, target: date) -> _Known:
        return cls(target, sold.on(target), sold.on(target - _WEEK * _DAY))

    @property
    def stores(self) -> Flags:
        """The stores whose sales of the target date are known: (n,)."""
        return ~np.isnan(self.actual)

    def digest(self, stores: bytes) -> str:
        """`stores` stands for whose sales these are."""
        return hashlib.sha256(stores + _bits(self.actual) + _bits(self.naive)).hexdigest()

    def said_by(self, scores: pa.Table | None, stores: pa.Array) -> bool:
        """Whether scores rest on the same sales. What nothing was said of does not matter."""
        if scores is None:
            return False
        at = _places(scores["store_id"], stores)
        rows = np.flatnonzero(at >= 0)
        rows = rows[self.stores[at[rows]]]
        places = at[rows]
        seen = np.zeros(len(self.actual), dtype=np.bool_)
        seen[places] = True
        return bool(
            np.array_equal(scores["actual"].to_numpy()[rows], self.actual[places])
            and np.array_equal(scores["naive"].to_numpy()[rows], self.naive[places], equal_nan=True)
            and seen[self.stores].all()
        )


@dataclass(frozen=True, slots=True)
class _Said:
    """What a release says. Arrays have a row for each of its stores.

    `places` are those of the stores that are scored, -1 for others. `bounds` have _BOUNDS, each
    (rows, days ahead).
    """

    places: Ints
    as_of: npt.NDArray[np.datetime64]
    made_at: npt.NDArray[np.datetime64]
    run_ids: pa.ChunkedArray
    bounds: tuple[Floats, ...]


class _Releases:
    """Reads releases, once each, for the scores of `stores`."""

    def __init__(self, storage: Storage, stores: pa.Array) -> None:
        self._storage = storage
        self._stores = stores
        self._read: dict[str, _Said] = {}
        # Nights have the same stores as a rule, and looking texts up is most of the work.
        self._places: tuple[pa.ChunkedArray, Ints] | None = None

    def said(self, entry: Published) -> _Said:
        if entry.release not in self._read:
            table = releases.load_columns(self._storage, entry.release, entry.sha256, _FROM_RELEASE)
            if self._places is None or not self._places[0].equals(table["store_id"]):
                self._places = (table["store_id"], _places(table["store_id"], self._stores))
            self._read[entry.release] = _Said(
                places=self._places[1],
                as_of=table["as_of"].to_numpy().astype("datetime64[D]"),
                made_at=table["generated_at"].to_numpy().astype("datetime64[us]"),
                run_ids=table["run_id"],
                bounds=tuple(matrix(table[name]) for name in _BOUNDS),
            )
        return self._read[entry.release]


def score(
    storage: Storage,
    current: Pointer,
    sold: Sold,
    *,
    as_of: date,
    horizon: int,
    zone: ZoneInfo,
) -> dict[date, pa.Table]:
    """The scores (SCORES_SCHEMA) of the target dates whose known sales have changed."""
    stores = pa.array(sold.store_ids, pa.string())
    known = [_Known.of(sold, as_of - back * _DAY) for back in range(SCORED_DAYS)]
    known = [one for one in known if one.stores.any()]
    if not known:
        return {}
    whose = hashlib.sha256("\n".join(sold.store_ids).encode()).digest()
    digests = {str(one.target): one.digest(whose) for one in known}
    seen = _seen(storage, current)
    found = _Releases(storage, stores)
    changed: dict[date, pa.Table] = {}
    for one in known:
        if digests[str(one.target)] == seen.get(str(one.target)):
            continue
        before = _read(storage, current.accuracy.get(one.target))
        if one.said_by(before, stores):
            continue
        nights = _live(current, one.target, horizon, zone)
        table = _scored([(entry, found.said(entry)) for entry in nights], one, stores, zone)
        if before is not None:
            table = _merge(before, table)
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
    """The scores of one target date (SCORES_SCHEMA). Raises NotFoundError or CorruptError."""
    return decode(storage.read(key), key)


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


def _scored(
    nights: Sequence[tuple[Published, _Said]], known: _Known, stores: pa.Array, zone: ZoneInfo
) -> pa.Table:
    """Each release's own rows (none that it carries) of stores whose sales are known, sorted."""
    ended = np.datetime64(_end(known.target, zone).astimezone(UTC).replace(tzinfo=None), "us")
    places, aheads, run_ids = [], [], []
    bounds: list[list[Floats]] = [[] for _ in _BOUNDS]
    for entry, said in nights:
        ahead = (known.target - entry.as_of).days
        own = said.as_of == np.datetime64(entry.as_of, "D")
        theirs = own & (said.made_at < ended) & (said.places >= 0)
        rows = np.flatnonzero(theirs)
        rows = rows[known.stores[said.places[rows]]]
        if not len(rows) or ahead > said.bounds[0].shape[1]:
            continue
        # A shorter horizon than that of other stores is filled up with NaN.
        rows = rows[~np.isnan(said.bounds[0][rows, ahead - 1])]
        places.append(said.places[rows])
        aheads.append(np.full(len(rows), ahead, dtype=np.int16))
        run_ids.append(said.run_ids.take(pa.array(rows)))
        for values, bound in zip(bounds, said.bounds, strict=True):
            values.append(bound[rows, ahead - 1])
    if not places:
        return SCORES_SCHEMA.empty_table()
    place, ahead_of = np.concatenate(places), np.concatenate(aheads)
    order = np.lexsort((-ahead_of, place))
    place, ahead_of = place[order], ahead_of[order]
    columns = [
        stores.take(pa.array(place)),
        np.datetime64(known.target, "D") - ahead_of.astype(np.int64),
        ahead_of,
        *(np.concatenate(values)[order] for values in bounds),
        known.actual[place],
        known.naive[place],
        pa.chunked_array([chunk for one in run_ids for chunk in one.chunks])
        .take(pa.array(order))
        .combine_chunks(),
    ]
    return pa.table(columns, schema=SCORES_SCHEMA)


def _merge(before: pa.Table, new: pa.Table) -> pa.Table:
    """The new scores, and those of before for stores and nights that have no new one, sorted."""
    table = pa.concat_tables([new, before.replace_schema_metadata(None)])
    stores = pc.unique(table["store_id"])
    place = _places(table["store_id"], stores.take(pc.sort_indices(stores)))
    night = table["as_of"].to_numpy().astype("datetime64[D]").astype(np.int64)
    order = np.lexsort((np.arange(len(place)) >= new.num_rows, night, place))
    first = np.append(True, (np.diff(place[order]) != 0) | (np.diff(night[order]) != 0))
    return table.take(pa.array(order[first[: len(order)]])).combine_chunks()


def _places(ids: pa.ChunkedArray, stores: pa.Array) -> Ints:
    """Where ids are among `stores`, -1 where they are not."""
    found = pc.fill_null(pc.index_in(ids, value_set=stores), -1)
    return np.asarray(found.to_numpy(), dtype=np.int64)


def _bits(values: Floats) -> bytes:
    """Equal for equal values: NaN has many patterns, and zero two."""
    return np.where(np.isnan(values), np.nan, values + 0.0).tobytes()


def _same(one: pa.Table, other: pa.Table) -> bool:
    return one.num_rows == other.num_rows and all(
        pc.all(pc.equal(one[name], other[name])).as_py()
        if name != "naive"
        else np.array_equal(one[name].to_numpy(), other[name].to_numpy(), equal_nan=True)
        for name in SCORES_SCHEMA.names
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
