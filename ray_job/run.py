"""A run: read the inputs, plan, do what is not done yet, publish, leave a receipt."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ray_job import (
    costs,
    execution,
    inputs,
    merge,
    outcomes,
    provenance,
    publish,
    registry,
    scoring,
)
from ray_job.bucket import pointer, receipts, releases
from ray_job.bucket.errors import ConflictError, InputError, NotFoundError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.receipts import ChunkRecord, Receipt, Status
from ray_job.bucket.storage import Storage
from ray_job.drift import drift
from ray_job.intervals import total_interval
from ray_job.model import Model
from ray_job.model import load as load_model
from ray_job.outcomes import Done
from ray_job.panel import Floats
from ray_job.progress import Progress
from ray_job.request import Request
from ray_job.settings import Settings
from ray_job.work import Executor, Result, Work, without_data

DONE, NOT_PUBLISHED, WITH_FAILURES = 0, 3, 4
CONTEXT_DAYS = timedelta(days=28)
"""Features look at the context a week around the target date; older weather changes no chunk."""

_DAY = timedelta(days=1)


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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is planned and not yet done."""

    histories: inputs.Histories
    tables: inputs.ContextTables
    model: Model
    work: Work
    todos: list[execution.Todo]
    expected: set[str]
    current: Pointer

    @property
    def as_of(self) -> date:
        return self.work.basis.as_of


def new_run_id(as_of: date, now: datetime) -> str:
    """A label: as-of, time, random."""
    return f"{as_of:%Y%m%d}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def prepare(storage: Storage, settings: Settings, request: Request, now: datetime) -> Prepared:
    """Read the inputs and plan. Writes nothing. Raises InputError where something is missing."""
    current, _ = pointer.read(storage)
    histories = inputs.open_histories(storage)
    schedule = Schedule(settings.zone, settings.deadline)
    as_of = inputs.resolve_as_of(_given(request, current), histories, schedule, now)
    artifact = registry.load(storage)
    model = load_model(artifact.model, artifact.description, artifact.sha256)
    if model.description.inputs.horizon < settings.horizon:
        raise InputError(
            f"horizon = {settings.horizon}: model {model.description.version} forecasts"
            f" {model.description.inputs.horizon} days ahead"
        )
    tables = inputs.open_context(storage)
    last = as_of + timedelta(days=settings.horizon)
    context = tables.between(as_of - CONTEXT_DAYS, last, settings.country)
    basis = inputs.basis(settings, as_of, artifact, context)
    work = Work(
        bucket=storage.url,
        basis=basis,
        artifact=artifact,
        context=context,
        settings=settings,
        run_id=new_run_id(as_of, now),
        generated_at=now,
    )
    chunks = inputs.make_plan(storage, settings, histories, basis, request.stores)
    todos = execution.look(storage, chunks, work, now, _reachable(storage, current, as_of))
    return Prepared(
        histories=histories,
        tables=tables,
        model=model,
        work=work,
        todos=todos,
        expected=tables.expected(histories.store_ids),
        current=current,
    )


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
            planned_on = prepared.histories.version
            prepared = prepare(storage, settings, request, now)
            if prepared.histories.version > planned_on:
                results = _execute(storage, prepared, executor, progress, request)
    with watch.stage("publish"):
        rows = _rows(prepared, results, request)
    with watch.stage("score"):
        sold = scoring.Sold(*outcomes.sold(rows.combined, prepared.as_of))
        scores = _scores(storage, settings, prepared, sold) if request.publish else {}
    with watch.stage("publish"):
        draft = publish.Draft(
            rows=rows.release,
            expected=prepared.expected,
            known=prepared.tables.known(prepared.histories.store_ids),
            as_of=prepared.as_of,
            run_id=prepared.work.run_id,
            created_at=now,
            table_version=prepared.histories.version,
            model_version=prepared.model.description.version,
            horizon=settings.horizon,
            force=request.force,
            hindsight=_is_hindsight(prepared, settings, now),
        )
        publication = _publish(storage, draft, settings, request, scores)
    idle = all(result.adopted for result in results) and not scores
    seconds = clock() - began
    receipt = _receipt(
        prepared,
        request,
        publication,
        results,
        sold,
        watch,
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


def _given(request: Request, current: Pointer) -> date | None:
    if request.as_of != "current":
        return request.as_of
    entry = current.current_entry
    if entry is None:
        raise InputError("--as-of current: nothing was published yet")
    return entry.as_of


def _reachable(storage: Storage, current: Pointer, as_of: date) -> set[str]:
    """The parts that the release of this as-of names."""
    name = current.dates.get(as_of)
    entry = None if name is None else current.entry(name)
    if entry is None:
        return set()
    references = pc.list_flatten(
        releases.load(storage, entry.release, entry.sha256).stores["parts"]
    )
    return set(pc.struct_field(references, "part").to_pylist())


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
        table_version=prepared.histories.version,
    )

    def interval(
        total: Floats, spread: Floats, squared: Floats, days: Floats
    ) -> tuple[Floats, Floats]:
        return total_interval(total, spread, squared, days, calibration)

    descriptions = prepared.tables.descriptions
    return _Rows(combined, outcomes.release_rows(combined, origin, interval, descriptions))


def _unplanned(prepared: Prepared, request: Request) -> Done:
    """The stores of the scope none of whose files reaches into the days of the plan."""
    scope = set(prepared.histories.store_ids if request.stores is None else request.stores)
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
    scores: Mapping[date, pa.Table],
) -> publish.Publication:
    if not request.publish:
        return publish.preview(storage, draft, settings)
    written = scoring.write(storage, scores, draft.run_id)
    return publish.publish(storage, draft, settings, written)


def _is_hindsight(prepared: Prepared, settings: Settings, now: datetime) -> bool:
    """Whether the first target date was over, so that its weather is observed and not forecast."""
    over = now.astimezone(settings.zone).date() > prepared.as_of + _DAY
    return over and prepared.tables.weather is not None


def _earlier(storage: Storage, current: Pointer, receipt: Receipt) -> Receipt:
    """The receipt of the run that published what stands.

    If that run died before it wrote one, this run's `receipt` takes its place, under its name.
    """
    entry = None if receipt.release is None else current.entry(receipt.release)
    if entry is None:
        # Somebody else published it a moment ago.
        receipts.write(storage, receipt)
        return receipt
    with suppress(NotFoundError):
        return receipts.read(storage, entry.as_of, entry.run_id)
    status: Status = "published_with_failures" if receipt.failures else "published"
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


_STATUS: Mapping[str, Status] = {
    "published": "published",
    "unchanged": "unchanged",
    "held": "held",
    "refused": "refused",
    "unpublished": "unpublished",
}


def _receipt(
    prepared: Prepared,
    request: Request,
    publication: publish.Publication,
    results: Sequence[Result],
    sold: scoring.Sold,
    watch: Watch,
    seconds: float,
    finished_at: datetime,
) -> Receipt:
    work, rows = prepared.work, publication.rows
    failures = merge.failures(rows.filter(rows["expected"]))
    status = _STATUS[publication.state]
    if status == "published" and failures:
        status = "published_with_failures"
    code = WITH_FAILURES if failures else DONE
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
        hindsight=_is_hindsight(prepared, work.settings, work.generated_at),
        submission=request.submission,
        started_at=work.generated_at,
        finished_at=finished_at,
        seconds=round(seconds, 3),
        stage_seconds=watch.seconds,
        gates=publication.gates,
        stores=merge.counts(rows, as_of=prepared.as_of, run_id=work.run_id),
        failures=tuple(failures),
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
            sold=sold,
            limits=work.settings.sanity,
        ),
        horizon=work.basis.horizon,
        model_version=prepared.model.description.version,
        model_sha256=work.artifact.sha256,
        table_version=prepared.histories.version,
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
