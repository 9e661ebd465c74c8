"""Reading the histories of a chunk's stores: from packs where these have them, else from files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa

from ray_job.bucket.errors import CorruptError, InputError, NotFoundError, StorageError
from ray_job.bucket.reasons import ReasonCode
from ray_job.bucket.storage import Storage
from ray_job.data.history_block import ChunkHistories, StoreHistory, UnreadStore
from ray_job.data.packs.index import PackIndex
from ray_job.data.packs.reading import (
    ChunkFiles,
    PackedChunk,
    delivered_before,
    read_packed,
)
from ray_job.data.partition import Columns, FileRows, read_store
from ray_job.data.requests import map_in_order
from ray_job.data.store_days import StoreDays, read_store_days
from ray_job.plan import NO_FILE, Basis, Chunk, ItemRange

_SLOW_SECONDS = 60.0
"""After a chunk has waited this long for requests that failed, its other stores are not tried."""
_EPOCH = date(1970, 1, 1)

_REASON_CODES: tuple[tuple[type[Exception], ReasonCode], ...] = (
    (NotFoundError, ReasonCode.GONE),
    (CorruptError, ReasonCode.CORRUPT),
    (InputError, ReasonCode.BAD_COLUMN),
    (StorageError, ReasonCode.STORAGE),
    (MemoryError, ReasonCode.MEMORY),
)
"""The first class that fits decides."""


def failure_reason(error: Exception) -> tuple[ReasonCode, str]:
    """The reason code and the reason of a store that met this error."""
    for kind, code in _REASON_CODES:
        if isinstance(error, kind):
            return code, str(error) or f"the worker had no memory left ({type(error).__name__})"
    return ReasonCode.ERROR, f"{type(error).__name__}: {error}"


def read_histories(
    storage: Storage, chunk: Chunk, columns: Columns, packs: PackIndex, basis: Basis
) -> ChunkHistories:
    """The histories of the chunk's stores; a store that cannot be read is named, with its reason.

    Whether a row comes from a pack or from a partition makes no difference to what it folds to.
    Raises MemoryError, and what is wrong with the bucket as such.
    """
    read = PackedChunk(None, chunk.files)
    if packs.packs:
        first, last = ((day - _EPOCH).days for day in (basis.first_day, basis.last_day))
        files = ChunkFiles(chunk.files, first, last, chunk.items)
        read = read_packed(storage, packs, files, columns)
    partitions = _Partitions(storage, columns, chunk.items)
    histories: dict[str, Sequence[FileRows]] = {}
    histories.update(partitions.read(paths_by_store(read.left)))
    packed = read.rows
    paths = paths_by_store(chunk.files)
    unordered: set[str] = set()
    if packed is not None:
        unordered = delivered_before(packed, histories)
        packed = packed.without(unordered | partitions.unread.keys())
        histories.update(partitions.read({store: paths[store] for store in sorted(unordered)}))
    if read.left.num_rows < chunk.files.num_rows:
        for store in paths.keys() - partitions.unread.keys():
            histories.setdefault(store, ())
    if read.store_days is not None and not unordered:
        (store,) = paths
        partitions.days[store] = read.store_days.with_days(partitions.days.get(store))
    ordered: list[StoreHistory] = sorted(histories.items())
    return ChunkHistories(
        digest=chunk.digest,
        histories=ordered,
        unread=[partitions.unread[store] for store in sorted(partitions.unread)],
        store_days=None if chunk.items is None else partitions.days,
        packed=packed,
    )


@dataclass(slots=True)
class _Partitions:
    """Reads stores from their partitions. `unread` collects those that cannot be read."""

    storage: Storage
    columns: Columns
    items: ItemRange | None
    unread: dict[str, UnreadStore] = field(default_factory=dict)
    days: dict[str, StoreDays] = field(default_factory=dict)
    waited_seconds: float = 0.0

    def read(self, paths: Mapping[str, Sequence[str]]) -> dict[str, Sequence[FileRows]]:
        """The rows of each store that can be read, by store; `paths` has those to be read."""
        histories: dict[str, Sequence[FileRows]] = {}
        answers = map_in_order(self.storage, self._read_store, paths.items())
        for store, (files, seconds) in zip(paths, answers, strict=True):
            if isinstance(files, Exception):
                self.unread[store] = UnreadStore(store, *failure_reason(files))
                self.waited_seconds += seconds if isinstance(files, StorageError) else 0.0
            else:
                histories[store] = files
        return histories

    def _read_store(
        self, store: tuple[str, Sequence[str]]
    ) -> tuple[Sequence[FileRows] | Exception, float]:
        began = time.monotonic()
        store_id, paths = store
        try:
            if paths and self.waited_seconds > _SLOW_SECONDS:
                raise StorageError(f"{paths[0]}: not read, since the storage did not answer")
            if self.items is not None:
                self.days[store_id] = read_store_days(self.storage, paths)
            return read_store(self.storage, paths, self.columns, self.items), 0.0
        except MemoryError:
            # Another store, which was read before, may be the one that is too large.
            raise
        except tuple(kind for kind, _ in _REASON_CODES) as error:
            return error, time.monotonic() - began


def paths_by_store(files: pa.Table) -> dict[str, list[str]]:
    """Each store with the keys of its files, sorted by store."""
    grouped: dict[str, list[str]] = {}
    for store, path in zip(files["store_id"].to_pylist(), files["path"].to_pylist(), strict=True):
        grouped.setdefault(store, []).extend([path] if path != NO_FILE else [])
    return dict(sorted(grouped.items()))
