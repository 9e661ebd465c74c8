"""The plan: the chunks of a run. Pure: the same inputs give the same chunks and digests.

A store above the chunk size is cut into ranges of items. All other stores are grouped by the
leading bits of sha256(store id). A group above the chunk size is split by the next bit, until it
fits or has one store. So the size of a store affects only its own group, and the digest of a chunk
changes only with its own stores.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.settings import Plan as Limits

FILES_SCHEMA = pa.schema(
    [
        ("store_id", pa.string()),
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("rows", pa.int64()),
        ("first_date", pa.date32()),
        ("last_date", pa.date32()),
    ]
)
"""The files of the histories; `path` is a key of the bucket. Dates are null where unknown."""

NO_FILE = ""
"""The path of a new store of which nothing was delivered yet."""

_MEMORY_PER_ROW = 160
_MEMORY_PER_BYTE = 3


@dataclass(frozen=True, slots=True)
class Basis:
    """Everything that a prediction depends on, beside the files of its store."""

    as_of: date
    horizon: int
    lookback_days: int
    model: str
    context: str
    settings: str
    code: str
    reach: int = 0
    """Days after the as-of whose known-ahead values the model uses.

    The model's digest covers it.
    """
    undelivered: tuple[date, ...] = ()
    """Days up to the as-of on which sales of 0 were filled in ahead."""
    closed_weekdays: tuple[int, ...] = ()
    """Weekdays (Monday is 0) on which the stores of the chain do not sell: for new stores."""
    widths: str = ""
    """The digest of the factors of the intervals; empty where these are as they were calibrated."""
    similar: Mapping[str, str] = field(default_factory=dict)
    """The digest of what each new store is forecast by; only its own chunk depends on it."""

    @property
    def first_day(self) -> date:
        return self.as_of - timedelta(days=self.lookback_days - 1)

    @property
    def target_dates(self) -> tuple[date, ...]:
        return tuple(self.as_of + timedelta(days=k) for k in range(1, self.horizon + 1))

    @property
    def last_day(self) -> date:
        """The last day of which any value is used."""
        return self.as_of + timedelta(days=max(self.horizon, self.reach))


@dataclass(frozen=True, slots=True)
class ItemRange:
    """The items from `first` up to but not including `end`, in UTF-8 order; None is open."""

    first: str | None = None
    end: str | None = None


@dataclass(frozen=True, slots=True)
class RowGroup:
    """The smallest item id of a row group, and how many rows it has."""

    first_item: str
    rows: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit that is planned and retried. `files` is of FILES_SCHEMA, sorted by store and path.

    `rows` and `bytes` are those of the files; for a range of items, an equal fraction of them.
    """

    digest: str
    files: pa.Table = field(compare=False)
    items: ItemRange | None
    n_stores: int
    rows: int
    bytes: int

    @property
    def store_ids(self) -> list[str]:
        ids: list[str] = pc.unique(self.files["store_id"]).to_pylist()
        return ids

    @property
    def memory_bytes(self) -> int:
        """The estimated memory that a worker needs for the chunk, beside the process itself."""
        return self.rows * _MEMORY_PER_ROW + self.bytes * _MEMORY_PER_BYTE


def relevant(files: pa.Table, basis: Basis, stores: Sequence[str] | None = None) -> pa.Table:
    """The files that may hold a row of the days that are used, sorted; only those of `stores`."""
    begins = pc.fill_null(pc.less_equal(files["first_date"], basis.last_day), True)
    ends = pc.fill_null(pc.greater_equal(files["last_date"], basis.first_day), True)
    is_relevant = pc.and_(begins, ends)
    if stores is not None:
        is_relevant = pc.and_(
            is_relevant, pc.is_in(files["store_id"], pa.array(stores, pa.string()))
        )
    return files.filter(is_relevant).sort_by([("store_id", "ascending"), ("path", "ascending")])


def oversized(files: pa.Table, limits: Limits) -> dict[str, str]:
    """The stores above the chunk size, each with the path of its largest file."""
    sums = files.group_by("store_id").aggregate([("bytes", "sum"), ("rows", "sum")])
    is_big = sums.filter(
        pc.or_(
            pc.greater(sums["bytes_sum"], limits.chunk_bytes),
            pc.greater(sums["rows_sum"], limits.chunk_rows),
        )
    )["store_id"]
    largest: dict[str, str] = {}
    if len(is_big):
        of_big_stores = files.filter(pc.is_in(files["store_id"], is_big.combine_chunks()))
        for row in of_big_stores.sort_by(
            [("bytes", "descending"), ("path", "ascending")]
        ).to_pylist():
            largest.setdefault(row["store_id"], row["path"])
    return largest


def make(
    files: pa.Table,
    basis: Basis,
    limits: Limits,
    row_groups: Mapping[str, Sequence[RowGroup]],
) -> list[Chunk]:
    """The chunks, largest first.

    `files` is the result of `relevant`. `row_groups` has the row groups of the largest file of each
    store that `oversized` returns, in their order.
    """
    if files.num_rows == 0:
        return []
    files = files.combine_chunks()
    whole = pc.invert(pc.is_in(files["store_id"], pa.array(list(row_groups), pa.string())))
    chunks = list(_grouped(files.filter(whole), basis, limits))
    for store in sorted(row_groups):
        of_store = files.filter(pc.equal(files["store_id"], store))
        chunks.extend(_cut(of_store, basis, limits, row_groups[store]))
    return sorted(chunks, key=lambda chunk: (-chunk.bytes, chunk.digest))


def halves(chunk: Chunk, basis: Basis) -> tuple[Chunk, Chunk] | None:
    """A chunk cut into two halves of its stores; None if it has one store."""
    stores = chunk.store_ids
    if len(stores) < 2:  # noqa: PLR2004 - one store has no half
        return None
    middle = pa.array(stores[: len(stores) // 2], pa.string())
    first = pc.is_in(chunk.files["store_id"], middle)
    return (
        _chunk(chunk.files.filter(first), basis, chunk.items),
        _chunk(chunk.files.filter(pc.invert(first)), basis, chunk.items),
    )


def _grouped(files: pa.Table, basis: Basis, limits: Limits) -> Iterator[Chunk]:
    if files.num_rows == 0:
        return
    stores = _SortedStores.of(files)
    order = np.argsort(stores.hashes, kind="stable")
    pending = [(0, len(order), 0)]
    while pending:
        first, end, depth = pending.pop()
        members = order[first:end]
        fits = (
            stores.bytes[members].sum() <= limits.chunk_bytes
            and stores.rows[members].sum() <= limits.chunk_rows
        )
        if fits or end - first == 1 or depth == _HASH_BITS:
            yield _chunk(files.take(pa.array(stores.places(np.sort(members)))), basis, None)
            continue
        bit = np.uint64(1) << np.uint64(_HASH_BITS - 1 - depth)
        ones = (stores.hashes[members] & bit) != 0
        middle = first + int(np.count_nonzero(~ones))
        pending += [(a, b, depth + 1) for a, b in ((first, middle), (middle, end)) if a < b]


_HASH_BITS = 64


@dataclass(frozen=True, slots=True)
class _SortedStores:
    """The stores of a sorted table of files: the place of the first file of each, and sums."""

    begins: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    bytes: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    @classmethod
    def of(cls, files: pa.Table) -> _SortedStores:
        ids = files["store_id"].combine_chunks()
        changes = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        begins = np.concatenate([[0], np.flatnonzero(changes) + 1]).astype(np.int64)
        names = ids.take(pa.array(begins)).to_pylist()
        hashes = np.fromiter((_hash(name) for name in names), np.uint64, len(names))
        return cls(
            begins=np.append(begins, len(ids)),
            hashes=hashes,
            bytes=np.add.reduceat(files["bytes"].to_numpy(), begins),
            rows=np.add.reduceat(files["rows"].to_numpy(), begins),
        )

    def places(self, stores: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The places of the files of these stores, store by store."""
        begins = self.begins[stores]
        counts = self.begins[stores + 1] - begins
        ends = np.cumsum(counts)
        places: npt.NDArray[np.int64] = np.arange(ends[-1]) + np.repeat(
            begins - ends + counts, counts
        )
        return places


def _hash(store_id: str) -> int:
    return int.from_bytes(hashlib.sha256(store_id.encode()).digest()[:8], "big")


def _cut(
    files: pa.Table, basis: Basis, limits: Limits, row_groups: Sequence[RowGroup]
) -> Iterator[Chunk]:
    """One store cut into ranges of items with about equal numbers of rows of its largest file.

    A range has half the size of a chunk. Groups of small stores seldom have more, since they are
    halved until they fit, so that the largest store needs no more memory than the others.
    """
    size, rows = pc.sum(files["bytes"]).as_py(), pc.sum(files["rows"]).as_py()
    pieces = max(-(-2 * size // limits.chunk_bytes), -(-2 * rows // limits.chunk_rows))
    rows_per_piece = sum(group.rows for group in row_groups) / pieces
    bounds: list[str] = []
    counted = 0
    for group in row_groups:
        # A bound is the first item of a row group, and never one that an earlier group holds, too.
        last = bounds[-1] if bounds else row_groups[0].first_item
        if counted >= rows_per_piece * (len(bounds) + 1) and group.first_item > last:
            bounds.append(group.first_item)
        counted += group.rows
    edges = [None, *bounds, None]
    for first, end in itertools.pairwise(edges):
        chunk = _chunk(files, basis, ItemRange(first, end))
        yield replace(chunk, rows=rows // (len(bounds) + 1), bytes=size // (len(bounds) + 1))


def with_new_stores(files: pa.Table, stores: Sequence[str]) -> pa.Table:
    """The files, with a row without a path for each of the stores that has no file."""
    missing = sorted(set(stores) - set(pc.unique(files["store_id"]).to_pylist()))
    rows = [{"store_id": store, "path": NO_FILE, "bytes": 0, "rows": 0} for store in missing]
    return pa.concat_tables([files, pa.Table.from_pylist(rows, schema=FILES_SCHEMA)]).sort_by(
        [("store_id", "ascending"), ("path", "ascending")]
    )


def _similar(files: pa.Table, basis: Basis) -> dict[str, str]:
    """What the new stores of a chunk are forecast by."""
    if not basis.similar:
        return {}
    stores = pc.unique(files["store_id"]).to_pylist()
    return {store: basis.similar[store] for store in stores if store in basis.similar}


def _chunk(files: pa.Table, basis: Basis, items: ItemRange | None) -> Chunk:
    inputs = {
        "as_of": basis.as_of.isoformat(),
        "horizon": basis.horizon,
        "lookback_days": basis.lookback_days,
        "model": basis.model,
        "context": basis.context,
        "settings": basis.settings,
        "code": basis.code,
        "items": None if items is None else [items.first, items.end],
        "closed_weekdays": basis.closed_weekdays,
        "undelivered": [day.isoformat() for day in basis.undelivered],
        "widths": basis.widths,
        "similar": _similar(files, basis),
    }
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    digest.update("\n".join(files["path"].to_pylist()).encode())
    return Chunk(
        digest=digest.hexdigest()[:32],
        files=files.combine_chunks(),
        items=items,
        n_stores=int(pc.count_distinct(files["store_id"]).as_py()),
        rows=int(pc.sum(files["rows"]).as_py()),
        bytes=int(pc.sum(files["bytes"]).as_py()),
    )
