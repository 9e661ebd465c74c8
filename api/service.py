"""The service: what every route works with, made once by `create_app`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated

from fastapi import Depends, Request

from api import items
from api.access_log import AccessLog
from api.answers import View
from api.items import ItemPage
from api.limits import Limits
from api.metrics import Metrics
from api.parts import PartCache
from api.past import PastReleases
from api.problems import (
    NoReleaseError,
    ReleaseGoneError,
    UnknownAsOfError,
)
from api.receipts import Receipts
from api.refresh import Refresher
from api.scores import Scores
from api.served import Served
from api.settings import Settings
from api.sign_in import SignIn
from api.snapshot import Snapshot, StoreForecast
from ray_job.bucket.errors import NotFoundError
from ray_job.bucket.storage import Storage

Clock = Callable[[], datetime]


@dataclass
class Service:
    settings: Settings
    clock: Clock
    storage: Storage
    metrics: Metrics
    parts: PartCache
    refresher: Refresher
    past: PastReleases
    scores: Scores
    receipts: Receipts
    sign_in: SignIn
    limits: Limits
    access_log: AccessLog
    draining: bool = False
    refresh_task: asyncio.Task[None] | None = field(default=None)

    @property
    def served(self) -> Served:
        return self.refresher.served

    def view(
        self, served: Served, snapshot: Snapshot, now: datetime, asked_as_of: date | None = None
    ) -> View:
        return View(snapshot.name, served.schedule, now, asked_as_of, served.unread_since)

    def current(self, served: Served) -> Snapshot:
        """Raises NoReleaseError while there is none."""
        if served.snapshot is None:
            raise NoReleaseError(
                (served.refused and "the release that was published cannot be verified")
                or "nothing was published yet, or the bucket could not be read yet"
            )
        return served.snapshot

    async def as_of(self, served: Served, as_of: date | None) -> Snapshot:
        """What speaks for an as-of; without one the current release. Raises UnknownAsOfError."""
        current = self.current(served)
        if as_of is None:
            return current
        name = served.pointer.dates.get(as_of)
        if name is None:
            known = sorted(served.pointer.dates)
            raise UnknownAsOfError(
                f"nothing that was published speaks for {as_of}",
                first_as_of=known[0] if known else None,
                last_as_of=known[-1] if known else None,
            )
        return await self.release(served, name)

    def items(self, store: StoreForecast, first_row: int, size: int) -> ItemPage:
        """A page of a store's items; a part that is not at hand is fetched, which blocks."""
        return items.page(self.parts, store, first_row, size)

    async def release(self, served: Served, name: str) -> Snapshot:
        """A release that is not given up. Raises ReleaseGoneError."""
        for held in (served.snapshot, self.refresher.before):
            if held is not None and held.name == name and name not in served.pointer.bad:
                return held
        entry = served.pointer.entry(name)
        if entry is None or name in served.pointer.bad:
            raise ReleaseGoneError(f"release {name} is gone: begin again with the first page")
        try:
            return await self.past.get(entry)
        except NotFoundError:
            raise ReleaseGoneError(
                f"release {name} was cleaned up: begin again with the first page"
            ) from None


async def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(service_of)]
