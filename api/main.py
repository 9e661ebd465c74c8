"""Composes the application from its parts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI
from starlette.types import Lifespan

from api import problems
from api.auth.issuer_keys import IssuerKeys
from api.auth.rate_limits import RateLimiter
from api.auth.sign_in import SignIn
from api.logs import AccessLog
from api.metrics import Metrics
from api.routes import (
    forecasts,
    health,
    history,
    me,
    openapi_document,
    page,
    problem_types,
    runs,
    stores,
)
from api.routes.page_tokens import PageTokenMiddleware
from api.service import Clock, Service
from api.settings import ServiceSettings
from api.store.grants_keeper import GrantsKeeper
from api.store.local.copies import LocalCopies
from api.store.opened_later import open_later
from api.store.part_cache import PartCache
from api.store.refresh import Refresher
from api.store.release_caches import ReceiptCache, ReleaseCache
from api.store.release_loader import ReleaseLoader
from api.store.release_metrics import ReleaseCollector
from api.store.scores import ScoreReader
from api.store.storage_pool import StoragePool
from api.transport.middleware import ServiceMiddleware
from api.views.rendering import compile_templates
from api.workers import Workers

_DESCRIPTION = """\
The next days' sales of every store. No number comes without its age: `as_of` is the last date whose
sales it may use, `data_through` the last date whose sales had been delivered, and `stale` says that
a newer forecast should be live by now. Each answer comes from one release.

Sales are in the unit in which they were delivered. Dates are those of the stores' time zone;
moments are in UTC. Whatever cannot be answered is a problem document (RFC 9457) whose `type` tells
what is the matter, and is the address of a page about it.

Every address answers GET and HEAD, and nothing else.

Versions: the paths begin with the version of the contract. Within a version, answers get new fields
and enumerations get new values, parameters get new values, and operations get new problems; clients
ignore fields that they do not know, and treat an unknown value like one that says less. Nothing is
renamed or removed, and no field changes its type or meaning: that would be `/v2`, beside `/v1` for
at least a year. `/results/{store_id}` is the short form of a store's forecast, and stays.
"""


def create_app(
    settings: ServiceSettings, clock: Clock = lambda: datetime.now(UTC)
) -> ServiceMiddleware:
    """The ASGI application. Raises BucketMissingError for a directory that does not exist."""
    service = _create_service(settings, clock)
    app = compose(_lifespan)
    app.state.service = service
    return ServiceMiddleware(app, service)


def warm_up(app: ServiceMiddleware) -> None:
    """Make what the first requests would have to make, while others wait for them."""
    app.app.openapi()
    compile_templates()


def compose(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The routes and the handlers of problems, without a service behind them."""
    app = FastAPI(
        title="Storecast",
        version=openapi_document.VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        openapi_url=None,  # `openapi_document` serves it
        redoc_url=None,
        # Such a redirect names the host and scheme of the request, which a proxy may have changed.
        redirect_slashes=False,
    )
    for module in (page, problem_types, stores, forecasts, history, me, runs, health):
        app.include_router(module.router)
    app.add_middleware(PageTokenMiddleware)
    problems.install(app)
    openapi_document.install(app)
    return app


def _create_service(settings: ServiceSettings, clock: Clock) -> Service:
    storage = open_later(settings.bucket)
    metrics = Metrics()
    pool = StoragePool()

    def count_read(kind: str) -> None:
        metrics.storage_reads.labels(kind).inc()

    parts = PartCache(storage, settings.cache_dir, lambda: count_read("part"))
    copies = LocalCopies(parts.folder, settings.bucket)
    grants = GrantsKeeper(copies, timedelta(seconds=settings.grants_seconds))
    loader = ReleaseLoader(storage, parts, copies, metrics, clock)
    refresher = Refresher(storage, loader, grants, pool.breaker, metrics, clock)
    metrics.registry.register(
        ReleaseCollector(lambda: refresher.state, lambda: grants.verified_at, clock)
    )
    return Service(
        settings=settings,
        clock=clock,
        metrics=metrics,
        parts=parts,
        refresher=refresher,
        storage_pool=pool,
        releases=ReleaseCache(storage, pool, lambda: count_read("release")),
        scores=ScoreReader(storage, parts.folder, pool, count_read),
        receipts=ReceiptCache(storage, pool, lambda: count_read("receipt")),
        sign_in=SignIn(settings.issuers, IssuerKeys(metrics.key_fetches.inc)),
        access_log=AccessLog(sys.stdout if settings.access_log else None),
        rate_limiter=RateLimiter(settings.requests_per_second, settings.burst),
        workers=Workers(),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    task = asyncio.create_task(service.refresher.run(service.settings.refresh_seconds))
    service.refresh_task = task
    service.sign_in.start(service.clock())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        service.access_log.flush()
        service.sign_in.close()
        service.refresher.close()
        service.storage_pool.close()
        service.workers.close()
        service.parts.close()
