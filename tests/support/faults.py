"""Faults that tests cause: tasks that kill their worker, histories that hang or are rubbish."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.execution.executor import Executor
from ray_job.forecasting.task import ChunkResult, RunSpec, Task


@dataclass(frozen=True)
class Trap:
    """Whoever unpickles it evaluates the expression."""

    expression: str

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return eval, (self.expression,)


KILLED = "__import__('signal').raise_signal(9)"


def killed_once(mark: Path, attempt: int) -> str:
    """Kills the first worker that comes by; what it leaves at `mark` lets the next one pass."""
    there = f"__import__('os').path.exists({str(mark)!r})"
    return f"{attempt} if {there} else (open({str(mark)!r}, 'x').close(), {KILLED})"


@dataclass
class Trapped:
    """An executor whose workers meet a trap when they get a task that `meant` chooses.

    `seen` collects the stores of every task that was handed out, trap or none.
    """

    executor: Executor
    meant: Callable[[Task], bool]
    expression: Callable[[Task], str]

    def __post_init__(self) -> None:
        self.seen: list[list[str]] = []

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        self.seen += [task.chunk.store_ids for task in tasks]
        yield from self.executor.run([self._trapped(task) for task in tasks], spec)

    def _trapped(self, task: Task) -> Task:
        if not self.meant(task):
            return task
        return replace(task, attempt=Trap(self.expression(task)))  # type: ignore[arg-type]


@dataclass
class Losing:
    """An executor without processes that loses the tasks that `lost` chooses, as if they died."""

    executor: Executor
    lost: Callable[[Task], bool]

    def __post_init__(self) -> None:
        self.seen: list[list[str]] = []

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        self.seen += [task.chunk.store_ids for task in tasks]
        yield from self.executor.run([task for task in tasks if not self.lost(task)], spec)


def hang(path: Path) -> None:
    """Replace a file by a pipe: whoever opens it to read waits for ever."""
    path.unlink()
    os.mkfifo(path)


def rewritten(change: Callable[[pa.Table], pa.Table]) -> Callable[[bytes], bytes]:
    """The same file after `change` of its table."""

    def act(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(change(pq.read_table(pa.BufferReader(data))), sink)
        changed: bytes = sink.getvalue().to_pybytes()
        return changed

    return act
