"""A run: read the inputs, plan, do what is not done yet, publish, leave a receipt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ray_job import (
    account,
    execution,
    outcomes,
    publish,
    scoring,
)
from ray_job.bucket import receipts
from ray_job.bucket.errors import ConflictError, NotFoundError
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.receipts import Receipt, Status
from ray_job.bucket.storage import Storage
from ray_job.intervals import total_interval
from ray_job.outcomes import Done
from ray_job.panel import Floats
from ray_job.preparation import Prepared, is_hindsight, prepare
from ray_job.progress import Progress
from ray_job.request import Request
from ray_job.settings import Settings
from ray_job.work import Executor, Result, without_data


@dataclass(slots=True)
class Watch:
    """How long each stage took, in seconds. `clock` counts seconds, from anywhere."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + self.clock() - began, 3)


def run(
    storage: Storage,
    settings: Settings,
    request: Request,
    executor: Executor,
    *,
    now: datetime,
    clock: Callable[[], float],
    progress: Progress,
) -> Receipt:
    """Do the run. Its receipt is in the bucket when this returns.

    Safe to call again after any failure: what is done is adopted. Where everything was published
    already nothing is written, and the receipt of the run that did it comes back.
    """
    watch = Watch(clock)
    began = clock()
    with watch.stage("plan"):
        prepared = prepare(storage, settings, request, now)
    with watch.stage("forecast"):
        results = _execute(storage, prepared, executor, progress, request)
        if _lost_files(results):
            # Vacuumed between plan and read: the table's newest snapshot names what replaced them.
            planned_on = prepared.table_version
            prepared = prepare(storage, settings, request, now)
            if prepared.table_version > planned_on:
                results = _execute(storage, prepared, executor, progress, request)
    with watch.stage("publish"):
        rows = _rows(prepared, results, request)
    with watch.stage("score"):
        sold = scoring.Sold(*outcomes.sold(rows.combined, prepared.as_of))
        scores = _scores(storage, settings, prepared, sold) if request.publish else {}
        written = scoring.write(storage, scores, prepared.work.run_id)
    with watch.stage("publish"):
        draft = publish.Draft(
            rows=rows.release,
            expected=prepared.expected,
            known=prepared.tables.known(prepared.store_ids),
            as_of=prepared.as_of,
            run_id=prepared.work.run_id,
            created_at=now,
            table_version=prepared.table_version,
            model_version=prepared.model.description.version,
            horizon=settings.horizon,
            force=request.force,
            hindsight=is_hindsight(prepared, settings, now),
        )
        publication = _publish(storage, draft, settings, request, written)
    idle = all(result.adopted for result in results) and not scores
    seconds = clock() - began
    receipt = account.receipt(
        prepared,
        request,
        publication,
        results,
        watch.seconds,
        seconds,
        now + timedelta(seconds=seconds),
    ).model_copy(update={"scored": {day: table.num_rows for day, table in scores.items()}})
    if publication.state == "unchanged" and idle:
        return _earlier(storage, prepared.current, receipt)
    receipts.write(storage, receipt)
    return receipt


@dataclass(frozen=True, slots=True)
class _Rows:
    combined: pa.Table
    release: pa.Table


def _execute(
    storage: Storage,
    prepared: Prepared,
    executor: Executor,
    progress: Progress,
    request: Request,
) -> list[Result]:
    return execution.execute(
        storage, prepared.todos, prepared.work, executor, progress, force=request.force
    )


def _lost_files(results: Sequence[Result]) -> bool:
    """Whether a file of the plan was gone when it was to be read."""
    codes = [pc.equal(result.done.outcomes["reason_code"], "gone") for result in results]
    return any(pc.any(code).as_py() for code in codes)


def _rows(prepared: Prepared, results: Sequence[Result], request: Request) -> _Rows:
    unplanned = _unplanned(prepared, request)
    combined = outcomes.combine([*(result.done for result in results), unplanned])
    calibration = prepared.model.description.intervals
    origin = outcomes.Origin(
        as_of=prepared.as_of,
        target_dates=prepared.work.basis.target_dates,
        model_version=prepared.model.description.version,
        table_version=prepared.table_version,
    )

    def interval(
        total: Floats, spread: Floats, squared: Floats, days: Floats
    ) -> tuple[Floats, Floats]:
        return total_interval(total, spread, squared, days, calibration)

    descriptions = prepared.tables.descriptions
    return _Rows(combined, outcomes.release_rows(combined, origin, interval, descriptions))


def _unplanned(prepared: Prepared, request: Request) -> Done:
    """The stores of the scope none of whose files reaches into the days of the plan."""
    scope = set(prepared.store_ids if request.stores is None else request.stores)
    for todo in prepared.todos:
        scope -= set(todo.chunk.store_ids)
    on = prepared.work.basis
    reason = f"no sales are known of any open day from {on.first_day} to {on.as_of}"
    return without_data(sorted(scope), reason, prepared.work.run_id, prepared.work.generated_at)


def _scores(
    storage: Storage, settings: Settings, prepared: Prepared, sold: scoring.Sold
) -> dict[date, pa.Table]:
    return scoring.score(
        storage,
        prepared.current,
        sold,
        as_of=prepared.as_of,
        horizon=settings.horizon,
        zone=settings.zone,
    )


def _publish(
    storage: Storage,
    draft: publish.Draft,
    settings: Settings,
    request: Request,
    accuracy: Mapping[date, str],
) -> publish.Publication:
    if not request.publish:
        return publish.preview(storage, draft, settings)
    return publish.publish(storage, draft, settings, accuracy)


def _earlier(storage: Storage, current: Pointer, receipt: Receipt) -> Receipt:
    """The receipt of the run that published what stands.

    If that run died before it wrote one, this run's `receipt` takes its place, under its name. If
    other deliveries are bad than that run told of, this one tells for itself.
    """
    entry = None if receipt.release is None else current.entry(receipt.release)
    if entry is None:
        # Somebody else published it a moment ago.
        receipts.write(storage, receipt)
        return receipt
    with suppress(NotFoundError):
        earlier = receipts.read(storage, entry.as_of, entry.run_id)
        if set(earlier.bad_deliveries) == set(receipt.bad_deliveries):
            return earlier
        receipts.write(storage, receipt)
        return receipt
    status: Status = "published_with_failures" if receipt.exit_code else "published"
    instead = receipt.model_copy(
        update={
            "run_id": entry.run_id,
            "status": status,
            "published": True,
            "message": "written by a later run, as the one that published died before it could",
        }
    )
    with suppress(ConflictError):
        receipts.write(storage, instead)
    return receipts.read(storage, entry.as_of, entry.run_id)
