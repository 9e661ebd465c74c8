"""The executor without Ray: chunk after chunk, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ray_job.forecasting.chunk import forecast_chunk
from ray_job.forecasting.task import Result, RunSpec, Task


class InlineExecutor:
    """Works in the calling process; for tests that need hundreds of runs, and for debugging."""

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[Result]:
        for task in tasks:
            yield forecast_chunk(task, spec)
