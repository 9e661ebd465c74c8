"""`python -m tests.processes.losing_nodes BUCKET OUT [LOSE [WAITS]]`: a night that loses nodes.

It is a process of its own, since a process is connected to one cluster only. The head runs no
tasks. After the first LOSE results, and the time that WAITS chunks take, a working node is removed,
with its running chunks and with the results that it still holds. The file OUT gets the receipt, the
number of nodes alive, and how often each chunk was handed out.
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
class NodeRemover:
    """An executor that removes a working node after `after` results."""

    executor: Trapped
    cluster: Cluster
    after: int
    waits: int
    marks: Path
    results: int = 0
    handed_out: dict[str, int] = field(default_factory=dict)

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        for task in tasks:
            self.handed_out[task.chunk.digest] = self.handed_out.get(task.chunk.digest, 0) + 1
        for result in self.executor.run(tasks, spec):
            self.results += 1
            if self.results == self.after:
                time.sleep(self.waits * CHUNK_SECONDS)
                self.cluster.remove_node(self._busy(), allow_graceful=False)
            yield result

    def _busy(self) -> Any:
        """A node that has just begun a chunk; any node if none begins one for a while.

        A worker lives a moment longer than its node, and might still finish an older chunk.
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
    """Runs in a worker: takes so long that, when the node is removed, some chunks are running and
    some are finished. Meanwhile a file in `marks` has the name of the node."""
    mark = marks / ray.get_runtime_context().get_node_id()
    mark.touch()
    time.sleep(CHUNK_SECONDS)
    mark.unlink(missing_ok=True)
    return attempt


def _alive(node_is_removed: bool) -> int:
    """How many nodes are alive for Ray. It waits until Ray has noticed the removal of a node."""
    expected, until = NODES + 1 - node_is_removed, time.monotonic() + 60
    while (alive := sum(node["Alive"] for node in ray.nodes())) > expected:
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    return alive


def main(bucket: str, out: str, lose: str = "0", waits: str = "0") -> None:
    if int(waits):
        # Results of any size stay on their node until they are fetched, as large ones do.
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
        executor = NodeRemover(trapped, cluster, int(lose), int(waits), marks)
        receipt = Shop(open_bucket(bucket), executor=executor).run()
        report = {"receipt": receipt.model_dump(mode="json"), "alive": _alive(int(lose) > 0)}
        Path(out).write_text(json.dumps(report | {"handed_out": executor.handed_out}))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
