"""`python -m tests.benchmarks.limit BUCKET HORIZON`: the same chunks in two plain processes.

What a run could at best take: the clock runs from the first chunk's start to the last one's end,
in processes that have imported everything and loaded the model. Neither plan nor publish counts.
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
    told: Any = context.Queue()
    processes = [
        context.Process(target=spec, args=(bucket, horizon, barrier, following, told))
        for _ in range(WORKERS)
    ]
    for process in processes:
        process.start()
    costs = [told.get() for _ in processes]
    for process in processes:
        process.join()
    found = {
        "seconds": max(cost["ended"] for cost in costs) - min(cost["began"] for cost in costs),
        "cpu_seconds": sum(cost["cpu_seconds"] for cost in costs),
        "chunks": sum(cost["chunks"] for cost in costs),
        "worker_peak_bytes": max(cost["peak"] for cost in costs),
    }
    print(json.dumps(found))  # noqa: T201


def spec(bucket: str, horizon: int, barrier: Barrier, following: Any, told: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    from ray_job.bucket.storage import open_bucket  # noqa: PLC0415
    from ray_job.forecasting import chunk  # noqa: PLC0415
    from ray_job.forecasting.task import Task  # noqa: PLC0415
    from ray_job.nightly import run  # noqa: PLC0415
    from ray_job.nightly.prepare import RunRequest  # noqa: PLC0415
    from tests.benchmarks.data import NOW, measured  # noqa: PLC0415

    settings = measured(Path(bucket), horizon)
    run_plan = run.prepare(open_bucket(bucket), settings, RunRequest(), NOW)
    chunk._load_model(chunk._ArtifactKey(run_plan.spec.artifact))
    chunks = [planned.chunk for planned in run_plan.planned_chunks]
    barrier.wait()
    began, cpu, done, peak = time.monotonic(), time.process_time(), 0, 0
    while True:
        with following.get_lock():
            place = following.value
            following.value += 1
        if place >= len(chunks):
            break
        result = chunk.forecast_chunk(Task(chunks[place]), run_plan.spec)
        peak = max(peak, result.cost.peak_memory_bytes)
        done += 1
    told.put(
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
