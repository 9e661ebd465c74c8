"""What a run did, as its receipt tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ray_job import costs, merge, provenance, publish
from ray_job.bucket.receipts import ChunkRecord, Receipt, Status
from ray_job.drift import drift
from ray_job.preparation import Prepared, is_hindsight
from ray_job.request import Request
from ray_job.work import Result

DONE, NOT_PUBLISHED, WITH_FAILURES = 0, 3, 4

_STATUS: Mapping[str, Status] = {
    "published": "published",
    "unchanged": "unchanged",
    "held": "held",
    "refused": "refused",
    "unpublished": "unpublished",
}


def receipt(
    prepared: Prepared,
    request: Request,
    publication: publish.Publication,
    results: Sequence[Result],
    stage_seconds: Mapping[str, float],
    seconds: float,
    finished_at: datetime,
) -> Receipt:
    """The receipt, not written yet."""
    work, rows = prepared.work, publication.rows
    failures = merge.failures(rows.filter(rows["expected"]))
    status = _STATUS[publication.state]
    bad = request.bad_deliveries
    if status == "published" and (failures or bad):
        status = "published_with_failures"
    stands = publication.state in ("published", "unchanged")
    code = WITH_FAILURES if failures or (bad and stands) else DONE
    if status in ("held", "refused"):
        code = NOT_PUBLISHED
    by_digest = {todo.chunk.digest: todo.chunk for todo in prepared.todos}
    return Receipt(
        run_id=work.run_id,
        status=status,
        exit_code=code,
        as_of=prepared.as_of,
        release=publication.release,
        published=publication.state == "published",
        message=publication.message,
        forced=request.force,
        hindsight=is_hindsight(prepared, work.settings, work.generated_at),
        submission=request.submission,
        started_at=work.generated_at,
        finished_at=finished_at,
        seconds=round(seconds, 3),
        stage_seconds=dict(stage_seconds),
        gates=publication.gates,
        stores=merge.counts(rows, as_of=prepared.as_of, run_id=work.run_id),
        failures=tuple(failures),
        bad_deliveries=bad,
        chunks=tuple(_chunk_record(by_digest[one.digest].n_stores, one) for one in results),
        rows_read=sum(result.cost.rows for result in results),
        bytes_read=sum(result.cost.bytes for result in results),
        cpu_seconds=round(sum(result.cost.cpu_seconds for result in results), 3),
        peak_memory_bytes=max((one.cost.peak_memory_bytes for one in results), default=0),
        chunk_times=costs.chunk_times(results),
        cost=costs.estimate(results, seconds, work.settings.prices),
        drift=drift(
            rows,
            as_of=prepared.as_of,
            regions=prepared.tables.regions,
            limits=work.settings.sanity,
        ),
        horizon=work.basis.horizon,
        model_version=prepared.model.description.version,
        model_sha256=work.artifact.sha256,
        table_version=prepared.table_version,
        context_digest=work.context.digest,
        settings_digest=work.basis.settings,
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
