"""Loads the release that a pointer names, and verifies it and its parts.

Everything here blocks, and is called in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from time import perf_counter

from api.metrics import Metrics
from api.store import snapshot
from api.store.local.copies import LocalCopies
from api.store.part_cache import PartCache
from api.store.snapshot import Snapshot
from api.store.state import ServedState, schedule_of
from ray_job.bucket import keys, parts, releases
from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError, StorecastError
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.storage import Storage, Versioned

_MAX_EARLIER_RELEASES = 3
_YEARS = range(1970, 3000)


@dataclass(frozen=True, slots=True)
class LoadedState:
    """`error`: why `state` has an earlier release than the one that the pointer names."""

    state: ServedState
    error: StorecastError | None = None


class ReleaseLoader:
    """Keeps copies of what it has verified."""

    def __init__(
        self,
        storage: Storage,
        part_cache: PartCache,
        copies: LocalCopies,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._parts = part_cache
        self._copies = copies
        self._metrics = metrics
        self._clock = clock

    def load(self, pointer_file: Versioned, served: ServedState) -> LoadedState:
        """The state with the release that the pointer names.

        A process that serves nothing yet takes the newest earlier release that can be verified, or
        the copy of the one that was served last.
        Raises CorruptError, NotFoundError or StorageError if the state must stay as it is.
        """
        generation = pointer_file.generation
        pointer, entry = _read_pointer(pointer_file.data)
        state = replace(served, pointer=pointer, schedule=schedule_of(pointer), refused=None)
        current = served.snapshot
        if current is not None and current.entry.sha256 == entry.sha256:
            loaded = replace(current, entry=entry)
        else:
            try:
                loaded = self._load_release(entry)
            except (CorruptError, NotFoundError, StorageError) as error:
                if current is not None:
                    raise
                earlier = self._load_earlier(pointer, entry)
                return LoadedState(replace(state, snapshot=earlier, refused=str(error)), error)
        self._copies.keep("pointer", pointer_file.data, self._clock())
        return LoadedState(replace(state, generation=generation, snapshot=loaded))

    def restore(self, served: ServedState) -> ServedState | None:
        """The state of the copies on the disk; None without a copy of the pointer.

        It has no generation, so that the pointer is read as soon as the bucket can be read. Raises
        CorruptError if a copy is damaged or missing.
        """
        copy = self._copies.kept("pointer")
        if copy is None:
            return None
        pointer, entry = _read_pointer(copy.data)
        schedule = schedule_of(pointer)
        return replace(served, pointer=pointer, schedule=schedule, snapshot=self._load_copy(entry))

    def keep_only(self, snapshots: Collection[Snapshot | None]) -> None:
        """Remove the local files of all other releases."""
        kept = [loaded for loaded in snapshots if loaded is not None]
        self._parts.keep_only(
            {digest for loaded in kept for digest in loaded.part_objects().values()}
        )
        self._copies.keep_only_releases({loaded.entry.sha256 for loaded in kept})

    def _load_release(self, entry: Published) -> Snapshot:
        started = perf_counter()
        data = self._copies.kept_release(entry.sha256)
        if data is None:
            self._metrics.storage_reads.labels("release").inc()
            data = self._storage.read(keys.release(entry.release))
            loaded = _decode(entry, data)
            self._copies.keep_release(entry.sha256, data)
        else:
            loaded = _decode(entry, data)
        del data
        self._parts.fetch(loaded.part_objects())
        self._metrics.load_seconds.set(perf_counter() - started)
        return loaded

    def _load_copy(self, entry: Published) -> Snapshot:
        """The release from its copies. Raises CorruptError if one is damaged or missing."""
        data = self._copies.kept_release(entry.sha256)
        if data is None:
            raise CorruptError(f"{entry.release}: there is no copy of the release")
        loaded = _decode(entry, data)
        self._parts.map_local(loaded.part_objects())
        return loaded

    def _last_served(self, pointer: Pointer) -> Snapshot | None:
        """The copy of the release that was served last, unless a rollback gave it up."""
        copy = self._copies.kept("pointer")
        if copy is not None:
            with suppress(CorruptError):
                _, entry = _read_pointer(copy.data)
                return None if entry.release in pointer.bad else self._load_copy(entry)
        return None

    def _load_earlier(self, pointer: Pointer, refused: Published) -> Snapshot:
        """The newest earlier release that can be verified. Raises CorruptError if there is none."""
        copy = self._last_served(pointer)
        for entry in _earlier(pointer, refused):
            if copy is not None and _order(copy.entry) >= _order(entry):
                return copy
            with suppress(CorruptError, NotFoundError):
                return self._load_release(entry)
        if copy is not None:
            return copy
        raise CorruptError(
            f"{refused.release}: neither this release nor an earlier one can be verified"
        )


def _read_pointer(data: bytes) -> tuple[Pointer, Published]:
    """The pointer and the entry of its current release. Raises CorruptError."""
    pointer = Pointer.from_bytes(data, keys.POINTER)
    entry = pointer.current_entry
    if entry is None:
        raise CorruptError(f"{keys.POINTER}: current: it names no release of the history")
    _check_times(pointer)
    return pointer, entry


def _order(entry: Published) -> tuple[date, datetime]:
    return entry.as_of, entry.published_at


def _check_times(pointer: Pointer) -> None:
    """Raise CorruptError for times that cannot be computed with, although they are well formed."""
    if pointer.deadline.tzinfo is not None:
        raise CorruptError(f"{keys.POINTER}: deadline: the time must have no zone of its own")
    for entry in pointer.history:
        if entry.published_at.tzinfo is None:
            raise CorruptError(f"{keys.POINTER}: published_at: the time has no zone")
        for moment in _order(entry):
            if moment.year not in _YEARS:
                raise CorruptError(f"{keys.POINTER}: {moment} cannot be the time of a publication")


def _decode(entry: Published, data: bytes) -> Snapshot:
    key = keys.release(entry.release)
    if parts.sha256(data) != entry.sha256:
        raise CorruptError(f"{key}: the sha256 of the object is not the one that the pointer names")
    return snapshot.from_release(entry, releases.decode(data, key))


def _earlier(pointer: Pointer, refused: Published) -> Iterator[Published]:
    """Up to `_MAX_EARLIER_RELEASES` good releases of the same or an earlier as-of, newest first."""
    names: set[str] = set()
    for entry in pointer.history:
        is_good = entry.release not in pointer.bad and entry.release not in names
        if is_good and entry.release != refused.release and entry.as_of <= refused.as_of:
            names.add(entry.release)
            yield entry
        if len(names) == _MAX_EARLIER_RELEASES:
            return
