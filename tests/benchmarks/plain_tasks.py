"""The executor of version 0.1.0: plain Ray tasks instead of a Dataset, for the benchmark only.

A Ray task computes a block of chunks and yields each result as soon as it is made (a streaming
generator). All tasks are submitted at once. See decision 0052.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence

import ray
from ray import ObjectRef, ObjectRefGenerator

from ray_job.datasets.blocks import PackedTask, make_blocks, memory_request
from ray_job.forecasting.chunk import forecast_chunk
from ray_job.forecasting.task import ChunkResult, RunSpec, Task

_POLL_SECONDS = 0.1


class PlainTasksExecutor:
    """Runs tasks on the Ray cluster that this process is connected to. It does not retry."""

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        pending = _submit(tasks, spec)
        while pending:
            ready, _ = ray.wait(
                pending, num_returns=len(pending), timeout=_POLL_SECONDS, fetch_local=False
            )
            for generator in ready:
                while generator.next_ready():
                    try:
                        reference = next(generator)
                    except StopIteration:
                        break
                    yield pickle.loads(ray.get(reference))  # noqa: S301 - made by our own workers
                if generator.is_finished():
                    pending.remove(generator)


def _submit(tasks: Sequence[Task], spec: RunSpec) -> list[ObjectRefGenerator]:
    shared = ray.put(pickle.dumps(spec))
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = int(sum(node.get("CPU", 0) for node in nodes))
    largest = max(int(node.get("memory", 0)) for node in nodes)
    by_memory: dict[int, list[Task]] = {}
    for task in tasks:
        by_memory.setdefault(memory_request(task.chunk, largest), []).append(task)
    forecast = ray.remote(_forecast)
    return [
        forecast.options(num_cpus=1, memory=memory, num_returns="streaming", max_retries=0).remote(
            block.tasks, [shared]
        )
        for memory, group in sorted(by_memory.items(), reverse=True)
        for block in make_blocks(group, cpus)
    ]


def _forecast(packed: Sequence[PackedTask], shared: Sequence[ObjectRef[bytes]]) -> Iterator[bytes]:
    spec = _run_spec(shared[0])
    for task in packed:
        yield pickle.dumps(forecast_chunk(task.unpack(), spec))


_specs: dict[str, RunSpec] = {}


def _run_spec(shared: ObjectRef[bytes]) -> RunSpec:
    name = shared.hex()
    if name not in _specs:
        _specs.clear()
        _specs[name] = pickle.loads(ray.get(shared))  # noqa: S301 - made by our own driver
    return _specs[name]
