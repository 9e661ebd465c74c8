"""The interface of executors: what runs tasks, with Ray or without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ray_job.forecasting.task import ChunkResult, RunSpec, Task


class Executor(Protocol):
    """Runs `forecast_chunk` for tasks."""

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        """Yield results as they are made. A task that is lost with its worker yields none.

        Each task is tried once; the caller decides what happens to lost tasks. May raise
        MemoryError if there is a single task and it was lost for want of memory.
        """
