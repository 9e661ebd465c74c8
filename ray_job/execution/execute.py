"""Executing a plan: adopt existing parts, process the other chunks, isolate what kills a worker.

A task without a result lost its worker. It is tried once more, alone. If it is lost again it is cut
in two, and so on, until the store that kills its worker stands alone and is `failed`. The outputs
of such pieces are merged and written under the digest of the chunk, so that no later run meets the
store that kills workers again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from ray_job import plan
from ray_job.bucket import parts
from ray_job.bucket.parts import WrittenPart
from ray_job.bucket.reasons import Outcome, ReasonCode
from ray_job.bucket.storage import Storage
from ray_job.execution.executor import Executor
from ray_job.forecasting.part_files import ExistingParts, find_parts, merge_outputs, write_part
from ray_job.forecasting.store_outcomes import ChunkOutput
from ray_job.forecasting.task import ChunkResult, RunSpec, Task, outcomes_without_forecast
from ray_job.plan import Chunk
from ray_job.progress import Progress

_ATTEMPTS = 2
_SHORTEST_DEADLINE = 60.0
"""Seconds that a piece of a chunk gets at least."""


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk of the plan, with its parts that are in the bucket already."""

    chunk: Chunk
    existing: ExistingParts

    def adopted(self, attempts: int, *, force: bool) -> WrittenPart | None:
        """The part that makes another attempt unnecessary, None where one is needed.

        This is a valid part, or any readable part once all `attempts` are used up; the latter not
        with `force`.
        """
        if self.existing.valid is not None:
            return self.existing.valid
        if self.existing.attempts >= attempts and not force:
            return self.existing.readable
        return None


def with_existing_parts(
    storage: Storage,
    chunks: Sequence[Chunk],
    spec: RunSpec,
    now: datetime,
    reachable: Collection[str],
) -> list[PlannedChunk]:
    """The chunks with their existing parts; `reachable` are the keys that a release names."""
    existing = find_parts(storage, spec.basis.as_of, chunks, now, reachable)
    return [
        PlannedChunk(chunk, parts_of_chunk)
        for chunk, parts_of_chunk in zip(chunks, existing, strict=True)
    ]


def execute(
    storage: Storage,
    planned: Sequence[PlannedChunk],
    spec: RunSpec,
    executor: Executor,
    progress: Progress,
    *,
    force: bool = False,
) -> list[ChunkResult]:
    """A result for every chunk, in the order of the plan.

    The order matters: the sums of a store that was cut depend on it, and a later run must not find
    them changed.
    """
    places = {chunk.chunk.digest: place for place, chunk in enumerate(planned)}
    return sorted(
        _execute(storage, planned, spec, executor, progress, force=force),
        key=lambda result: places[result.digest],
    )


def _execute(
    storage: Storage,
    planned: Sequence[PlannedChunk],
    spec: RunSpec,
    executor: Executor,
    progress: Progress,
    *,
    force: bool,
) -> list[ChunkResult]:
    results: list[ChunkResult] = []
    tasks: list[Task] = []
    for chunk in planned:
        part = chunk.adopted(spec.settings.run.attempts_per_as_of, force=force)
        if part is None:
            deadline = float(spec.settings.run.chunk_deadline_seconds)
            tasks.append(Task(chunk.chunk, chunk.existing.attempts, deadline))
        else:
            results.append(ChunkResult(chunk.chunk.digest, part, adopted=True))
    if not tasks:
        return results
    with progress.stage("forecast", len(tasks), "chunks") as stage:
        missing = {task.chunk.digest: task for task in tasks}
        for attempt in range(_ATTEMPTS):
            if attempt:
                for result in _written_before_the_loss(storage, missing, spec):
                    stage.advance(1, stores=missing.pop(result.digest).chunk.n_stores)
                    results.append(result)
            if not missing:
                break
            # A task that was lost may be the one that kills: it must not take others with it.
            attempted = [replace(task, alone=attempt > 0) for task in missing.values()]
            for result in _run_once(attempted, spec, executor):
                stores = missing.pop(result.digest).chunk.n_stores
                stage.advance(1, stores=stores, retries=attempt)
                results.append(result)
        for task in missing.values():
            results.append(_isolate(storage, task, spec, executor))
            stage.advance(1)
    return results


def _written_before_the_loss(
    storage: Storage, missing: Mapping[str, Task], spec: RunSpec
) -> list[ChunkResult]:
    """The results of lost tasks whose worker wrote the part before it was lost."""
    chunks = [task.chunk for task in missing.values()]
    existing = find_parts(storage, spec.basis.as_of, chunks, spec.generated_at)
    return [
        ChunkResult(chunk.digest, parts_of_chunk.valid)
        for chunk, parts_of_chunk in zip(chunks, existing, strict=True)
        if parts_of_chunk.valid is not None
        and parts_of_chunk.valid.attempt > missing[chunk.digest].attempt
    ]


def _isolate(storage: Storage, task: Task, spec: RunSpec, executor: Executor) -> ChunkResult:
    """Process a chunk that killed its worker twice in pieces, and merge these."""
    outputs = list(_pieces(storage, task, spec, executor))
    part = write_part(storage, task, spec, merge_outputs(_by_store(outputs)))
    return ChunkResult(task.chunk.digest, part)


def _pieces(
    storage: Storage, task: Task, spec: RunSpec, executor: Executor
) -> Iterator[ChunkOutput]:
    """The outputs of the halves of a task, each lost half cut in two again."""
    halves = plan.halves(task.chunk, spec.basis)
    if halves is None:
        yield _last_attempt(storage, task, spec, executor)
        return
    deadline = _shorter(task.deadline_seconds)
    missing = {half.digest: Task(half, deadline_seconds=deadline, alone=True) for half in halves}
    for result in _run_once(list(missing.values()), spec, executor):
        del missing[result.digest]
        yield _read_output(storage, result.part)
    for lost in missing.values():
        yield from _pieces(storage, lost, spec, executor)


def _run_once(tasks: Sequence[Task], spec: RunSpec, executor: Executor) -> Iterator[ChunkResult]:
    """The results that come back. Lost tasks are tried in another way, whatever the reason was."""
    with suppress(MemoryError):
        yield from executor.run(tasks, spec)


def _shorter(deadline: float) -> float:
    """The deadline of a half: what hangs has to be isolated before the night is over."""
    return max(deadline / 2, min(deadline, _SHORTEST_DEADLINE))


def _last_attempt(storage: Storage, task: Task, spec: RunSpec, executor: Executor) -> ChunkOutput:
    """Process one store by itself. If it is lost again, the store is the reason."""
    deadline = _shorter(task.deadline_seconds)
    began = time.monotonic()
    last = Task(task.chunk, task.attempt, deadline, alone=True)
    code = ReasonCode.KILLED_WORKER
    reason = "the worker process died each time that it met this store"
    results: list[ChunkResult] = []
    try:
        results = list(executor.run([last], spec))
    except MemoryError as error:
        code, reason = ReasonCode.MEMORY, f"{error}: the store alone does not fit"
    else:
        if time.monotonic() - began >= deadline:
            code, reason = ReasonCode.DEADLINE, f"the store alone took longer than {deadline:g} s"
    if results:
        return _read_output(storage, results[0].part)
    outcomes = outcomes_without_forecast(task.chunk.store_ids, Outcome.FAILED, code, reason)
    return ChunkOutput(parts.PART_SCHEMA.empty_table(), outcomes)


def _read_output(storage: Storage, part: WrittenPart) -> ChunkOutput:
    if part.part is None:
        return ChunkOutput(parts.PART_SCHEMA.empty_table(), part.outcomes)
    return ChunkOutput(parts.read_rows(storage.read(part.part), part.part), part.outcomes)


def _by_store(outputs: Sequence[ChunkOutput]) -> list[ChunkOutput]:
    """One output for each store, sorted by store."""
    of_stores: list[tuple[str, ChunkOutput]] = []
    for output in outputs:
        for place, row in enumerate(
            output.outcomes.select(["store_id", "first_row", "rows"]).to_pylist()
        ):
            begin, count = row["first_row"] or 0, row["rows"] or 0
            outcome = output.outcomes.slice(place, 1)
            if count:
                column = outcome.schema.get_field_index("first_row")
                outcome = outcome.set_column(column, "first_row", [[0]])
            rows = output.rows.slice(begin, count)
            of_stores.append((row["store_id"], ChunkOutput(rows, outcome)))
    return [output for _, output in sorted(of_stores, key=lambda pair: pair[0])]
