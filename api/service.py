"""The service: the objects that every route works with. `api.main` creates it once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from api.auth.rate_limits import RateLimiter
from api.auth.sign_in import SignIn
from api.logs import AccessLog
from api.metrics import Metrics
from api.problems import NoReleaseError, ReleaseGoneError, UnknownAsOfError
from api.settings import ServiceSettings
from api.store.part_cache import PartCache
from api.store.refresh import Refresher
from api.store.release_caches import ReceiptCache, ReleaseCache
from api.store.scores import ScoreReader
from api.store.snapshot import Snapshot
from api.store.state import ServedState
from api.store.storage_pool import StoragePool
from api.workers import Workers
from ray_job.bucket.errors import NotFoundError

Clock = Callable[[], datetime]


@dataclass
class Service:
    """`draining`: the server stops soon. `refresh_task` reads the bucket in the background."""

    settings: ServiceSettings
    clock: Clock
    metrics: Metrics
    parts: PartCache
    refresher: Refresher
    storage_pool: StoragePool
    releases: ReleaseCache
    scores: ScoreReader
    receipts: ReceiptCache
    sign_in: SignIn
    rate_limiter: RateLimiter
    workers: Workers
    access_log: AccessLog
    draining: bool = False
    refresh_task: asyncio.Task[None] | None = None

    @property
    def state(self) -> ServedState:
        return self.refresher.state

    def current_snapshot(self, state: ServedState) -> Snapshot:
        """Raises NoReleaseError while nothing is served."""
        if state.snapshot is None:
            raise NoReleaseError(
                (state.refused and "the release that was published cannot be verified")
                or "nothing was published yet, or the bucket could not be read yet"
            )
        return state.snapshot

    async def snapshot_as_of(self, state: ServedState, as_of: date | None) -> Snapshot:
        """The good release of an as-of, or the current release for None.

        Raises NoReleaseError, UnknownAsOfError, ReleaseGoneError or an error of the storage.
        """
        current = self.current_snapshot(state)
        if as_of is None:
            return current
        name = state.pointer.dates.get(as_of)
        if name is None and as_of > current.entry.as_of:
            # Another process may have seen a newer pointer already.
            await self.refresher.refresh_soon()
            state = self.state
            name = state.pointer.dates.get(as_of)
        if name is None:
            known = sorted(state.pointer.dates)
            raise UnknownAsOfError(
                f"nothing that was published speaks for {as_of}",
                first_as_of=known[0] if known else None,
                last_as_of=known[-1] if known else None,
            )
        return await self.snapshot_of(state, name)

    async def state_with(self, state: ServedState, release: str) -> ServedState:
        """`state` if it knows the release, else what is served after a look at the pointer.

        A token may come from another process, which has seen a newer pointer already.
        """
        if state.pointer.entry(release) is None:
            await self.refresher.refresh_soon()
            state = self.state
        return state

    async def snapshot_of(self, state: ServedState, name: str) -> Snapshot:
        """The release `name`. Raises ReleaseGoneError, or an error of the storage."""
        state = await self.state_with(state, name)
        is_bad = name in state.pointer.bad
        for loaded in (state.snapshot, self.refresher.previous):
            if loaded is not None and loaded.name == name and not is_bad:
                return loaded
        entry = state.pointer.entry(name)
        if entry is None or is_bad:
            raise ReleaseGoneError(f"release {name} is gone: begin again with the first page")
        try:
            return await self.releases.get(entry)
        except NotFoundError:
            raise ReleaseGoneError(
                f"release {name} was cleaned up: begin again with the first page"
            ) from None
