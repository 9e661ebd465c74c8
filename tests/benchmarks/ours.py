"""`python -m tests.benchmarks.ours BUCKET HORIZON`: one run, measured from Ray's start on."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ray_job import job, run
from ray_job.bucket.storage import open_bucket
from ray_job.progress import SilentProgress
from ray_job.request import Request
from ray_job.work import Executor, Result, Task, Work
from tests.benchmarks.data import NOW, forget, measured, warm
from tests.benchmarks.processes import cpu_seconds


@dataclass
class Watched:
    """Keeps what the executor gives."""

    executor: Executor
    results: list[Result] = field(default_factory=list)

    def run(self, tasks: Sequence[Task], work: Work) -> Iterator[Result]:
        for result in self.executor.run(tasks, work):
            self.results.append(result)
            yield result


def main(bucket: str, horizon: int) -> None:
    forget(Path(bucket))
    warm(Path(bucket))
    began = time.monotonic()
    with job.cluster():
        started, cpu = time.monotonic(), cpu_seconds()
        executor = Watched(job.RayExecutor())
        receipt = run.run(
            open_bucket(bucket),
            measured(Path(bucket), horizon),
            Request(),
            executor,
            now=NOW,
            clock=time.monotonic,
            progress=SilentProgress(),
        )
        seconds, cpu = time.monotonic() - started, cpu_seconds() - cpu
    costs = [result.cost for result in executor.results]
    told = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "start_seconds": started - began,
        "stage_seconds": dict(receipt.stage_seconds),
        "status": receipt.status,
        "stores": receipt.stores.model_dump(),
        "chunks": len(costs),
        "chunk_cpu_seconds": sum(cost.cpu_seconds for cost in costs),
        "chunk_seconds": sum(cost.seconds for cost in costs),
        "chunks_took": max(cost.ended_at for cost in costs)
        - min(cost.ended_at - cost.seconds for cost in costs),
        "worker_peak_bytes": max(cost.peak_memory_bytes for cost in costs),
        "driver_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
