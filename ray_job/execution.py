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

from ray_job import adoption, forecast, plan
from ray_job.bucket import parts
from ray_job.bucket.storage import Storage
from ray_job.outcomes import Done
from ray_job.plan import Chunk
from ray_job.progress import Progress
from ray_job.tally import Share
from ray_job.work import Executor, Result, Task, Work, failed

_ATTEMPTS = 2
_SHORTEST_DEADLINE = 60.0
"""Seconds that a piece of a chunk has at least."""


@dataclass(frozen=True, slots=True)
class Todo:
    """A chunk of the plan: what is there of it, and whether it is to be done (again)."""

    chunk: Chunk
    found: adoption.Found

    def adopted(self, attempts: int, *, force: bool) -> Done | None:
        """The part that spares the work: a valid one, or any when all attempts are used up."""
        if self.found.done is not None:
            return self.found.done
        if self.found.attempts >= attempts and not force:
            return self.found.best
        return None


def look(
    storage: Storage, chunks: Sequence[Chunk], work: Work, now: datetime, reachable: Collection[str]
) -> list[Todo]:
    """What is there already of each chunk."""
    found = adoption.find(storage, work.basis.as_of, chunks, now, reachable)
    return [Todo(chunk, one) for chunk, one in zip(chunks, found, strict=True)]


def execute(
    storage: Storage,
    todos: Sequence[Todo],
    work: Work,
    executor: Executor,
    progress: Progress,
    *,
    force: bool = False,
) -> list[Result]:
    """A result for every chunk, in the order of the plan: a store that was cut is put together in
    the same way whoever was done first, so that a later run finds nothing changed.
    """
    place = {todo.chunk.digest: number for number, todo in enumerate(todos)}
    return sorted(
        _results(storage, todos, work, executor, progress, force=force),
        key=lambda result: place[result.digest],
    )


def _results(
    storage: Storage,
    todos: Sequence[Todo],
    work: Work,
    executor: Executor,
    progress: Progress,
    *,
    force: bool,
) -> list[Result]:
    results: list[Result] = []
    tasks: list[Task] = []
    for todo in todos:
        done = todo.adopted(work.settings.run.attempts_per_as_of, force=force)
        if done is None:
            deadline = float(work.settings.run.chunk_deadline_seconds)
            tasks.append(Task(todo.chunk, todo.found.attempts, deadline))
        else:
            results.append(Result(todo.chunk.digest, done, adopted=True))
    if not tasks:
        return results
    with progress.stage("forecast", len(tasks), "chunks") as stage:
        missing = {task.chunk.digest: task for task in tasks}
        for attempt in range(_ATTEMPTS):
            if not missing:
                break
            # What was lost once may be what kills; nothing else is to be lost with it again.
            now = [replace(task, alone=attempt > 0) for task in missing.values()]
            for result in _tried(now, work, executor):
                stores = missing.pop(result.digest).chunk.n_stores
                stage.advance(1, stores=stores, retries=attempt)
                results.append(result)
        for task in missing.values():
            results.append(_dissect(storage, task, work, executor))
            stage.advance(1)
    return results


def _dissect(storage: Storage, task: Task, work: Work, executor: Executor) -> Result:
    """A chunk that killed its worker twice: by halves, then put together again."""
    pieces = list(_pieces(storage, task, work, executor))
    whole = forecast.write(storage, task, work, forecast.merge(_sorted(pieces)))
    return Result(task.chunk.digest, whole)


def _pieces(storage: Storage, task: Task, work: Work, executor: Executor) -> Iterator[Share]:
    halves = plan.halves(task.chunk, work.basis)
    if halves is None:
        yield _alone(storage, task, work, executor)
        return
    deadline = _shorter(task.deadline_seconds)
    missing = {half.digest: Task(half, deadline_seconds=deadline, alone=True) for half in halves}
    for result in _tried(list(missing.values()), work, executor):
        del missing[result.digest]
        yield _share(storage, result.done)
    for lost in missing.values():
        yield from _pieces(storage, lost, work, executor)


def _tried(tasks: Sequence[Task], work: Work, executor: Executor) -> Iterator[Result]:
    """What comes back. What was lost is tried in another way, whatever it was lost for."""
    with suppress(MemoryError):
        yield from executor.run(tasks, work)


def _shorter(deadline: float) -> float:
    """A piece has less to do; what hangs is to be found before the night is over."""
    return max(deadline / 2, min(deadline, _SHORTEST_DEADLINE))


def _alone(storage: Storage, task: Task, work: Work, executor: Executor) -> Share:
    """One store by itself, for the last time: what happens now is its own doing."""
    deadline = _shorter(task.deadline_seconds)
    began = time.monotonic()
    last = Task(task.chunk, task.attempt, deadline, alone=True)
    code, reason = "killed_worker", "the worker process died each time that it met this store"
    done: list[Done] = []
    try:
        done = [result.done for result in executor.run([last], work)]
    except MemoryError as error:
        code, reason = "memory", f"{error}: the store alone does not fit"
    else:
        if time.monotonic() - began >= deadline:
            code, reason = "deadline", f"the store alone took longer than {deadline:g} s"
    if done:
        return _share(storage, done[0])
    gone = failed(task.chunk.store_ids, code, reason, work.run_id, work.generated_at)
    return Share(parts.PART_SCHEMA.empty_table(), gone.outcomes)


def _share(storage: Storage, done: Done) -> Share:
    if done.part is None:
        return Share(parts.PART_SCHEMA.empty_table(), done.outcomes)
    return Share(parts.read_rows(storage.read(done.part), done.part), done.outcomes)


def _sorted(pieces: Sequence[Share]) -> list[Share]:
    """Pieces by store, each store's rows and outcome apart, so that the whole is in order."""
    apart: list[tuple[str, Share]] = []
    for piece in pieces:
        for index, row in enumerate(
            piece.outcomes.select(["store_id", "first_row", "rows"]).to_pylist()
        ):
            begin, count = row["first_row"] or 0, row["rows"] or 0
            outcome = piece.outcomes.slice(index, 1)
            if count:
                column = outcome.schema.get_field_index("first_row")
                outcome = outcome.set_column(column, "first_row", [[0]])
            apart.append((row["store_id"], Share(piece.rows.slice(begin, count), outcome)))
    return [share for _, share in sorted(apart, key=lambda one: one[0])]
