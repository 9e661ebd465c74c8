"""An executor that starts Ray when the first tasks come, and not before.

A run that has a mistake in its request, or nothing left to do, ends without the seconds that the
start of Ray takes. Until then this module does not import the modules that import ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ray_job.execution.executor import Executor
from ray_job.forecasting.task import ChunkResult, RunSpec, Task


class RayOnDemand:
    """A context that disconnects from Ray at its end, if it has connected."""

    def __init__(self) -> None:
        self._connection = ExitStack()
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._connection.__exit__(error_type, error, traceback)

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        """See `Executor.run`. The first call connects to Ray, or starts it."""
        if self._executor is None:
            from ray_job.datasets import cluster, executor  # noqa: PLC0415 - loads Ray: slow

            self._connection.enter_context(cluster.cluster())
            self._executor = executor.RayExecutor()
        yield from self._executor.run(tasks, spec)
