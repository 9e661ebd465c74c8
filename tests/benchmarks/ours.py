"""`python -m tests.benchmarks.ours BUCKET HORIZON [tasks]`: one run, without the start of Ray.

Ray starts with the first task, after inputs and plan, so that its start can be taken off.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ray_job.bucket.storage import open_bucket
from ray_job.datasets import cluster
from ray_job.datasets.executor import RayExecutor
from ray_job.execution.executor import Executor
from ray_job.forecasting.task import ChunkResult, RunSpec, Task
from ray_job.nightly import run
from ray_job.nightly.request import RunRequest
from ray_job.progress import SilentProgress
from tests.benchmarks.data import NOW, forget, measured, warm
from tests.benchmarks.plain_tasks import PlainTasksExecutor
from tests.benchmarks.processes import cpu_seconds, peak_bytes


@dataclass
class TimedExecutor:
    """Starts Ray with the first task. It keeps the time of that start, and all results."""

    until: ExitStack
    make_executor: Callable[[], Executor]
    executor: Executor | None = None
    start_seconds: float = 0.0
    start_cpu_seconds: float = 0.0
    results: list[ChunkResult] = field(default_factory=list)

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        if self.executor is None:
            began, cpu = time.monotonic(), cpu_seconds()
            self.until.enter_context(cluster.cluster())
            self.executor = self.make_executor()
            self.start_seconds = time.monotonic() - began
            self.start_cpu_seconds = cpu_seconds() - cpu
        for result in self.executor.run(tasks, spec):
            self.results.append(result)
            yield result


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "dataset": RayExecutor,
    "tasks": PlainTasksExecutor,
}


def main(bucket: str, horizon: int, form: str = "dataset") -> None:
    forget(Path(bucket))
    warm(Path(bucket))
    with ExitStack() as until:
        executor = TimedExecutor(until, EXECUTORS[form])
        began, cpu = time.monotonic(), cpu_seconds()
        receipt = run.run(
            open_bucket(bucket),
            measured(Path(bucket), horizon),
            RunRequest(),
            executor,
            now=NOW,
            clock=time.monotonic,
            progress=SilentProgress(),
        )
        seconds = time.monotonic() - began - executor.start_seconds
        cpu = cpu_seconds() - cpu - executor.start_cpu_seconds
    costs = [result.cost for result in executor.results]
    figures = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "start_seconds": executor.start_seconds,
        "stage_seconds": dict(receipt.stage_seconds),
        "status": receipt.status,
        "stores": receipt.stores.model_dump(),
        "chunks": len(costs),
        "chunk_cpu_seconds": sum(cost.cpu_seconds for cost in costs),
        "chunk_seconds": sum(cost.seconds for cost in costs),
        "chunks_took": max(cost.ended_at for cost in costs)
        - min(cost.ended_at - cost.seconds for cost in costs),
        "worker_peak_bytes": max(cost.peak_memory_bytes for cost in costs),
        "driver_peak_bytes": peak_bytes(),
    }
    print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
