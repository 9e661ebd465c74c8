"""What a run did, as its receipt tells it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ray_job import provenance
from ray_job.bucket.receipts import ChunkRecord, ChunkTimes, Cost, Receipt, Status
from ray_job.forecasting.task import Result
from ray_job.nightly.drift import drift
from ray_job.nightly.prepare import RunPlan, RunRequest, is_hindsight
from ray_job.publishing import merge, publish
from ray_job.settings import Prices

_HOUR = 3600.0
_GIB = 2.0**30

DONE, NOT_PUBLISHED, WITH_FAILURES = 0, 3, 4

_STATUS: Mapping[str, Status] = {
    "published": "published",
    "unchanged": "unchanged",
    "held": "held",
    "refused": "refused",
    "unpublished": "unpublished",
}


def receipt(
    run_plan: RunPlan,
    request: RunRequest,
    publication: publish.Publication,
    results: Sequence[Result],
    stage_seconds: Mapping[str, float],
    seconds: float,
    finished_at: datetime,
) -> Receipt:
    """The receipt, not written yet."""
    spec, rows = run_plan.spec, publication.rows
    failures = merge.failures(rows.filter(rows["expected"]))
    status = _STATUS[publication.state]
    bad = request.bad_deliveries
    if status == "published" and (failures or bad):
        status = "published_with_failures"
    stands = publication.state in ("published", "unchanged")
    code = WITH_FAILURES if failures or (bad and stands) else DONE
    if status in ("held", "refused"):
        code = NOT_PUBLISHED
    by_digest = {planned.chunk.digest: planned.chunk for planned in run_plan.planned_chunks}
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
        failures=tuple(failures),
        bad_deliveries=bad,
        chunks=tuple(_chunk_record(by_digest[one.digest].n_stores, one) for one in results),
        rows_read=sum(result.cost.rows for result in results),
        bytes_read=sum(result.cost.bytes for result in results),
        cpu_seconds=round(sum(result.cost.cpu_seconds for result in results), 3),
        peak_memory_bytes=max((one.cost.peak_memory_bytes for one in results), default=0),
        chunk_times=chunk_times(results),
        cost=estimate_cost(results, seconds, spec.settings.prices),
        drift=drift(
            rows,
            as_of=run_plan.as_of,
            regions=run_plan.tables.regions,
            limits=spec.settings.sanity,
        ),
        horizon=spec.basis.horizon,
        model_version=run_plan.model.description.version,
        model_sha256=spec.artifact.sha256,
        table_version=run_plan.table_version,
        context_digest=spec.context.digest,
        settings_digest=spec.basis.settings,
        versions=provenance.versions(),
        revision=provenance.revision(),
    )


def _chunk_record(stores: int, result: Result) -> ChunkRecord:
    return ChunkRecord(
        digest=result.digest,
        part=result.done.part,
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


def chunk_times(results: Sequence[Result]) -> ChunkTimes:
    """Over the chunks that were done; adopted ones took no time."""
    seconds = [result.cost.seconds for result in results if not result.adopted]
    if not seconds:
        return ChunkTimes()
    return ChunkTimes(
        chunks=len(seconds),
        shortest=round(min(seconds), 3),
        median=round(statistics.median(seconds), 3),
        longest=round(max(seconds), 3),
    )


def estimate_cost(results: Sequence[Result], seconds: float, prices: Prices) -> Cost | None:
    """The chunks' CPU time and their processes' memory for as long as the run took, at `prices`.

    `per_1000_stores` is over the stores of the chunks that were done, None where that is nothing.
    What idles is not in it: what a bill says beyond this is the cluster's starting and waiting.
    Returns None where no prices are given.
    """
    if not (prices.cpu_hour or prices.memory_gib_hour):
        return None
    done = [result for result in results if not result.adopted]
    cpu = sum(one.cost.cpu_seconds for one in done) / _HOUR * prices.cpu_hour
    peak = max((one.cost.peak_memory_bytes for one in done), default=0) / _GIB
    memory = peak * seconds / _HOUR * prices.memory_gib_hour
    stores = sum(one.done.outcomes.num_rows for one in done)
    total = cpu + memory
    return Cost(
        currency=prices.currency,
        cpu=round(cpu, 8),
        memory=round(memory, 8),
        total=round(total, 8),
        per_1000_stores=round(1000 * total / stores, 8) if stores else None,
    )
