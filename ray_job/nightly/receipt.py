"""The receipt of a run: counts, times, cost, failures, gates and versions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from ray_job import provenance
from ray_job.bucket.receipts import (
    AdaptedIntervals,
    ChunkRecord,
    ChunkTimes,
    Cost,
    Receipt,
    Status,
)
from ray_job.forecasting.series_counts import series_by_kind
from ray_job.forecasting.task import ChunkResult
from ray_job.nightly.drift import drift
from ray_job.nightly.prepare import RunPlan, is_hindsight, new_run_id
from ray_job.nightly.request import RunRequest
from ray_job.plan import Chunk
from ray_job.publishing import merge
from ray_job.publishing.decide import Publication
from ray_job.settings import Prices, Settings

_HOUR = 3600.0
_GIB = 2.0**30

UNEXPECTED, BAD_INPUT = 1, 2
DONE, NOT_PUBLISHED, WITH_FAILURES = 0, 3, 4
"""Exit codes."""

_STATUS: Mapping[str, Status] = {
    "published": "published",
    "unchanged": "unchanged",
    "held": "held",
    "refused": "refused",
    "unpublished": "unpublished",
}


def make_receipt(
    run_plan: RunPlan,
    request: RunRequest,
    publication: Publication,
    results: Sequence[ChunkResult],
    stage_seconds: Mapping[str, float],
    seconds: float,
    finished_at: datetime,
) -> Receipt:
    """The receipt of a run; it is not written here."""
    spec, rows = run_plan.spec, publication.rows
    failures = merge.failures(rows)
    status = _STATUS[publication.state]
    bad = request.bad_deliveries
    if status == "published" and (failures or bad):
        status = "published_with_failures"
    is_live = publication.state in ("published", "unchanged")
    code = WITH_FAILURES if failures or (bad and is_live) else DONE
    if status in ("held", "refused"):
        code = NOT_PUBLISHED
    chunks = {planned.chunk.digest: planned.chunk for planned in run_plan.planned_chunks}
    return Receipt(
        run_id=spec.run_id,
        status=status,
        exit_code=code,
        as_of=run_plan.as_of,
        release=publication.release,
        published=publication.state == "published",
        message=publication.message,
        forced=request.force,
        hindsight=is_hindsight(run_plan, spec.settings, spec.generated_at),
        submission=request.submission,
        started_at=spec.generated_at,
        finished_at=finished_at,
        seconds=round(seconds, 3),
        stage_seconds=dict(stage_seconds),
        gates=publication.gates,
        stores=merge.counts(rows, as_of=run_plan.as_of, run_id=spec.run_id),
        series=series_by_kind(result.part.outcomes for result in results),
        failures=tuple(failures),
        bad_deliveries=bad,
        warnings=(*run_plan.warnings, *_warnings_of_packs(run_plan, results)),
        chunks=tuple(_chunk_record(chunks[result.digest].n_stores, result) for result in results),
        rows_read=sum(result.cost.rows for result in results),
        bytes_read=sum(result.cost.bytes for result in results),
        cpu_seconds=round(sum(result.cost.cpu_seconds for result in results), 3),
        peak_memory_bytes=max((result.cost.peak_memory_bytes for result in results), default=0),
        packed_stores=_packed_stores(chunks, results),
        chunk_times=chunk_times(results),
        cost=estimate_cost(results, seconds, spec.settings.prices),
        drift=drift(
            rows,
            as_of=run_plan.as_of,
            regions=run_plan.tables.regions,
            limits=spec.settings.sanity,
        ),
        intervals=AdaptedIntervals(widths=spec.widths, counted=len(run_plan.widths.counted))
        if spec.settings.intervals.adapt
        else None,
        horizon=spec.basis.horizon,
        model_version=run_plan.model.version,
        model_sha256=spec.artifact.sha256,
        table_version=run_plan.table_version,
        context_digest=spec.context.digest,
        settings_digest=spec.basis.settings,
        all_settings_digest=provenance.all_settings_digest(spec.settings),
        versions=provenance.versions(),
        revision=provenance.revision(),
    )


def _packed_stores(chunks: Mapping[str, Chunk], results: Sequence[ChunkResult]) -> int:
    """Each store once: those of whole chunks, and those of which any range of items was packed."""
    used = [(chunks[result.digest], result.cost.packed_stores) for result in results]
    cut = {store for chunk, packed in used if chunk.items and packed for store in chunk.store_ids}
    return sum(packed for chunk, packed in used if chunk.items is None) + len(cut)


def _warnings_of_packs(run_plan: RunPlan, results: Sequence[ChunkResult]) -> list[str]:
    """Whether there were packs, and no chunk could use one."""
    packs = run_plan.spec.packs.packs
    done = [result.cost for result in results if not result.adopted]
    if not packs or not done or any(cost.packed_stores for cost in done):
        return []
    sentence = (
        f"there are {len(packs)} packs of histories, and no store could be read from one: they"
        " cannot be read, or are older than the histories; the forecasts are the same"
    )
    return [sentence]


def receipt_without_plan(
    settings: Settings,
    request: RunRequest,
    status: Status,
    code: int,
    message: str,
    now: datetime,
    seconds: float,
) -> Receipt:
    """The receipt of a run that planned nothing, with its exit code; it is not written here.

    Where the as-of was not given, it is the one that should be live.
    """
    given = request.as_of if isinstance(request.as_of, date) else None
    as_of = given or now.astimezone(settings.zone).date() - timedelta(days=1)
    return Receipt(
        run_id=new_run_id(as_of, now),
        status=status,
        exit_code=code,
        as_of=as_of,
        release=None,
        published=False,
        message=message,
        forced=request.force,
        submission=request.submission,
        started_at=now,
        finished_at=now + timedelta(seconds=seconds),
        seconds=round(seconds, 3),
        bad_deliveries=request.bad_deliveries,
        horizon=settings.horizon,
        settings_digest=provenance.settings_digest(settings),
        all_settings_digest=provenance.all_settings_digest(settings),
        versions=provenance.versions(),
        revision=provenance.revision(),
    )


def _chunk_record(stores: int, result: ChunkResult) -> ChunkRecord:
    return ChunkRecord(
        digest=result.digest,
        part=result.part.part,
        stores=stores,
        rows=result.cost.rows,
        bytes=result.cost.bytes,
        seconds=round(result.cost.seconds, 3),
        cpu_seconds=round(result.cost.cpu_seconds, 3),
        peak_memory_bytes=result.cost.peak_memory_bytes,
        adopted=result.adopted,
        ended_at=_moment(result.cost.ended_at),
    )


def _moment(timestamp: float) -> datetime | None:
    return datetime.fromtimestamp(timestamp, UTC) if timestamp else None


def chunk_times(results: Sequence[ChunkResult]) -> ChunkTimes:
    """Times of the chunks that were processed; adopted ones took none."""
    seconds = [result.cost.seconds for result in results if not result.adopted]
    if not seconds:
        return ChunkTimes()
    return ChunkTimes(
        chunks=len(seconds),
        shortest=round(min(seconds), 3),
        median=round(statistics.median(seconds), 3),
        longest=round(max(seconds), 3),
    )


def estimate_cost(results: Sequence[ChunkResult], seconds: float, prices: Prices) -> Cost | None:
    """The cost of the chunks' CPU time, and of their processes' memory during the run, at `prices`.

    `per_1000_stores` refers to the stores of the processed chunks, None where there are none. Idle
    time is not included: a bill is higher by the starting and waiting of the cluster. Returns None
    where no prices are given.
    """
    if not (prices.cpu_hour or prices.memory_gib_hour):
        return None
    processed = [result for result in results if not result.adopted]
    cpu = sum(result.cost.cpu_seconds for result in processed) / _HOUR * prices.cpu_hour
    peak = max((result.cost.peak_memory_bytes for result in processed), default=0) / _GIB
    memory = peak * seconds / _HOUR * prices.memory_gib_hour
    stores = sum(result.part.outcomes.num_rows for result in processed)
    total = cpu + memory
    return Cost(
        currency=prices.currency,
        cpu=round(cpu, 8),
        memory=round(memory, 8),
        total=round(total, 8),
        per_1000_stores=round(1000 * total / stores, 8) if stores else None,
    )
