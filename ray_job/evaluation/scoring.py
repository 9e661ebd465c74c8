"""Scoring: the forecasts that were live against the sales, per store and days ahead.

A forecast was live if its release stood for its as-of when the target date ended, and if its row
was made before that. A backfill is therefore not scored for days that were over when it was made.

The scores of a target date are one immutable object. A date is scored when its sales arrive, up to
SCORED_DAYS later, and again only where its sales or those of the week before have changed.

The metadata of each object of scores has one digest for each target date: that of the sales that
the run used. A usual night reads the newest object only, and its digests prove that no older sales
have changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_job.bucket import keys, releases
from ray_job.bucket.errors import AccessRefusedError, CorruptError, NotFoundError
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.scores import SCORES_SCHEMA, decode, encode
from ray_job.bucket.storage import Storage
from ray_job.bucket.widths import CALIBRATED, SMALL, IntervalWidths
from ray_job.data.arrays import Floats, matrix
from ray_job.evaluation.sales import LAST_WEEK, SalesTotals, TargetSales, places_among

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

SCORED_DAYS = 14
"""A run scores so many target dates, the last one being the as-of. Later sales are not scored."""

SOLD_DAYS = SCORED_DAYS + LAST_WEEK.days
"""Scoring needs the sales of so many days, the last one being the as-of."""

_DIGESTS = b"storecast.seen"
"""The key of the digests in an object's metadata."""
_BOUNDS = ("predicted", "lower_80", "upper_80")
_FROM_RELEASE = ("store_id", "as_of", "generated_at", "run_id", "items", "model_version", *_BOUNDS)
_DAY = timedelta(days=1)
_log = logging.getLogger(__name__)

WidthsOf = Callable[[date, str], IntervalWidths]
"""The widths of the intervals of an as-of and a model."""


def calibrated_widths(as_of: date, model_version: str) -> IntervalWidths:  # noqa: ARG001
    """Widths that were never adapted."""
    return CALIBRATED


@dataclass(frozen=True, slots=True)
class _ReleaseRows:
    """The rows of a release, one for each of its stores.

    `places`: the stores' places among those that are scored, -1 for others. `bounds`: _BOUNDS, each
    (rows, days ahead).
    """

    places: Ints
    as_of: npt.NDArray[np.datetime64]
    made_at: npt.NDArray[np.datetime64]
    run_ids: pa.ChunkedArray
    items: Ints
    models: npt.NDArray[np.object_]
    bounds: tuple[Floats, ...]


class _Releases:
    """The rows of releases for the scores of `stores`. Each release is read once."""

    def __init__(self, storage: Storage, stores: pa.Array) -> None:
        self._storage = storage
        self._stores = stores
        self._rows: dict[str, _ReleaseRows] = {}
        # The releases of most nights have the same stores, and finding their places is slow.
        self._places: tuple[pa.ChunkedArray, Ints] | None = None

    def rows(self, entry: Published) -> _ReleaseRows:
        if entry.release not in self._rows:
            table = releases.load_columns(self._storage, entry.release, entry.sha256, _FROM_RELEASE)
            if self._places is None or not self._places[0].equals(table["store_id"]):
                self._places = (table["store_id"], places_among(table["store_id"], self._stores))
            self._rows[entry.release] = _ReleaseRows(
                places=self._places[1],
                as_of=table["as_of"].to_numpy().astype("datetime64[D]"),
                made_at=table["generated_at"].to_numpy().astype("datetime64[us]"),
                run_ids=table["run_id"],
                items=pc.fill_null(table["items"], 0).to_numpy(),
                models=pc.fill_null(table["model_version"], "").to_numpy(),
                bounds=tuple(matrix(table[name]) for name in _BOUNDS),
            )
        return self._rows[entry.release]

    def readable(self, entries: Iterable[Published]) -> list[tuple[Published, _ReleaseRows]]:
        """The releases that can be read, with their rows."""
        readable = []
        for entry in entries:
            try:
                readable.append((entry, self.rows(entry)))
            except (CorruptError, NotFoundError, AccessRefusedError) as error:
                _log.warning("the forecasts as of %s are not scored: %s", entry.as_of, error)
        return readable


def score(
    storage: Storage,
    current: Pointer,
    totals: SalesTotals,
    *,
    as_of: date,
    horizon: int,
    zone: ZoneInfo,
    widths: WidthsOf = calibrated_widths,
) -> dict[date, pa.Table]:
    """The scores (SCORES_SCHEMA) of the target dates whose known sales have changed.

    `widths` says how wide the intervals were. Nothing is written. No scores are worth a night:
    damaged or missing ones are made anew, a target date to whose scores access is refused is left
    for another night, and a release that cannot be read costs its own. All are logged. Raises
    StorageError.
    """
    stores = pa.array(totals.store_ids, pa.string())
    recent = [TargetSales.of(totals, as_of - back * _DAY) for back in range(SCORED_DAYS)]
    recent = [sales for sales in recent if sales.known.any()]
    if not recent:
        return {}
    store_digest = hashlib.sha256("\n".join(totals.store_ids).encode()).digest()
    digests = {str(sales.target): sales.digest(store_digest) for sales in recent}
    scored_digests = _scored_digests(storage, current)
    published = _Releases(storage, stores)
    changed: dict[date, pa.Table] = {}
    for sales in recent:
        if digests[str(sales.target)] == scored_digests.get(str(sales.target)):
            continue
        try:
            before = _read_if_any(storage, current.accuracy.get(sales.target))
        except AccessRefusedError as error:
            _log.warning("the sales of %s are not scored this time: %s", sales.target, error)
            continue
        if sales.agree_with(before, stores):
            continue
        nights = published.readable(live_releases(current, sales.target, horizon, zone))
        table = _score_target(nights, sales, stores, zone, widths)
        if before is not None:
            table = _merge(before, table)
        if table.num_rows and (before is None or not _same(table, before)):
            changed[sales.target] = table.replace_schema_metadata({_DIGESTS: json.dumps(digests)})
    return changed


def write(storage: Storage, scores: Mapping[date, pa.Table], run_id: str) -> dict[date, str]:
    """Write scores; returns their keys by target date. Idempotent per run.

    Readers see them when the pointer names their keys.
    """
    written = {}
    for target, table in scores.items():
        key = keys.accuracy(target, run_id)
        storage.create(key, encode(table))
        written[target] = key
    return written


def read(storage: Storage, key: str) -> pa.Table:
    """The scores of one target date (SCORES_SCHEMA). Raises NotFoundError or CorruptError."""
    return decode(storage.read(key), key)


def live_releases(
    current: Pointer, target: date, horizon: int, zone: ZoneInfo
) -> Iterator[Published]:
    """For each as-of before `target`, the release that stood when the target date ended.

    The as-ofs go from `horizon` days before it to one day before it. As-ofs without a release and
    releases that were marked as bad are left out.
    """
    ended = _end(target, zone)
    for ahead in range(horizon, 0, -1):
        night = target - ahead * _DAY
        # The entries are newest first.
        standing = next(
            (
                entry
                for entry in current.history
                if entry.as_of == night
                and entry.published_at < ended
                and entry.release not in current.bad
            ),
            None,
        )
        if standing is not None:
            yield standing


def _end(target: date, zone: ZoneInfo) -> datetime:
    """The moment at which a day ends where the stores are."""
    return datetime.combine(target + _DAY, time(), zone)


def _score_target(
    nights: Sequence[tuple[Published, _ReleaseRows]],
    sales: TargetSales,
    stores: pa.Array,
    zone: ZoneInfo,
    widths: WidthsOf,
) -> pa.Table:
    """The scores of stores whose sales are known, sorted by store and as-of.

    Rows that a release carries from an older as-of are left out.
    """
    ended = np.datetime64(_end(sales.target, zone).astimezone(UTC).replace(tzinfo=None), "us")
    places, aheads, run_ids, items, models, factors = [], [], [], [], [], []
    bounds: list[list[Floats]] = [[] for _ in _BOUNDS]
    for entry, release in nights:
        ahead = (sales.target - entry.as_of).days
        own = release.as_of == np.datetime64(entry.as_of, "D")
        live = own & (release.made_at < ended) & (release.places >= 0)
        rows = np.flatnonzero(live)
        rows = rows[sales.known[release.places[rows]]]
        if not len(rows) or ahead > release.bounds[0].shape[1]:
            continue
        # Rows with a shorter horizon than others are filled up with NaN.
        rows = rows[~np.isnan(release.bounds[0][rows, ahead - 1])]
        places.append(release.places[rows])
        aheads.append(np.full(len(rows), ahead, dtype=np.int16))
        run_ids.append(release.run_ids.take(pa.array(rows)))
        items.append(release.items[rows])
        models.append(release.models[rows])
        predicted = release.bounds[0][rows, ahead - 1]
        factors.append(_factors(entry.as_of, ahead, items[-1], predicted, models[-1], widths))
        for values, bound in zip(bounds, release.bounds, strict=True):
            values.append(bound[rows, ahead - 1])
    if not places:
        return SCORES_SCHEMA.empty_table()
    place, ahead_of = np.concatenate(places), np.concatenate(aheads)
    order = np.lexsort((-ahead_of, place))
    place, ahead_of = place[order], ahead_of[order]
    columns = [
        stores.take(pa.array(place)),
        np.datetime64(sales.target, "D") - ahead_of.astype("timedelta64[D]"),
        ahead_of,
        *(np.concatenate(values)[order] for values in bounds),
        sales.actual[place],
        sales.naive[place],
        pa.chunked_array([chunk for taken in run_ids for chunk in taken.chunks])
        .take(pa.array(order))
        .combine_chunks(),
        np.concatenate(items)[order],
        pa.array(np.concatenate(models)[order], pa.string()),
        *np.concatenate(factors, axis=1)[:, order],
    ]
    return pa.table(columns, schema=SCORES_SCHEMA)


def _factors(
    as_of: date,
    ahead: int,
    items: Ints,
    predicted: Floats,
    models: npt.NDArray[np.object_],
    widths: WidthsOf,
) -> Floats:
    """(2, n): the factors of the lower and the upper side that the rows were published with."""
    factors = np.ones((2, len(items)))
    for model in sorted(set(models)):
        of_model = widths(as_of, model)
        is_total, is_small = items > 1, predicted < SMALL
        for sides, chosen in (
            (of_model.totals, is_total),
            (of_model.series, ~is_total & ~is_small),
            (of_model.of_small, ~is_total & is_small),
        ):
            factors[:, chosen & (models == model)] = np.array(sides.at(ahead))[:, None]
    return factors


def _merge(before: pa.Table, new: pa.Table) -> pa.Table:
    """The new scores, and those of `before` of stores and as-ofs without a new one, sorted."""
    table = pa.concat_tables([new, before.replace_schema_metadata(None)])
    stores = pc.unique(table["store_id"])
    place = places_among(table["store_id"], stores.take(pc.sort_indices(stores)))
    night = table["as_of"].to_numpy().astype("datetime64[D]").astype(np.int64)
    order = np.lexsort((np.arange(len(place)) >= new.num_rows, night, place))
    first = np.append(True, (np.diff(place[order]) != 0) | (np.diff(night[order]) != 0))
    return table.take(pa.array(order[first[: len(order)]])).combine_chunks()


def _same(first: pa.Table, second: pa.Table) -> bool:
    return first.num_rows == second.num_rows and all(
        pc.all(pc.equal(first[name], second[name])).as_py()
        if name != "naive"
        else np.array_equal(first[name].to_numpy(), second[name].to_numpy(), equal_nan=True)
        for name in SCORES_SCHEMA.names
    )


def _scored_digests(storage: Storage, current: Pointer) -> dict[str, str]:
    """The digests in the newest scores, by target date."""
    if not current.accuracy:
        return {}
    key = current.accuracy[max(current.accuracy)]
    try:
        metadata = pq.read_metadata(pa.BufferReader(storage.read(key))).metadata or {}
        digests = json.loads(metadata.get(_DIGESTS, b"{}"))
    except (pa.ArrowException, ValueError, CorruptError, NotFoundError, AccessRefusedError):
        return {}  # what is wrong is said where the object is read
    return digests if isinstance(digests, dict) else {}


def _read_if_any(storage: Storage, key: str | None) -> pa.Table | None:
    """The scores; None where there are none, or damaged ones."""
    try:
        return None if key is None else read(storage, key)
    except (CorruptError, NotFoundError) as error:
        _log.warning("scores are made anew: %s", error)
        return None
