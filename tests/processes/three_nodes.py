"""`python -m tests.processes.three_nodes BUCKET OUT`: the small chain on a cluster of three nodes.

It is a process of its own, since a process is connected to one cluster only. The file OUT gets the
rows of the release.
"""

from __future__ import annotations

import logging
import sys

import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster

from ray_job.bucket.storage import open_bucket
from ray_job.datasets.executor import RayExecutor
from ray_job.settings import Plan
from tests.support.shop import Shop

NODES = 3
LIMITS = Plan(chunk_rows=250)


def main(bucket: str, out: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(1, NODES):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        cluster.wait_for_nodes()
        assert sum(node["Alive"] for node in ray.nodes()) == NODES
        shop = Shop(open_bucket(bucket), executor=RayExecutor()).having(plan=LIMITS)
        receipt = shop.run()
        assert receipt.status == "published", receipt.message
        pq.write_table(shop.all_rows(), out)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
