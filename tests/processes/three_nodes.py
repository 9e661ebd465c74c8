"""`python -m tests.processes.three_nodes BUCKET OUT`: the small chain on a cluster of three nodes.

It is a process of its own, since a process is connected to one cluster only. A fourth node joins
after the first result. The file OUT gets the rows of the release; OUT.json gets how often each of
the first nodes and the fourth node began to read or to forecast a chunk.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster

from ray_job.bucket.storage import open_bucket
from ray_job.datasets.executor import RayExecutor
from ray_job.forecasting.task import ChunkResult, RunSpec, Task
from ray_job.settings import Plan
from tests.support.faults import Trapped
from tests.support.shop import Shop

NODES = 3
LIMITS = Plan(chunk_rows=100)
CHUNK_SECONDS = 2.0


@dataclass
class NodeAdder:
    """An executor that adds a node to the cluster after the first result."""

    executor: Trapped
    cluster: Cluster
    joined: str | None = None

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[ChunkResult]:
        for result in self.executor.run(tasks, spec):
            if self.joined is None:
                self.joined = self.cluster.add_node(num_cpus=1).node_id
            yield result


def slowly(marks: Path, attempt: int) -> int:
    """Runs in a worker for each chunk: takes a while, and adds a line to the node's file."""
    with (marks / ray.get_runtime_context().get_node_id()).open("a") as file:
        file.write("chunk\n")
    time.sleep(CHUNK_SECONDS)
    return attempt


def main(bucket: str, out: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(1, NODES):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        cluster.wait_for_nodes()
        first_nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        assert len(first_nodes) == NODES
        marks = Path(f"{out}-nodes")
        marks.mkdir()

        def trap(_: Task) -> str:
            module = "__import__('tests.processes.three_nodes', fromlist=['slowly'])"
            return f"{module}.slowly(__import__('pathlib').Path({str(marks)!r}), 0)"

        executor = NodeAdder(Trapped(RayExecutor(), lambda _: True, trap), cluster)
        shop = Shop(open_bucket(bucket), executor=executor).having(plan=LIMITS)
        receipt = shop.run()
        assert receipt.status == "published", receipt.message
        chunks = Counter({path.name: len(path.read_text().split()) for path in marks.iterdir()})
        report = {
            "first": [chunks[node] for node in first_nodes],
            "joined": chunks[executor.joined],
        }
        Path(f"{out}.json").write_text(json.dumps(report))
        pq.write_table(shop.all_rows(), out)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
