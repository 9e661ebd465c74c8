"""`python -m tests.benchmarks.limit BUCKET HORIZON`: the same chunks in two plain processes.

It is the least time that a run could take. The clock runs from the start of the first chunk to the
end of the last, in processes that have imported everything and loaded the model. Plan and publish
do not count.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

WORKERS = 2


def main(bucket: str, horizon: int) -> None:
    from tests.benchmarks.data import forget, warm  # noqa: PLC0415

    forget(Path(bucket))
    warm(Path(bucket))
    context = mp.get_context("spawn")
    barrier, following = context.Barrier(WORKERS), context.Value("i", 0)
    costs_of_workers: Any = context.Queue()
    processes = [
        context.Process(
            target=forecast_chunks, args=(bucket, horizon, barrier, following, costs_of_workers)
        )
        for _ in range(WORKERS)
    ]
    for process in processes:
        process.start()
    costs = [costs_of_workers.get() for _ in processes]
    for process in processes:
        process.join()
    figures = {
        "seconds": max(cost["ended"] for cost in costs) - min(cost["began"] for cost in costs),
        "cpu_seconds": sum(cost["cpu_seconds"] for cost in costs),
        "chunks": sum(cost["chunks"] for cost in costs),
        "worker_peak_bytes": max(cost["peak"] for cost in costs),
    }
    print(json.dumps(figures))  # noqa: T201


def forecast_chunks(
    bucket: str, horizon: int, barrier: Barrier, following: Any, costs_of_workers: Any
) -> None:
    """One worker: takes the next chunk until there is none, then reports its cost."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from ray_job.bucket.storage import open_bucket  # noqa: PLC0415
    from ray_job.forecasting import chunk  # noqa: PLC0415
    from ray_job.forecasting.task import Task  # noqa: PLC0415
    from ray_job.nightly import run  # noqa: PLC0415
    from ray_job.nightly.request import RunRequest  # noqa: PLC0415
    from tests.benchmarks.data import NOW, measured  # noqa: PLC0415

    settings = measured(Path(bucket), horizon)
    run_plan = run.prepare(open_bucket(bucket), settings, RunRequest(), NOW)
    chunk._load_model(chunk._ArtifactKey(run_plan.spec.artifact))
    chunks = [planned.chunk for planned in run_plan.planned_chunks]
    barrier.wait()
    began, cpu, done, peak = time.monotonic(), time.process_time(), 0, 0
    while True:
        with following.get_lock():
            number = following.value
            following.value += 1
        if number >= len(chunks):
            break
        result = chunk.forecast_chunk(Task(chunks[number]), run_plan.spec)
        peak = max(peak, result.cost.peak_memory_bytes)
        done += 1
    costs_of_workers.put(
        {
            "began": began,
            "ended": time.monotonic(),
            "cpu_seconds": time.process_time() - cpu,
            "chunks": done,
            "peak": peak,
        }
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
