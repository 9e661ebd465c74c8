"""`python -m tests.processes.short_of_memory BUCKET AS_OF OUT`: a night on a Ray short of memory.

It is a process of its own, since Ray reads its limits when it starts. Ray ends workers as soon as
the machine uses `MARGIN` bytes more than before Ray started. Ray itself takes more than a gigabyte
of them, and other processes of the machine may take some. The file OUT gets the stores of every
task that was handed out.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray._private.utils import get_cgroup_mem_stats

from ray_job.bucket.storage import open_bucket
from ray_job.datasets.executor import RayExecutor
from ray_job.settings import Plan
from tests.support.faults import Losing
from tests.support.shop import Shop

MARGIN = 7 * 2**29
TAKEN = 2 * MARGIN
"""The bytes of memory that a swollen history takes if nothing ends its worker."""
LIMITS = Plan(chunk_rows=700)


def swollen(data: bytes) -> bytes:
    """The history with item names of 1 MiB. They are all the same, so that the file has some 30 kB;
    in memory they take `TAKEN` bytes."""
    name = "x" * 2**20
    rows = TAKEN // len(name)
    table = pq.read_table(pa.BufferReader(data))
    table = table.take(pa.array([k % table.num_rows for k in range(rows)]))
    names = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([name]))
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.set_column(table.schema.get_field_index("item_id"), "item_id", names),
        sink,
        store_schema=False,
        row_group_size=500,
        dictionary_pagesize_limit=2 * len(name),
        compression="zstd",
    )
    return sink.getvalue().to_pybytes()


def memory() -> tuple[int, int]:
    """Bytes of memory in use, and of memory in total, as Ray's monitor counts them."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(lines[name].split()[0]) * 2**10 for name in ("MemTotal", "MemAvailable"))
    container = get_cgroup_mem_stats()
    container_is_limit = container is not None and container[1] < total
    return container if container_is_limit else (total - free, total)


def main(bucket: str, as_of: str, out: str) -> None:
    used, total = memory()
    threshold = min(0.95, (used + MARGIN) / total)
    os.environ |= {
        "RAY_memory_usage_threshold": str(threshold),
        "RAY_memory_monitor_refresh_ms": "20",
    }
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        executor = Losing(RayExecutor(), lambda _: False)
        shop = Shop(open_bucket(bucket), executor=executor).having(plan=LIMITS)
        shop.run(date.fromisoformat(as_of))
        Path(out).write_text(json.dumps(executor.handed_out))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
