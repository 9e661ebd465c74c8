"""`python -m tests.processes.losing_nodes BUCKET OUT [LOSE [WAITS]]`: a night that loses nodes.

A process of its own, since a process is connected to one cluster. The head works on nothing; after
the first LOSE results, and as long as WAITS chunks take, a working node is gone, with whatever it
was at and had not handed over.
OUT gets the receipt, and how often each chunk was handed out.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from ray_job.bucket.storage import open_bucket
from ray_job.datasets.executor import RayExecutor
from ray_job.forecasting.task import ChunkResult, RunSpec, Task
from tests.support.faults import Trapped
from tests.support.shop import Shop

NODES = 2
CHUNK_SECONDS = 1.5


@dataclass
class Watched:
    """An executor that acts after some results."""

    executor: Trapped
    cluster: Cluster
    after: int
    waits: int
    marks: Path
    seen: int = 0
    handed_out: dict[str, int] = field(default_factory=dict)

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        for task in tasks:
            self.handed_out[task.chunk.digest] = self.handed_out.get(task.chunk.digest, 0) + 1
        for result in self.executor.run(tasks, spec):
            self.seen += 1
            if self.seen == self.after:
                time.sleep(self.waits * CHUNK_SECONDS)
                self.cluster.remove_node(self._busy(), allow_graceful=False)
            yield result

    def _busy(self) -> Any:
        """A node that has just begun a chunk; any where none does for a while.

        A worker outlives its node by moments, in which it might finish what it was at.
        """
        nodes = {node.node_id: node for node in self.cluster.worker_nodes}
        until = time.monotonic() + 4 * CHUNK_SECONDS
        while time.monotonic() < until:
            for name, node in nodes.items():
                with suppress(FileNotFoundError):
                    if time.time() - (self.marks / name).stat().st_mtime < CHUNK_SECONDS / 5:
                        return node
            time.sleep(0.01)
        return next(iter(nodes.values()))


def slowly(marks: Path, attempt: int) -> int:
    """In a worker: long enough that some chunks are at work and some are done when a node goes. A
    mark says which node is at one."""
    mark = marks / ray.get_runtime_context().get_node_id()
    mark.touch()
    time.sleep(CHUNK_SECONDS)
    mark.unlink(missing_ok=True)
    return attempt


def _alive(one_is_lost: bool) -> int:
    """How many nodes Ray takes for alive. A night may be over before Ray has noticed a loss."""
    expected, until = NODES + 1 - one_is_lost, time.monotonic() + 60
    while (alive := sum(node["Alive"] for node in ray.nodes())) > expected:
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    return alive


def main(bucket: str, out: str, lose: str = "0", waits: str = "0") -> None:
    if int(waits):
        # Results of any size lie where they were made until they are asked for, as large ones do.
        os.environ["RAY_max_direct_call_object_size"] = "0"  # noqa: SIM112 - Ray spells it so
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(NODES):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        cluster.wait_for_nodes()
        marks = Path(f"{out}-at-work")
        marks.mkdir()

        def trap(task: Task) -> str:
            module = "__import__('tests.processes.losing_nodes', fromlist=['slowly'])"
            return f"{module}.slowly(__import__('pathlib').Path({str(marks)!r}), {task.attempt})"

        trapped = Trapped(RayExecutor(), lambda _: True, trap)
        watched = Watched(trapped, cluster, int(lose), int(waits), marks)
        receipt = Shop(open_bucket(bucket), executor=watched).run()
        told = {"receipt": receipt.model_dump(mode="json"), "alive": _alive(int(lose) > 0)}
        Path(out).write_text(json.dumps(told | {"handed_out": watched.handed_out}))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
