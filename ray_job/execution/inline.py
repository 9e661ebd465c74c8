"""The executor without Ray: one chunk after the other, in the calling process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ray_job.forecasting.chunk import forecast_chunk
from ray_job.forecasting.task import ChunkResult, RunSpec, Task


class InlineExecutor:
    """For tests that need hundreds of runs, and for debugging."""

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        for task in tasks:
            yield forecast_chunk(task, spec)
