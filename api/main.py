"""The application, composed: nothing is decided here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from api import forecasts, health, history, openapi, page, problems, runs, stores
from api.access_log import AccessLog
from api.front import Front
from api.issuer_keys import IssuerKeys
from api.limits import Limits
from api.metrics import Freshness, Metrics
from api.parts import PartCache
from api.past import PastReleases
from api.receipts import Receipts
from api.refresh import Refresher
from api.scores import Scores
from api.service import Clock, Service
from api.settings import Settings
from api.sign_in import SignIn
from ray_job.bucket.storage import open_bucket

_DESCRIPTION = """\
The next days' sales of every store. No number comes without its age: `as_of` is the last date whose
sales it may use, `data_through` the last date whose sales had been delivered, and `stale` says that
a newer forecast should be live by now. Each answer comes from one release.

Sales are in the unit in which they were delivered. Dates are those of the stores' time zone;
moments are in UTC. Whatever cannot be answered is a problem document (RFC 9457) whose `type` tells
what is the matter.
"""


def create_app(settings: Settings, clock: Clock = lambda: datetime.now(UTC)) -> Front:
    """Raises BucketMissingError or StorageError: without a bucket nothing will ever be served."""
    service = _service(settings, clock)
    app = compose(_lifespan)
    app.state.service = service
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET"],
            allow_headers=["Authorization", "If-None-Match"],
            expose_headers=["ETag", "Retry-After", "Link", "Last-Modified"],
            max_age=3600,
        )
    return Front(app, service)


def compose(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The routes and the table of problems, without anything to answer from."""
    app = FastAPI(
        title="Storecast",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    for module in (page, stores, forecasts, history, runs, health):
        app.include_router(module.router)
    problems.install(app)
    app.openapi = openapi.of_app(app)  # type: ignore[method-assign]
    return app


def _service(settings: Settings, clock: Clock) -> Service:
    storage = open_bucket(settings.bucket)
    metrics = Metrics()
    parts = PartCache(
        storage, settings.cache_dir, lambda: metrics.storage_reads.labels("part").inc()
    )
    refresher = Refresher(storage, parts, metrics, clock)
    metrics.registry.register(Freshness(lambda: refresher.served, clock))
    return Service(
        settings=settings,
        clock=clock,
        storage=storage,
        metrics=metrics,
        parts=parts,
        refresher=refresher,
        past=PastReleases(storage, metrics),
        scores=Scores(storage, parts.folder, lambda what: metrics.storage_reads.labels(what).inc()),
        receipts=Receipts(storage, metrics.storage_reads.labels("receipt").inc),
        sign_in=SignIn(settings.issuers, IssuerKeys(metrics.key_fetches.inc)),
        access_log=AccessLog(sys.stdout if settings.access_log else None),
        limits=Limits(settings.requests_per_second, settings.burst),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    task = asyncio.create_task(service.refresher.run(service.settings.refresh_seconds))
    service.refresh_task = task
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        service.access_log.flush()
        service.refresher.close()
        service.parts.close()
