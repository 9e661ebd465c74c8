"""Working through a plan: adopt what is there, do the rest, isolate what kills its worker.

A task without a result lost its worker. It is tried once more; then it is cut in two, and so on,
until the store that does it stands alone and is `failed`. What was put together of such pieces is
written under the chunk's own digest, so that no later run steps on the culprit again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from ray_job import plan
from ray_job.bucket import parts
from ray_job.bucket.parts import WrittenPart
from ray_job.bucket.storage import Storage
from ray_job.forecasting import chunk as forecast
from ray_job.forecasting import part_files
from ray_job.forecasting.store_outcomes import ChunkOutput
from ray_job.forecasting.task import Executor, Result, RunSpec, Task, failed
from ray_job.plan import Chunk
from ray_job.progress import Progress

_ATTEMPTS = 2
_SHORTEST_DEADLINE = 60.0
"""Seconds that a piece of a chunk has at least."""


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk of the plan: what is there of it, and whether it is to be done (again)."""

    chunk: Chunk
    found: part_files.ExistingParts

    def adopted(self, attempts: int, *, force: bool) -> WrittenPart | None:
        """The part that spares the work: a valid one, or any when all attempts are used up."""
        if self.found.done is not None:
            return self.found.done
        if self.found.attempts >= attempts and not force:
            return self.found.best
        return None


def look(
    storage: Storage,
    chunks: Sequence[Chunk],
    spec: RunSpec,
    now: datetime,
    reachable: Collection[str],
) -> list[PlannedChunk]:
    """What is there already of each chunk."""
    found = part_files.find(storage, spec.basis.as_of, chunks, now, reachable)
    return [PlannedChunk(chunk, one) for chunk, one in zip(chunks, found, strict=True)]


def execute(
    storage: Storage,
    planned_chunks: Sequence[PlannedChunk],
    spec: RunSpec,
    executor: Executor,
    progress: Progress,
    *,
    force: bool = False,
) -> list[Result]:
    """A result for every chunk, in the order of the plan: a store that was cut is put together in
    the same way whoever was done first, so that a later run finds nothing changed.
    """
    place = {planned.chunk.digest: number for number, planned in enumerate(planned_chunks)}
    return sorted(
        _results(storage, planned_chunks, spec, executor, progress, force=force),
        key=lambda result: place[result.digest],
    )


def _results(
    storage: Storage,
    planned_chunks: Sequence[PlannedChunk],
    spec: RunSpec,
    executor: Executor,
    progress: Progress,
    *,
    force: bool,
) -> list[Result]:
    results: list[Result] = []
    tasks: list[Task] = []
    for planned in planned_chunks:
        done = planned.adopted(spec.settings.run.attempts_per_as_of, force=force)
        if done is None:
            deadline = float(spec.settings.run.chunk_deadline_seconds)
            tasks.append(Task(planned.chunk, planned.found.attempts, deadline))
        else:
            results.append(Result(planned.chunk.digest, done, adopted=True))
    if not tasks:
        return results
    with progress.stage("forecast", len(tasks), "chunks") as stage:
        missing = {task.chunk.digest: task for task in tasks}
        for attempt in range(_ATTEMPTS):
            if not missing:
                break
            # What was lost once may be what kills; nothing else is to be lost with it again.
            now = [replace(task, alone=attempt > 0) for task in missing.values()]
            for result in _tried(now, spec, executor):
                stores = missing.pop(result.digest).chunk.n_stores
                stage.advance(1, stores=stores, retries=attempt)
                results.append(result)
        for task in missing.values():
            results.append(_dissect(storage, task, spec, executor))
            stage.advance(1)
    return results


def _dissect(storage: Storage, task: Task, spec: RunSpec, executor: Executor) -> Result:
    """A chunk that killed its worker twice: by halves, then put together again."""
    pieces = list(_pieces(storage, task, spec, executor))
    whole = forecast.write(storage, task, spec, forecast.merge(_sorted(pieces)))
    return Result(task.chunk.digest, whole)


def _pieces(
    storage: Storage, task: Task, spec: RunSpec, executor: Executor
) -> Iterator[ChunkOutput]:
    halves = plan.halves(task.chunk, spec.basis)
    if halves is None:
        yield _alone(storage, task, spec, executor)
        return
    deadline = _shorter(task.deadline_seconds)
    missing = {half.digest: Task(half, deadline_seconds=deadline, alone=True) for half in halves}
    for result in _tried(list(missing.values()), spec, executor):
        del missing[result.digest]
        yield _share(storage, result.done)
    for lost in missing.values():
        yield from _pieces(storage, lost, spec, executor)


def _tried(tasks: Sequence[Task], spec: RunSpec, executor: Executor) -> Iterator[Result]:
    """What comes back. What was lost is tried in another way, whatever it was lost for."""
    with suppress(MemoryError):
        yield from executor.run(tasks, spec)


def _shorter(deadline: float) -> float:
    """A piece has less to do; what hangs is to be found before the night is over."""
    return max(deadline / 2, min(deadline, _SHORTEST_DEADLINE))


def _alone(storage: Storage, task: Task, spec: RunSpec, executor: Executor) -> ChunkOutput:
    """One store by itself, for the last time: what happens now is its own doing."""
    deadline = _shorter(task.deadline_seconds)
    began = time.monotonic()
    last = Task(task.chunk, task.attempt, deadline, alone=True)
    code, reason = "killed_worker", "the worker process died each time that it met this store"
    done: list[WrittenPart] = []
    try:
        done = [result.done for result in executor.run([last], spec)]
    except MemoryError as error:
        code, reason = "memory", f"{error}: the store alone does not fit"
    else:
        if time.monotonic() - began >= deadline:
            code, reason = "deadline", f"the store alone took longer than {deadline:g} s"
    if done:
        return _share(storage, done[0])
    gone = failed(task.chunk.store_ids, code, reason, spec.run_id, spec.generated_at)
    return ChunkOutput(parts.PART_SCHEMA.empty_table(), gone.outcomes)


def _share(storage: Storage, done: WrittenPart) -> ChunkOutput:
    if done.part is None:
        return ChunkOutput(parts.PART_SCHEMA.empty_table(), done.outcomes)
    return ChunkOutput(parts.read_rows(storage.read(done.part), done.part), done.outcomes)


def _sorted(pieces: Sequence[ChunkOutput]) -> list[ChunkOutput]:
    """Pieces by store, each store's rows and outcome apart, so that the whole is in order."""
    apart: list[tuple[str, ChunkOutput]] = []
    for piece in pieces:
        for index, row in enumerate(
            piece.outcomes.select(["store_id", "first_row", "rows"]).to_pylist()
        ):
            begin, count = row["first_row"] or 0, row["rows"] or 0
            outcome = piece.outcomes.slice(index, 1)
            if count:
                column = outcome.schema.get_field_index("first_row")
                outcome = outcome.set_column(column, "first_row", [[0]])
            apart.append((row["store_id"], ChunkOutput(piece.rows.slice(begin, count), outcome)))
    return [share for _, share in sorted(apart, key=lambda one: one[0])]
