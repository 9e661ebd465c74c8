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
        context.Process(target=work, args=(bucket, horizon, barrier, following, told))
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


def work(bucket: str, horizon: int, barrier: Barrier, following: Any, told: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    from ray_job import forecast, run  # noqa: PLC0415
    from ray_job.bucket.storage import open_bucket  # noqa: PLC0415
    from ray_job.request import Request  # noqa: PLC0415
    from ray_job.work import Task  # noqa: PLC0415
    from tests.benchmarks.data import NOW, measured  # noqa: PLC0415

    settings = measured(Path(bucket), horizon)
    prepared = run.prepare(open_bucket(bucket), settings, Request(), NOW)
    forecast._model(forecast._ArtifactKey(prepared.work.artifact))
    chunks = [todo.chunk for todo in prepared.todos]
    barrier.wait()
    began, cpu, done, peak = time.monotonic(), time.process_time(), 0, 0
    while True:
        with following.get_lock():
            place = following.value
            following.value += 1
        if place >= len(chunks):
            break
        result = forecast.forecast_chunk(Task(chunks[place]), prepared.work)
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
