"""Reading a chunk's stores from packs, as far as these prove what they are.

An entry of a pack is used only if each of its files is in the snapshot, with the same size, or has
no day that is used. Names of files are unique and files never change, so that its rows are then
those of the files. All other rows of the store must have been delivered strictly before or after
it, since it keeps only what its rows fold to. What is not in an entry is read from the partitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.errors import CorruptError, StorecastError
from ray_job.bucket.storage import Storage
from ray_job.data.packs.index import PackIndex, PackRecord, Section, store_hash
from ray_job.data.packs.packed_rows import PackedRows
from ray_job.data.packs.parts import (
    EVERYTHING,
    joined_parts,
    overlaps,
    store_days,
)
from ray_job.data.packs.sections import COLUMN_PREFIX
from ray_job.data.packs.values import unpack_numbers
from ray_job.data.partition import Columns, FileRows, delivery_span
from ray_job.data.requests import map_in_order
from ray_job.data.store_days import StoreDays
from ray_job.plan import ItemRange

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_GAP_BYTES = 256 * 2**10
"""Sections that are not needed are fetched, too, where that saves a request for so few bytes."""


@dataclass(frozen=True, slots=True)
class ChunkFiles:
    """The files of a chunk (plan.FILES_SCHEMA), and the days that are used, since 1970.

    With `items` the chunk has one store, and only these items of it are wanted.
    """

    files: pa.Table
    first_day: int
    last_day: int
    items: ItemRange | None = None


@dataclass(frozen=True, slots=True)
class PackedChunk:
    """The rows of a chunk that packs have, and the files that are to be read beside them.

    `store_days` are the days of the store in the files that packs have, where the chunk has a range
    of its items.
    """

    rows: PackedRows | None
    left: pa.Table
    store_days: StoreDays | None = None


def read_packed(
    storage: Storage, index: PackIndex, chunk: ChunkFiles, columns: Columns
) -> PackedChunk:
    """What packs have of the chunk.

    The rows of a file that is left belong after the store's packed rows if they were all delivered
    later; else the packed rows of the store must not be used. Damage of any kind only makes fewer
    rows packed. Raises MemoryError.
    """
    stores = pc.unique(chunk.files["store_id"])
    hashes = np.sort(np.array([store_hash(store) for store in stores.to_pylist()], np.int64))
    items = chunk.items or EVERYTHING
    requests = [request for pack in index.packs for request in _requests(pack, hashes, items)]

    def read(request: _Request) -> list[pa.RecordBatch]:
        try:
            return request.sections_of(storage)
        except (StorecastError, pa.ArrowException, OSError):
            return []

    candidates = _Candidates(chunk, stores)
    try:
        answers = map_in_order(storage, read, requests)
        batches = [batch for answer in answers for batch in answer]
        for batch in sorted(joined_parts(batches, items), key=_first_delivered):
            candidates.add(batch)
        return candidates.rows(columns)
    except (pa.ArrowException, StorecastError, LookupError, TypeError, ValueError):
        return PackedChunk(None, chunk.files)


def delivered_before(packed: PackedRows, histories: Mapping[str, Sequence[FileRows]]) -> set[str]:
    """The stores some of whose files were not all delivered after the packed rows."""
    through = packed.delivered_through()
    return {
        store
        for store, files in histories.items()
        if store in through and any(delivery_span(rows)[0] <= through[store] for rows in files)
    }


def _first_delivered(batch: pa.RecordBatch) -> int:
    first: int = pc.min(batch.column("first_delivered")).as_py()
    return first


@dataclass(frozen=True, slots=True)
class _Request:
    """Neighbouring sections of a pack, which are fetched with one request."""

    pack: PackRecord
    sections: Sequence[Section]

    def sections_of(self, storage: Storage) -> list[pa.RecordBatch]:
        begin = self.sections[0].offset
        end = self.sections[-1].offset + self.sections[-1].length
        data = memoryview(storage.read_range(self.pack.key, begin, end))
        batches = []
        for section in self.sections:
            piece = data[section.offset - begin :][: section.length]
            if google_crc32c.value(bytes(piece)) == section.crc32c:
                with pa.ipc.open_stream(pa.py_buffer(piece)) as stream:
                    batches.append(stream.read_next_batch())
        return batches


def _requests(pack: PackRecord, hashes: Ints, items: ItemRange) -> list[_Request]:
    """The requests for the sections that may have one of the stores with these sorted hashes."""
    bounds = np.array([section[:2] for section in pack.sections], np.int64)
    begins = np.searchsorted(hashes, bounds[:, 0], side="left")
    ends = np.searchsorted(hashes, bounds[:, 1], side="right")
    groups: list[list[Section]] = []
    for place in np.flatnonzero(begins < ends).tolist():
        section = pack.sections[place]
        if section.items is not None and not overlaps(section.items, items):
            continue
        if groups:
            before = groups[-1][-1]
            if section.offset - before.offset - before.length <= _GAP_BYTES:
                groups[-1].append(section)
                continue
        groups.append([section])
    return [_Request(pack, sections) for sections in groups]


class _Candidates:
    """The entries of the chunk's stores, and those of them that may be used."""

    def __init__(self, chunk: ChunkFiles, stores: pa.Array) -> None:
        self._chunk = chunk
        self._stores = stores.combine_chunks() if isinstance(stores, pa.ChunkedArray) else stores
        self._paths = chunk.files["path"].combine_chunks()
        self._sizes = chunk.files["bytes"].to_numpy()
        self._batches: list[pa.RecordBatch] = []
        self._entries: list[tuple[Ints, Ints, Ints]] = []
        """Of each batch's entries: the store's place, the first and the last delivery."""
        self._covered: list[tuple[Ints, Ints]] = []
        """Of each batch: the entry and the file's place, for each file that is covered."""

    def add(self, batch: pa.RecordBatch) -> None:
        stores = pc.index_in(batch.column("store_id"), value_set=self._stores)
        if stores.null_count:
            mine = stores.is_valid()
            batch, stores = batch.filter(mine), stores.drop_null()
        if not batch.num_rows:
            return
        usable, owners, files = self._proven(batch)
        if not usable.all():
            batch = batch.filter(pa.array(usable))
            stores = stores.filter(pa.array(usable))
            kept = usable[owners]
            owners, files = (np.cumsum(usable) - 1)[owners[kept]], files[kept]
        if not batch.num_rows:
            return
        self._batches.append(batch)
        self._entries.append(
            (
                stores.to_numpy().astype(np.int64),
                batch.column("first_delivered").to_numpy(),
                batch.column("last_delivered").to_numpy(),
            )
        )
        self._covered.append((owners, files))

    def _proven(self, batch: pa.RecordBatch) -> tuple[Flags, Ints, Ints]:
        """Which entries may be used; the entry and the place of each of their files."""
        paths = batch.column("paths")
        owners = np.repeat(np.arange(len(batch)), paths.value_lengths().to_numpy())
        places = pc.fill_null(pc.index_in(paths.flatten(), value_set=self._paths), -1).to_numpy()
        is_live = places >= 0
        sizes = batch.column("sizes").flatten().to_numpy()
        is_live &= self._sizes[places] == sizes
        is_used = (batch.column("first_days").flatten().to_numpy() <= self._chunk.last_day) & (
            batch.column("last_days").flatten().to_numpy() >= self._chunk.first_day
        )
        wrong = np.where(places >= 0, ~is_live, is_used)
        usable = np.bincount(owners, weights=wrong, minlength=len(batch)) == 0
        usable &= np.bincount(owners, weights=is_live, minlength=len(batch)) > 0
        chosen = is_live & usable[owners]
        return usable, owners[chosen], places[chosen].astype(np.int64)

    def rows(self, columns: Columns) -> PackedChunk:
        keep = self._chosen()
        if not any(flags.any() for flags in keep):
            return PackedChunk(None, self._chunk.files)
        batches = [
            batch if flags.all() else batch.filter(pa.array(flags))
            for batch, flags in zip(self._batches, keep, strict=True)
        ]
        is_left = np.ones(self._chunk.files.num_rows, np.bool_)
        for flags, (owners, files) in zip(keep, self._covered, strict=True):
            is_left[files[flags[owners]]] = False
        left = self._chunk.files.filter(pa.array(is_left))
        used = [batch for batch in batches if batch.num_rows]
        rows = _packed_rows(used, columns)
        if self._chunk.items is None:
            return PackedChunk(rows, left)
        within = rows.within(self._chunk.items)
        return PackedChunk(within if within.store_ids else None, left, store_days(used, rows))

    def _chosen(self) -> list[Flags]:
        """Which entries of each batch are used: no file twice, and in the order of delivery."""
        sizes = [len(stores) for stores, _, _ in self._entries]
        if not sizes:
            return []
        stores, first, last = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        offsets = np.cumsum([0, *sizes[:-1]])
        owners = np.concatenate(
            [entries + offset for (entries, _), offset in zip(self._covered, offsets, strict=True)]
        )
        files = np.concatenate([places for _, places in self._covered])
        keep = self._without_repeated(owners, files, len(stores))
        used = np.flatnonzero(keep)
        order = used[np.argsort(stores[used], kind="stable")]
        same = stores[order[1:]] == stores[order[:-1]]
        wrong = same & (first[order[1:]] <= last[order[:-1]])
        if wrong.any():
            keep &= ~np.isin(stores, stores[order[1:]][wrong])
        return np.split(keep, offsets[1:])

    @staticmethod
    def _without_repeated(owners: Ints, files: Ints, entries: int) -> Flags:
        """Of entries with the same files those with the most."""
        keep = np.ones(entries, np.bool_)
        counts = np.bincount(files)
        if counts.max(initial=0) <= 1:
            return keep
        taken: set[int] = set()
        files_of: dict[int, list[int]] = {}
        for owner, place in zip(owners.tolist(), files.tolist(), strict=True):
            files_of.setdefault(owner, []).append(place)
        for owner, places in sorted(files_of.items(), key=lambda pair: -len(pair[1])):
            if taken.isdisjoint(places):
                taken.update(places)
            else:
                keep[owner] = False
        return keep


def _packed_rows(batches: Sequence[pa.RecordBatch], columns: Columns) -> PackedRows:
    run_days = _integers(batches, "run_days")
    run_rows = _integers(batches, "run_rows")
    ends = np.cumsum(run_rows)
    n_rows = int(ends[-1])
    days = np.repeat(run_days - (ends - run_rows), run_rows) + np.arange(n_rows)
    arrays = [pa.array(days.astype(np.int32)).cast(pa.date32())]
    entry_rows = [_lengths(batch.column(f"{COLUMN_PREFIX}sales")) for batch in batches]
    for name in ("sales", *columns.names):
        is_text = name in (columns.categories or {})
        arrays.append(
            _values(batches, name, [int(rows.sum()) for rows in entry_rows], is_text=is_text)
        )
    sold = np.concatenate([_lengths(batch.column("sold_days")) for batch in batches])
    packed = PackedRows(
        table=pa.table(arrays, names=["date", "sales", *columns.names]),
        store_ids=[store for batch in batches for store in batch.column("store_id").to_pylist()],
        entry_rows=np.concatenate(entry_rows),
        last_delivered=np.concatenate(
            [batch.column("last_delivered").to_numpy() for batch in batches]
        ),
        items=[item for batch in batches for item in batch.column("items").flatten().to_pylist()],
        item_rows=_integers(batches, "item_rows"),
        run_rows=run_rows,
        run_delivered=_integers(batches, "run_delivered"),
        run_adds=_integers(batches, "run_adds") > 0,
        sold_entries=np.repeat(np.arange(len(sold)), sold),
        sold_days=_integers(batches, "sold_days"),
    )
    if not n_rows == packed.entry_rows.sum() == packed.item_rows.sum():
        raise CorruptError("a pack contradicts itself")
    return packed


def _values(
    batches: Sequence[pa.RecordBatch], name: str, rows: Sequence[int], *, is_text: bool
) -> pa.ChunkedArray:
    """The values of a column; null or NaN where a section has no such column."""
    arrays = []
    for batch, count in zip(batches, rows, strict=True):
        place = batch.schema.get_field_index(COLUMN_PREFIX + name)
        if place < 0:
            arrays.append(pa.nulls(count, pa.string()) if is_text else np.full(count, np.nan))
            continue
        flat = batch.column(place).flatten()
        is_string = pa.types.is_string(flat.type)
        arrays.append(flat if is_string else unpack_numbers(batch.schema.field(place), flat))
    if all(isinstance(array, np.ndarray) for array in arrays):
        return pa.chunked_array([pa.array(np.concatenate(arrays))])
    return pa.chunked_array(arrays, pa.string())


def _integers(batches: Sequence[pa.RecordBatch], name: str) -> Ints:
    return np.concatenate(
        [batch.column(name).flatten().to_numpy().astype(np.int64) for batch in batches]
    )


def _lengths(lists: pa.ListArray) -> Ints:
    lengths: Ints = lists.value_lengths().to_numpy().astype(np.int64)
    return lengths
