"""A run: prepare, process the chunks that have no part yet, publish, write a receipt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import receipts
from ray_job.bucket.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    NothingPublishedError,
    RayUnavailableError,
    StorageError,
    UnusableModelError,
)
from ray_job.bucket.parts import WrittenPart
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.reasons import ReasonCode
from ray_job.bucket.receipts import Receipt, Status
from ray_job.bucket.storage import Storage
from ray_job.bucket.storage.patience import PATIENCE
from ray_job.data.panel import Floats
from ray_job.evaluation import scoring
from ray_job.evaluation.sales import SalesTotals
from ray_job.execution import execute
from ray_job.execution.executor import Executor
from ray_job.forecasting.task import ChunkResult, part_without_data
from ray_job.model.adaptive import adapted, of_totals
from ray_job.model.intervals import total_interval
from ray_job.nightly.prepare import RunPlan, is_hindsight, nothing, prepare
from ray_job.nightly.rare_collections import rare_collections
from ray_job.nightly.receipt import BAD_INPUT, DONE, UNEXPECTED, make_receipt, receipt_without_plan
from ray_job.nightly.request import RunRequest
from ray_job.nightly.widths import published_widths
from ray_job.progress import Progress
from ray_job.publishing import plausibility, publish, release_rows
from ray_job.publishing.decide import Draft, Publication
from ray_job.settings import Settings


@dataclass(slots=True)
class Stopwatch:
    """The seconds that each stage took. `clock` returns seconds since an arbitrary moment."""

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
    request: RunRequest,
    executor: Executor,
    *,
    now: datetime,
    clock: Callable[[], float],
    progress: Progress,
    expect_work: Callable[[], None] = nothing,
    work_done: Callable[[], None] = nothing,
) -> Receipt:
    """Do a run. Its receipt is in the bucket when this returns.

    Idempotent: after any failure another call adopts the parts that exist. If everything was
    published already, nothing is written, and the receipt of the run that published is returned.
    Where the model cannot be loaded or Ray cannot be reached, a receipt of status "failed" is
    written before UnusableModelError or RayUnavailableError is raised. A run for the current
    release does nothing as long as nothing was published; the first night publishes.
    `expect_work` is called once it is likely that there are chunks to forecast, while the run still
    reads its inputs: an executor that takes seconds to start can begin. `work_done` is called when
    the last chunk is there, before the run publishes: such an executor can end meanwhile.
    """
    began = clock()
    try:
        # The workers may wait for the other half; see `forecasting.chunk`.
        with PATIENCE.limited(settings.run.driver_wait_seconds), rare_collections():
            return _run(
                storage,
                settings,
                request,
                executor,
                now=now,
                clock=clock,
                progress=progress,
                expect_work=expect_work,
                work_done=work_done,
            )
    except NothingPublishedError:
        message = "nothing was published yet: the first night publishes"
        receipt = receipt_without_plan(
            settings, request, "unchanged", DONE, message, now, clock() - began
        )
        receipts.write(storage, receipt)
        return receipt
    except (UnusableModelError, RayUnavailableError) as error:
        code = BAD_INPUT if isinstance(error, InputError) else UNEXPECTED
        receipt = receipt_without_plan(
            settings, request, "failed", code, str(error), now, clock() - began
        )
        with suppress(StorageError):
            receipts.write(storage, receipt)
        raise


def _run(
    storage: Storage,
    settings: Settings,
    request: RunRequest,
    executor: Executor,
    *,
    now: datetime,
    clock: Callable[[], float],
    progress: Progress,
    expect_work: Callable[[], None],
    work_done: Callable[[], None],
) -> Receipt:
    stopwatch = Stopwatch(clock)
    began = clock()
    with stopwatch.stage("plan"):
        run_plan = prepare(
            storage, settings, request, now, expect_work=expect_work, keep_widths=request.publish
        )
    PATIENCE.pass_on(run_plan.spec.run_id)
    with stopwatch.stage("forecast"):
        results = _execute(storage, run_plan, executor, progress, request)
        if _lost_files(results):
            # Files were vacuumed after the plan was made. The newest snapshot names their
            # replacements.
            planned_version = run_plan.table_version
            run_plan = prepare(storage, settings, request, now, keep_widths=request.publish)
            PATIENCE.pass_on(run_plan.spec.run_id)
            if run_plan.table_version > planned_version:
                results = _execute(storage, run_plan, executor, progress, request)
    work_done()
    with stopwatch.stage("publish"):
        rows = _rows(run_plan, results, request)
    with stopwatch.stage("score"):
        sold = SalesTotals(*release_rows.sold(rows.combined, run_plan.as_of))
        scores = _scores(storage, settings, run_plan, sold) if request.publish else {}
        written = scoring.write(storage, scores, run_plan.spec.run_id)
    with stopwatch.stage("publish"):
        draft = Draft(
            rows=rows.release,
            expected=_expected(run_plan, request),
            known=run_plan.tables.known(run_plan.store_ids),
            as_of=run_plan.as_of,
            run_id=run_plan.spec.run_id,
            created_at=now,
            table_version=run_plan.table_version,
            model_version=run_plan.model.version,
            horizon=settings.horizon,
            force=request.force,
            hindsight=is_hindsight(run_plan, settings, now),
            undelivered=run_plan.spec.basis.undelivered,
        )
        publication = _publish(storage, draft, settings, request, written)
    did_nothing = all(result.adopted for result in results) and not scores
    seconds = clock() - began
    receipt = make_receipt(
        run_plan,
        request,
        publication,
        results,
        stopwatch.seconds,
        seconds,
        now + timedelta(seconds=seconds),
    ).model_copy(update={"scored": {day: table.num_rows for day, table in scores.items()}})
    if publication.state == "unchanged" and did_nothing:
        return _earlier(storage, run_plan.current, receipt)
    receipts.write_own(storage, receipt)
    return receipt


@dataclass(frozen=True, slots=True)
class _StoreRows:
    combined: pa.Table
    release: pa.Table


def _execute(
    storage: Storage,
    run_plan: RunPlan,
    executor: Executor,
    progress: Progress,
    request: RunRequest,
) -> list[ChunkResult]:
    return execute.execute(
        storage, run_plan.planned_chunks, run_plan.spec, executor, progress, force=request.force
    )


def _lost_files(results: Sequence[ChunkResult]) -> bool:
    """Whether a file of the plan did not exist any more when it was read."""
    codes = [pc.equal(result.part.outcomes["reason_code"], ReasonCode.GONE) for result in results]
    return any(pc.any(code).as_py() for code in codes)


def _rows(run_plan: RunPlan, results: Sequence[ChunkResult], request: RunRequest) -> _StoreRows:
    unplanned = _unplanned(run_plan, request)
    combined = release_rows.combine([*(result.part for result in results), unplanned])
    if not request.force:
        combined = plausibility.without_implausible(combined, run_plan.as_of)
    calibration, widths = run_plan.model.intervals, run_plan.spec.widths
    origin = release_rows.Origin(
        as_of=run_plan.as_of,
        target_dates=run_plan.spec.basis.target_dates,
        model_version=run_plan.model.version,
        table_version=run_plan.table_version,
    )

    def interval(
        total: Floats, spread: Floats, squared: Floats, days: Floats
    ) -> tuple[Floats, Floats]:
        lower, upper = total_interval(total, spread, squared, days, calibration)
        if widths.is_neutral:
            return lower, upper
        factors = of_totals(total, spread, squared, widths)
        return adapted(total, lower, upper, factors, calibration)

    descriptions = run_plan.tables.descriptions
    return _StoreRows(combined, release_rows.release_rows(combined, origin, interval, descriptions))


def _expected(run_plan: RunPlan, request: RunRequest) -> set[str]:
    """The stores that the release should have. A trial of some stores counts no other ones."""
    if request.publish or request.stores is None:
        return run_plan.expected
    return run_plan.expected & set(request.stores)


def _unplanned(run_plan: RunPlan, request: RunRequest) -> WrittenPart:
    """The outcomes of requested stores that have no file with a day of the plan."""
    scope = set(run_plan.store_ids if request.stores is None else request.stores)
    for planned in run_plan.planned_chunks:
        scope -= set(planned.chunk.store_ids)
    basis = run_plan.spec.basis
    reason = f"no sales are known of any open day from {basis.first_day} to {basis.as_of}"
    return part_without_data(sorted(scope), reason, run_plan.spec)


def _scores(
    storage: Storage, settings: Settings, run_plan: RunPlan, sold: SalesTotals
) -> dict[date, pa.Table]:
    return scoring.score(
        storage,
        run_plan.current,
        sold,
        as_of=run_plan.as_of,
        horizon=settings.horizon,
        zone=settings.zone,
        widths=published_widths(storage),
    )


def _publish(
    storage: Storage,
    draft: Draft,
    settings: Settings,
    request: RunRequest,
    accuracy: Mapping[date, str],
) -> Publication:
    if not request.publish:
        return publish.preview(storage, draft, settings)
    return publish.publish(storage, draft, settings, accuracy)


def _earlier(storage: Storage, current: Pointer, receipt: Receipt) -> Receipt:
    """The receipt of the run that published the current release of the as-of.

    If there is none, this run's `receipt` is written in its name. If this run has other bad
    deliveries, warnings or settings than that receipt, its own receipt is written, and returned.
    """
    entry = None if receipt.release is None else current.entry(receipt.release)
    if entry is None:
        # Another run published it a moment ago.
        receipts.write_own(storage, receipt)
        return receipt
    try:
        earlier = receipts.read(storage, entry.as_of, entry.run_id)
    except NotFoundError:
        status: Status = "published_with_failures" if receipt.exit_code else "published"
        substitute = receipt.model_copy(
            update={
                "run_id": entry.run_id,
                "status": status,
                "published": True,
                "message": "written by a later run, which found no receipt of this one",
                "written_by": receipt.run_id,
            }
        )
        with suppress(ConflictError):
            receipts.write(storage, substitute)
        earlier = receipts.read(storage, entry.as_of, entry.run_id)
    if _describes(earlier, receipt):
        return earlier
    receipts.write_own(storage, receipt)
    return receipt


def _describes(earlier: Receipt, receipt: Receipt) -> bool:
    """Whether a receipt says what the one of a run that did nothing would say."""
    return (
        set(earlier.bad_deliveries) == set(receipt.bad_deliveries)
        and earlier.warnings == receipt.warnings
        and earlier.all_settings_digest in ("", receipt.all_settings_digest)
    )
