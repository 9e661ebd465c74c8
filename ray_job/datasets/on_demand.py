"""An executor that starts Ray while a run reads its inputs, and ends it before the run publishes.

A run that has a mistake in its request, or nothing left to do, ends without the seconds that the
start of Ray takes. Until then this module does not import the modules that import ray.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ray_job.datasets.local_ray import LocalRay

if TYPE_CHECKING:
    from ray_job.execution.executor import Executor
    from ray_job.forecasting.task import ChunkResult, RunSpec, Task


class RayOnDemand:
    """A context that disconnects from Ray at its end, and ends the Ray that it started."""

    def __init__(self) -> None:
        self._local: LocalRay | None = None
        self._until_end = ExitStack()
        self._is_connected = False
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._until_end.__exit__(error_type, error, traceback)

    def start(self) -> None:
        """Begin to start a local Ray in the background. Idempotent.

        Does nothing where this process is connected to a Ray, or `RAY_ADDRESS` names a cluster:
        those are there already, and the first `run` uses them.
        """
        ray = sys.modules.get("ray")
        is_there = os.environ.get("RAY_ADDRESS") or (ray is not None and ray.is_initialized())
        if self._local is None and not is_there:
            self._local = LocalRay()
            self._until_end.callback(self._local.end)

    def connect(self) -> None:
        """Wait for a local Ray, whose workers then import what chunks need meanwhile. Idempotent.

        Raises RayUnavailableError where it cannot be started. Does nothing where `start` does.
        """
        self.start()
        if self._local is not None:
            self._connect()

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        """See `Executor.run`. The first call connects, unless `connect` did."""
        if self._executor is None:
            self.start()
            self._connect()
            from ray_job.datasets import executor  # noqa: PLC0415 - loads Ray Data: slow

            self._executor = executor.RayExecutor()
        yield from self._executor.run(tasks, spec)

    def _connect(self) -> None:
        if not self._is_connected:
            from ray_job.datasets import cluster  # noqa: PLC0415 - loads Ray: slow

            self._until_end.enter_context(cluster.cluster(self._local))
            self._is_connected = True

    def end(self) -> None:
        """Give Ray back before the context ends. No `run` may follow."""
        self._until_end.close()
