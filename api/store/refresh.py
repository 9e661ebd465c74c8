"""Reads the bucket in the background and replaces the served state when something has changed.

A new release is loaded and verified while the old one is still served. If the bucket cannot be read
or a release cannot be verified, the last good snapshot stays, and the state says why. A process
that serves nothing yet then takes what the process before it had verified. The pointer and the
grants are read only if their generation has changed. Neither depends on the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from api.metrics import Metrics
from api.store.grants_keeper import GrantsKeeper
from api.store.reads import Missing, ReadResult, Unchanged, read_object
from api.store.release_loader import ReleaseLoader
from api.store.snapshot import Snapshot
from api.store.state import ServedState
from api.store.storage_pool import Breaker
from ray_job.bucket import keys
from ray_job.bucket.errors import (
    NotFoundError,
    StorageError,
    StorecastError,
)
from ray_job.bucket.storage import Storage, Versioned

_LOG = logging.getLogger("api.refresh")
_TIMEOUT_SECONDS = 8.0
"""A bucket that has not answered for so long counts as unreadable, even if the client retries."""
_MAX_REFRESHES_BETWEEN_TRIES = 16
_GAP_SECONDS = 0.25
"""The time between two refreshes that callers want."""


class Refresher:
    """Owns `state`. `refresh` reads the bucket once, `run` does so again and again."""

    def __init__(
        self,
        storage: Storage,
        loader: ReleaseLoader,
        grants: GrantsKeeper,
        breaker: Breaker,
        metrics: Metrics,
        clock: Callable[[], datetime],
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        self.state = ServedState()
        self.has_read_bucket = False
        """Whether the first read has ended or taken too long, with or without success."""
        self.previous: Snapshot | None = None
        """The snapshot before the last swap. Callers may still request further pages of it."""
        self.grants = grants
        self._storage = storage
        self._loader = loader
        self._breaker = breaker
        self._metrics = metrics
        self._clock = clock
        self._timeout = timeout_seconds
        self._threads = ThreadPoolExecutor(1, "refresh")
        self._restored = False
        # The generation of a refused pointer, and the number of refreshes since.
        self._refused: tuple[str | None, int] = (None, 0)
        self._wanted = asyncio.Event()
        # When the last refresh that has ended began, and the end of the next one.
        self._last_begin = 0.0
        self._end = asyncio.Event()

    async def run(self, every_seconds: float) -> None:
        while True:
            await self.refresh()
            gap = min(_GAP_SECONDS, every_seconds)
            await asyncio.sleep(gap)
            # `asyncio.wait_for` of Python 3.11 loses a cancellation that comes with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(every_seconds - gap):
                    await self._wanted.wait()
            self._wanted.clear()

    async def refresh_soon(self, seconds: float = 2.0) -> None:
        """Wait until a refresh that begins from now on has ended, but not longer than `seconds`.

        Callers use it who know of something newer than `state`.
        """
        asked_at = asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._last_begin < asked_at:
                    self._wanted.set()
                    await self._end.wait()

    async def refresh(self) -> None:
        """Read the bucket once. Its errors are logged and counted, and are visible in `state`."""
        started_at = self._clock()
        begun_at = asyncio.get_running_loop().time()
        try:
            await self._refresh(started_at)
        except Exception as error:  # noqa: BLE001 - it is logged, and the state says so
            # A defect must not end the task, or the process would be ended for it again and again.
            _LOG.exception("the refresh failed")
            self._metrics.refresh_failures.labels("unexpected").inc()
            self._set_refused(f"unexpected: {type(error).__name__}")
        finally:
            self.has_read_bucket = True
            self._last_begin = begun_at
            end, self._end = self._end, asyncio.Event()
            end.set()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _refresh(self, started_at: datetime) -> None:
        reading = asyncio.get_running_loop().run_in_executor(self._threads, self._read)
        await asyncio.wait({reading}, timeout=self._timeout)
        if not reading.done():
            error = StorageError("no answer yet")
            self._apply_grants(error)
            await self._apply_pointer(error, started_at)
            self.has_read_bucket = True
        grants, pointer = await reading
        if isinstance(grants, Missing) and isinstance(pointer, Missing) and self.state.generation:
            grants = StorageError(f"{keys.GRANTS}: the whole bucket is missing")
        self._apply_grants(grants)
        await self._apply_pointer(pointer, started_at)

    def _read(self) -> tuple[ReadResult, ReadResult]:
        """The grants and the pointer."""
        self._metrics.storage_reads.labels("grants").inc()
        grants = read_object(self._storage, keys.GRANTS, self.grants.generation)
        self._metrics.storage_reads.labels("pointer").inc()
        return grants, read_object(self._storage, keys.POINTER, self.state.generation)

    def _apply_grants(self, result: ReadResult) -> None:
        keeper = self.grants
        error = keeper.apply(result, self._clock())
        if error is not None:
            self._count_failure("grants", error)
        state = self.state
        if keeper.grants is not state.grants or keeper.refused != state.grants_refused:
            self.state = replace(state, grants=keeper.grants, grants_refused=keeper.refused)

    async def _apply_pointer(self, result: ReadResult, started_at: datetime) -> None:
        if isinstance(result, Missing):
            await self._restore()
            if self.state.snapshot is None:
                self._mark_readable()  # nothing was published yet
                return
            result = NotFoundError(f"{keys.POINTER}: the object was deleted")
        if isinstance(result, StorecastError):
            if isinstance(result, StorageError):
                self._breaker.failed(at_once=True)
            self._mark_unreadable(started_at, result)
            await self._restore()
            return
        self._mark_readable()
        if isinstance(result, Unchanged) or self._must_wait(result.generation):
            return
        await self._load(result)

    async def _load(self, pointer_file: Versioned) -> None:
        run = asyncio.get_running_loop().run_in_executor
        served = self.state
        try:
            loaded = await run(self._threads, self._loader.load, pointer_file, served)
        except StorecastError as error:
            self._refuse(pointer_file.generation, error)
            await self._restore()
            return
        if loaded.error is not None:
            self._refuse(pointer_file.generation, loaded.error)
        else:
            self._refused = (None, 0)
        # This task alone changes the state, but the grants in it may be newer than `served`.
        self.state = replace(
            loaded.state, grants=self.state.grants, grants_refused=self.state.grants_refused
        )
        if self.state.snapshot is not served.snapshot and self.state.snapshot is not None:
            self.previous = served.snapshot
            self._metrics.swaps.inc()
            _LOG.info("serving release %s", self.state.snapshot.name)
            await run(self._threads, self._loader.keep_only, (self.state.snapshot, self.previous))

    async def _restore(self) -> None:
        """Serve what the process before this one had verified, if nothing is served yet."""
        if self.state.snapshot is not None or self._restored:
            return
        self._restored = True
        try:
            restored = await asyncio.to_thread(self._loader.restore, self.state)
        except StorecastError as error:
            _LOG.warning("the copies on the disk: %s", error)
            return
        if restored is not None:
            self.state = replace(
                restored,
                unread_since=self.state.unread_since,
                refused=self.state.refused,
                grants=self.state.grants,
                grants_refused=self.state.grants_refused,
            )
            assert self.state.snapshot is not None  # noqa: S101 - `restore` returns no other state
            _LOG.warning("serving the copy of release %s", self.state.snapshot.name)

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
        self._set_refused(str(error))

    def _set_refused(self, reason: str) -> None:
        if self.state.refused != reason:
            self.state = replace(self.state, refused=reason)

    def _mark_unreadable(self, since: datetime, error: StorecastError) -> None:
        self._count_failure("unread", error)
        if self.state.unread_since is None:
            self.state = replace(self.state, unread_since=since)

    def _mark_readable(self) -> None:
        if self.state.unread_since is not None:
            self._breaker.succeeded()
            self.state = replace(self.state, unread_since=None)

    def _count_failure(self, kind: str, error: StorecastError) -> None:
        self._metrics.refresh_failures.labels(kind).inc()
        _LOG.warning("%s: %s", kind, error)
