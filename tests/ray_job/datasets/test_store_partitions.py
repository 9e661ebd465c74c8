"""The Datasource of store partitions: what Ray Data asks of its read tasks."""

import pyarrow as pa
import pytest
import ray

from ray_job.datasets.blocks import Block, PackedTask
from ray_job.datasets.store_partitions import StorePartitions

MEBIBYTE = 2**20


def lengths(tasks):
    return pa.table({"length": [len(task.data) for task in tasks]})


@pytest.mark.usefixtures("local_ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_a_task_may_be_larger_than_ray_data_expects():
    names = tuple(f"batch_data/store_id=s{number:06d}/{'f' * 60}" for number in range(20_000))
    block = Block(tasks=(PackedTask(b"x" * MEBIBYTE, 0),), rows=1, bytes=1, files=names)
    dataset = ray.data.read_datasource(StorePartitions([block], lengths), override_num_blocks=1)
    assert dataset.take_all() == [{"length": MEBIBYTE}]
