"""The background look at the bucket: a new release is loaded beside the old one, then swapped in.

Where the bucket cannot be read, or names what cannot be verified, the last good snapshot stays and
says so. All reads are conditional on the generation that was seen last.
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

from api import snapshot
from api.grants import DENY_ALL, Grants, GrantsFile, compile_grants
from api.metrics import Metrics
from api.parts import PartCache
from api.served import Served, schedule_of
from api.snapshot import Snapshot
from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError, StorecastError
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.storage import Storage, Versioned

_LOG = logging.getLogger("api.refresh")
_PATIENCE_SECONDS = 8.0
"""After so long without an answer the bucket counts as unreadable, whatever the client retries."""
_MOST_EARLIER = 3
_RAREST_LOOKS = 16


class Refresher:
    """Owns `served`. `look` is one look; `run` looks for ever."""

    def __init__(
        self,
        storage: Storage,
        parts: PartCache,
        metrics: Metrics,
        clock: Callable[[], datetime],
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self.served = Served()
        self.looked = False
        self._storage = storage
        self._parts = parts
        self._metrics = metrics
        self._clock = clock
        self._patience = patience_seconds
        self._threads = ThreadPoolExecutor(1, "refresh")
        # The generation of a pointer that was refused, and how often it was seen since.
        self._refused: tuple[str | None, int] = (None, 0)
        self.before: Snapshot | None = None
        """What was served before the last swap: its pages are still being turned."""

    async def run(self, every_seconds: float) -> None:
        while True:
            await self.look()
            await asyncio.sleep(every_seconds)

    async def look(self) -> None:
        """Never raises what the bucket does: it is logged, counted and told by `served`."""
        since = self._clock()
        reading = asyncio.get_running_loop().run_in_executor(self._threads, self._read)
        await asyncio.wait({reading}, timeout=self._patience)
        if not reading.done():
            self._unread(since, StorageError(f"{keys.POINTER}: no answer yet"))
        try:
            pointer, grants = await reading
        except (StorageError, NotFoundError, CorruptError) as error:
            self._unread(since, error)
        else:
            self._take_grants(grants)
            await self._take_pointer(pointer)
        finally:
            self.looked = True

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> tuple[Versioned | None, Versioned | None]:
        """The pointer and the grants, each None while unchanged; NotFoundError: a pointer lost."""
        served = self.served
        return (
            self._read_one("pointer", keys.POINTER, served.generation),
            self._read_one("grants", keys.GRANTS, served.grants_generation),
        )

    def _read_one(self, what: str, key: str, generation: str | None) -> Versioned | None:
        self._metrics.storage_reads.labels(what).inc()
        if generation is not None:
            with suppress(NotFoundError):
                return self._storage.read_if_changed(key, generation)
            if key == keys.POINTER:
                raise NotFoundError(f"{key}: the object was there and is gone")
            return Versioned(b"", "")
        try:
            return self._storage.read_versioned(key)
        except NotFoundError:
            return None

    def _take_grants(self, found: Versioned | None) -> None:
        """A broken file keeps the last good grants; one that was taken away denies everybody."""
        if found is None:
            return
        if not found.generation:
            self.served = replace(self.served, grants=DENY_ALL, grants_generation=None)
            return
        grants: Grants = self.served.grants
        try:
            grants = compile_grants(GrantsFile.from_bytes(found.data, keys.GRANTS))
        except CorruptError as error:
            self._failed("grants", error)
        self.served = replace(self.served, grants=grants, grants_generation=found.generation)

    async def _take_pointer(self, found: Versioned | None) -> None:
        read_again = self.served.unread_since is not None
        if read_again:
            self.served = replace(self.served, unread_since=None)
        if found is None or self._is_waiting(found.generation):
            return
        run = asyncio.get_running_loop().run_in_executor
        try:
            served = await run(self._threads, self._load, found)
        except StorecastError as error:
            self._refuse(found.generation, error)
            return
        swapped = served.snapshot is not self.served.snapshot
        before = self.served.snapshot
        # Grants are read by the same task, so that none can have changed since.
        self.served = served
        if served.refused is None:
            self._refused = (None, 0)
        if swapped and served.snapshot is not None:
            self.before = before
            self._metrics.swaps.inc()
            _LOG.info("serving %s", served.snapshot.name)
            await run(self._threads, self._forget_parts)

    def _load(self, found: Versioned) -> Served:
        pointer = Pointer.from_bytes(found.data, keys.POINTER)
        schedule = schedule_of(pointer)
        entry = pointer.current_entry
        served = replace(self.served, pointer=pointer, schedule=schedule, refused=None)
        if entry is None:
            return replace(served, generation=found.generation, snapshot=None)
        current = self.served.snapshot
        if current is not None and current.entry.sha256 == entry.sha256:
            loaded = replace(current, entry=entry)
            return replace(served, generation=found.generation, snapshot=loaded)
        try:
            loaded = self._load_release(entry)
        except (CorruptError, NotFoundError, StorageError) as error:
            if current is not None:
                raise
            earlier = self._load_earlier(pointer, entry)
            self._refuse(found.generation, error)
            return replace(served, snapshot=earlier, refused=str(error))
        return replace(served, generation=found.generation, snapshot=loaded)

    def _load_release(self, entry: Published) -> Snapshot:
        self._metrics.storage_reads.labels("release").inc()
        started = perf_counter()
        loaded = snapshot.load(self._storage, entry)
        self._parts.fetch(loaded.part_objects())
        self._metrics.load_seconds.set(perf_counter() - started)
        return loaded

    def _load_earlier(self, pointer: Pointer, refused: Published) -> Snapshot:
        """The newest earlier release that can be verified: old numbers that say their age."""
        for entry in _earlier(pointer, refused):
            with suppress(CorruptError, NotFoundError):
                return self._load_release(entry)
        raise CorruptError(f"{refused.release}: neither it nor an earlier release can be read")

    def _forget_parts(self) -> None:
        """The parts of what is served and of what was served before stay: for the next page."""
        kept = (self.served.snapshot, self.before)
        self._parts.keep_only(
            {digest for each in kept if each for digest in each.part_objects().values()}
        )

    def _is_waiting(self, generation: str) -> bool:
        """Whether a refused pointer is not yet worth another try: after 1, 2, 4, 8, 16, 32 … looks.

        What it names may be large, and is not likely to mend.
        """
        refused, looks = self._refused
        if refused != generation:
            self._refused = (None, 0)
            return False
        self._refused = (generation, looks + 1)
        is_due = looks & (looks - 1) == 0 or looks % _RAREST_LOOKS == 0
        return not is_due

    def _refuse(self, generation: str, error: StorecastError) -> None:
        refused, looks = self._refused
        self._refused = (generation, looks if refused == generation else 1)
        self._failed("refused", error)
        if self.served.refused != str(error):
            self.served = replace(self.served, refused=str(error))

    def _unread(self, since: datetime, error: StorecastError) -> None:
        self._failed("unread", error)
        if self.served.unread_since is None:
            self.served = replace(self.served, unread_since=since)

    def _failed(self, kind: str, error: StorecastError) -> None:
        self._metrics.refresh_failures.labels(kind).inc()
        _LOG.warning("%s: %s", kind, error)


def _earlier(pointer: Pointer, than: Published) -> Iterator[Published]:
    good = (
        entry
        for entry in pointer.history
        if entry.release != than.release
        and entry.release not in pointer.bad
        and entry.as_of <= than.as_of
    )
    seen: set[str] = set()
    for entry in good:
        if entry.release not in seen:
            seen.add(entry.release)
            yield entry
        if len(seen) == _MOST_EARLIER:
            return
