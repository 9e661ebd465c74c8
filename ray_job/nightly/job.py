"""The job of a night: ingest new files if the caller wants it, run on Ray, emit the events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ray_job.bucket import pointer
from ray_job.bucket.errors import StorecastError
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import Storage
from ray_job.bucket.storage.patience import PATIENCE
from ray_job.datasets.on_demand import RayOnDemand
from ray_job.nightly.job_events import (
    emit_ingest_finished,
    emit_packing_finished,
    emit_run_finished,
)
from ray_job.nightly.request import RunRequest, is_due, requested_as_of
from ray_job.progress import Progress
from ray_job.settings import Settings

if TYPE_CHECKING:
    from ray_job.ingest import IngestReport, PackingReport


def run_job(
    storage: Storage,
    settings: Settings,
    request: RunRequest,
    *,
    ingest_first: bool = False,
    now: datetime,
    clock: Callable[[], float],
    progress: Progress,
    on_ingested: Callable[[IngestReport], None] | None = None,
) -> Receipt:
    """Run on Ray and return the receipt. Raises what `run` raises, and is as idempotent.

    With `ingest_first` new raw files are ingested before the run; `on_ingested` gets the report
    before the run begins. A file that cannot be ingested is left out, and the receipt names it.
    Emits `ingest_finished` (with `ingest_first`) and `run_finished`. `clock` counts seconds, from
    anywhere. With `ingest_first` histories without packs get some at the end, when everything is
    published, so that a night is fast again after packs were lost; if that fails, an event says so.
    """
    with PATIENCE.limited(settings.run.driver_wait_seconds):
        return _run_job(storage, settings, request, ingest_first, now, clock, progress, on_ingested)


def _run_job(
    storage: Storage,
    settings: Settings,
    request: RunRequest,
    ingest_first: bool,
    now: datetime,
    clock: Callable[[], float],
    progress: Progress,
    on_ingested: Callable[[IngestReport], None] | None,
) -> Receipt:
    if ingest_first:
        report = _ingest_new_files(storage, settings, request, now, progress)
        emit_ingest_finished(report)
        if on_ingested is not None:
            on_ingested(report)
        request = replace(request, bad_deliveries=report.bad)
    with RayOnDemand() as executor:
        if _is_due(storage, settings, request, now):
            executor.start()
        from ray_job.nightly.run import run  # noqa: PLC0415 - loads pandas while Ray starts

        receipt = run(
            storage,
            settings,
            request,
            executor,
            now=now,
            clock=clock,
            progress=progress,
            expect_work=executor.connect,
            work_done=executor.end,
        )
    emit_run_finished(receipt)
    if ingest_first:
        emit_packing_finished(_pack_histories(storage, progress))
    return receipt


def _is_due(storage: Storage, settings: Settings, request: RunRequest, now: datetime) -> bool:
    """See `is_due`. What is wrong with the pointer is told by the run."""
    try:
        current, _ = pointer.read(storage)
        requested = requested_as_of(request, current)
    except StorecastError:
        return False
    return is_due(request, requested, current, now.astimezone(settings.zone).date())


def _pack_histories(storage: Storage, progress: Progress) -> PackingReport:
    from ray_job.ingest import pack_histories  # noqa: PLC0415 - loads DuckDB: slow

    return pack_histories(storage, progress=progress)


def _ingest_new_files(
    storage: Storage, settings: Settings, request: RunRequest, now: datetime, progress: Progress
) -> IngestReport:
    """Ingest, and compact the histories whose turn the night is.

    A run for the current release does not compact: new names of files would make new chunks of
    old data.
    """
    from ray_job.ingest import CompactScope, ingest  # noqa: PLC0415 - loads DuckDB: slow

    if request.as_of == "current":
        scope = None
    else:
        yesterday = now.astimezone(settings.zone).date() - timedelta(days=1)
        scope = CompactScope(request.as_of or yesterday)
    return ingest(storage, settings, now=now, compact=scope, leave_out_bad=True, progress=progress)
