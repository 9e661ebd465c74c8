"""Reads the bucket in the background and replaces the served state when something has changed.

A new release is loaded and verified while the old one is still served. If the bucket cannot be read
or a release cannot be verified, the last good snapshot stays, and the state says why. The pointer
and the grants are read only if their generation has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from time import perf_counter

from api.auth.grants import DENY_ALL, Grants, GrantsFile, compile_grants
from api.metrics import Metrics
from api.store import snapshot
from api.store.part_cache import PartCache
from api.store.snapshot import Snapshot
from api.store.state import ServedState, schedule_of
from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError, StorecastError
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.storage import Storage, Versioned

_LOG = logging.getLogger("api.refresh")
_TIMEOUT_SECONDS = 8.0
"""A bucket that has not answered for so long counts as unreadable, even if the client retries."""
_MAX_EARLIER_RELEASES = 3
_MAX_REFRESHES_BETWEEN_TRIES = 16


class Refresher:
    """Owns `state`. `refresh` reads the bucket once, `run` does so again and again."""

    def __init__(
        self,
        storage: Storage,
        parts: PartCache,
        metrics: Metrics,
        clock: Callable[[], datetime],
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        self.state = ServedState()
        self.has_read_bucket = False
        """Whether the first read has ended, with or without success."""
        self.previous: Snapshot | None = None
        """The snapshot before the last swap. Callers may still request further pages of it."""
        self._storage = storage
        self._parts = parts
        self._metrics = metrics
        self._clock = clock
        self._timeout = timeout_seconds
        self._threads = ThreadPoolExecutor(1, "refresh")
        # The generation of a refused pointer, and the number of refreshes since.
        self._refused: tuple[str | None, int] = (None, 0)

    async def run(self, every_seconds: float) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(every_seconds)

    async def refresh(self) -> None:
        """Read the bucket once. Its errors are logged and counted, and are visible in `state`."""
        started_at = self._clock()
        reading = asyncio.get_running_loop().run_in_executor(self._threads, self._read)
        await asyncio.wait({reading}, timeout=self._timeout)
        if not reading.done():
            self._mark_unreadable(started_at, StorageError(f"{keys.POINTER}: no answer yet"))
        try:
            pointer, grants = await reading
        except (StorageError, NotFoundError, CorruptError) as error:
            self._mark_unreadable(started_at, error)
        else:
            self._apply_grants(grants)
            await self._apply_pointer(pointer)
        finally:
            self.has_read_bucket = True

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> tuple[Versioned | None, Versioned | None]:
        """The pointer and the grants, each None if it has not changed or never existed.

        Raises NotFoundError if the pointer was deleted. Deleted grants have no bytes and no
        generation.
        """
        return (
            self._read_if_changed("pointer", keys.POINTER, self.state.generation),
            self._read_if_changed("grants", keys.GRANTS, self.state.grants_generation),
        )

    def _read_if_changed(self, kind: str, key: str, generation: str | None) -> Versioned | None:
        self._metrics.storage_reads.labels(kind).inc()
        if generation is not None:
            with suppress(NotFoundError):
                return self._storage.read_if_changed(key, generation)
            if key == keys.POINTER:
                raise NotFoundError(f"{key}: the object was deleted")
            return Versioned(b"", "")
        try:
            return self._storage.read_versioned(key)
        except NotFoundError:
            return None

    def _apply_grants(self, grants_file: Versioned | None) -> None:
        """An invalid file leaves the last good grants in force; a deleted one denies everybody."""
        if grants_file is None:
            return
        if not grants_file.generation:
            self.state = replace(self.state, grants=DENY_ALL, grants_generation=None)
            return
        grants: Grants = self.state.grants
        try:
            grants = compile_grants(GrantsFile.from_bytes(grants_file.data, keys.GRANTS))
        except CorruptError as error:
            self._count_failure("grants", error)
        self.state = replace(self.state, grants=grants, grants_generation=grants_file.generation)

    async def _apply_pointer(self, pointer_file: Versioned | None) -> None:
        if self.state.unread_since is not None:
            self.state = replace(self.state, unread_since=None)
        if pointer_file is None or self._must_wait(pointer_file.generation):
            return
        run = asyncio.get_running_loop().run_in_executor
        try:
            state = await run(self._threads, self._load, pointer_file)
        except StorecastError as error:
            self._refuse(pointer_file.generation, error)
            return
        previous = self.state.snapshot
        # This task alone changes the state, so that the grants in it are still the newest.
        self.state = state
        if state.refused is None:
            self._refused = (None, 0)
        if state.snapshot is not previous and state.snapshot is not None:
            self.previous = previous
            self._metrics.swaps.inc()
            _LOG.info("serving release %s", state.snapshot.name)
            await run(self._threads, self._remove_unused_parts)

    def _load(self, pointer_file: Versioned) -> ServedState:
        """The state with the release that the pointer names.

        A process that serves nothing yet takes the newest earlier release that can be verified.
        """
        generation = pointer_file.generation
        pointer = Pointer.from_bytes(pointer_file.data, keys.POINTER)
        schedule = schedule_of(pointer)
        entry = pointer.current_entry
        state = replace(self.state, pointer=pointer, schedule=schedule, refused=None)
        if entry is None:
            return replace(state, generation=generation, snapshot=None)
        current = self.state.snapshot
        if current is not None and current.entry.sha256 == entry.sha256:
            return replace(state, generation=generation, snapshot=replace(current, entry=entry))
        try:
            loaded = self._load_release(entry)
        except (CorruptError, NotFoundError, StorageError) as error:
            if current is not None:
                raise
            earlier = self._load_earlier(pointer, entry)
            self._refuse(generation, error)
            return replace(state, snapshot=earlier, refused=str(error))
        return replace(state, generation=generation, snapshot=loaded)

    def _load_release(self, entry: Published) -> Snapshot:
        self._metrics.storage_reads.labels("release").inc()
        started = perf_counter()
        loaded = snapshot.load(self._storage, entry)
        self._parts.fetch(loaded.part_objects())
        self._metrics.load_seconds.set(perf_counter() - started)
        return loaded

    def _load_earlier(self, pointer: Pointer, refused: Published) -> Snapshot:
        """The newest earlier release that can be verified. Raises CorruptError if there is none."""
        for entry in _earlier(pointer, refused):
            with suppress(CorruptError, NotFoundError):
                return self._load_release(entry)
        raise CorruptError(
            f"{refused.release}: neither this release nor an earlier one can be verified"
        )

    def _remove_unused_parts(self) -> None:
        """Keep the parts of the served snapshot and of the previous one."""
        snapshots = (self.state.snapshot, self.previous)
        self._parts.keep_only(
            {
                digest
                for loaded in snapshots
                if loaded is not None
                for digest in loaded.part_objects().values()
            }
        )

    def _must_wait(self, generation: str) -> bool:
        """Whether a refused pointer is not tried again in this refresh.

        It is tried after 1, 2, 4, 8, 16, 32, 48 … refreshes, because its release may be large and
        is not likely to change.
        """
        refused, refreshes = self._refused
        if refused != generation:
            self._refused = (None, 0)
            return False
        self._refused = (generation, refreshes + 1)
        is_power_of_two = refreshes & (refreshes - 1) == 0
        return not (is_power_of_two or refreshes % _MAX_REFRESHES_BETWEEN_TRIES == 0)

    def _refuse(self, generation: str, error: StorecastError) -> None:
        refused, refreshes = self._refused
        self._refused = (generation, refreshes if refused == generation else 1)
        self._count_failure("refused", error)
        if self.state.refused != str(error):
            self.state = replace(self.state, refused=str(error))

    def _mark_unreadable(self, since: datetime, error: StorecastError) -> None:
        self._count_failure("unread", error)
        if self.state.unread_since is None:
            self.state = replace(self.state, unread_since=since)

    def _count_failure(self, kind: str, error: StorecastError) -> None:
        self._metrics.refresh_failures.labels(kind).inc()
        _LOG.warning("%s: %s", kind, error)


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
