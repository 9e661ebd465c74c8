"""Faults that tests cause: tasks that kill their worker, lost tasks, unreadable files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.execution.executor import Executor
from ray_job.forecasting.task import ChunkResult, RunSpec, Task
from tests.fake_gcs import Fault, Faults


@dataclass(frozen=True)
class Trap:
    """An object that, when it is unpickled, evaluates the expression and becomes its value."""

    expression: str

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return eval, (self.expression,)


KILLED = "__import__('signal').raise_signal(9)"


def killed_once(mark: Path, attempt: int) -> str:
    """An expression that kills the first process that evaluates it.

    That process leaves a file at `mark`; later ones find it there and get `attempt`.
    """
    marked = f"__import__('os').path.exists({str(mark)!r})"
    return f"{attempt} if {marked} else (open({str(mark)!r}, 'x').close(), {KILLED})"


@dataclass
class Trapped:
    """An executor whose workers evaluate `expression` when they unpickle a chosen task.

    `handed_out` has the stores of every task that was handed out, with a trap or without.
    """

    executor: Executor
    chosen: Callable[[Task], bool]
    expression: Callable[[Task], str]

    def __post_init__(self) -> None:
        self.handed_out: list[list[str]] = []

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        self.handed_out += [task.chunk.store_ids for task in tasks]
        yield from self.executor.run([self._trapped(task) for task in tasks], spec)

    def _trapped(self, task: Task) -> Task:
        if not self.chosen(task):
            return task
        return replace(task, attempt=Trap(self.expression(task)))  # type: ignore[arg-type]


@dataclass
class Losing:
    """An executor that gives no result for the tasks that `lost` picks, as if their worker died.

    `handed_out` has the stores of every task that was handed out.
    """

    executor: Executor
    lost: Callable[[Task], bool]

    def __post_init__(self) -> None:
        self.handed_out: list[list[str]] = []

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        self.handed_out += [task.chunk.store_ids for task in tasks]
        yield from self.executor.run([task for task in tasks if not self.lost(task)], spec)


@dataclass
class ActingAfter:
    """An executor that calls `act(spec)` after the last result and before it ends."""

    executor: Executor
    act: Callable[[RunSpec], None]

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        yield from self.executor.run(tasks, spec)
        self.act(spec)


@dataclass
class StallingOnce:
    """An executor before whose first task a fault begins: what the plan reads is not disturbed."""

    executor: Executor
    faults: Faults
    fault: Fault

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        if not self.fault.seen:
            self.faults.add(self.fault)
        yield from self.executor.run(tasks, spec)


def rewritten(change: Callable[[pa.Table], pa.Table]) -> Callable[[bytes], bytes]:
    """From the bytes of a Parquet file to the bytes of the file after `change` of its table."""

    def rewrite(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(change(pq.read_table(pa.BufferReader(data))), sink)
        changed: bytes = sink.getvalue().to_pybytes()
        return changed

    return rewrite
