"""Several nodes: the same plan gives the same rows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from ray_job.bucket.storage import open_bucket
from tests.processes.three_nodes import LIMITS
from tests.support.shop import Shop


@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_three_nodes_give_the_rows_of_one_process(shop, tmp_path):
    shutil.copytree(shop.storage.url, tmp_path / "alone")
    alone = Shop(open_bucket(str(tmp_path / "alone")))
    out = tmp_path / "rows.parquet"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    subprocess.run(
        [sys.executable, "-m", "tests.processes.three_nodes", shop.storage.url, str(out)],
        check=True,
        timeout=150,
        env=environment,
    )
    rows = pq.read_table(out)
    assert len(shop.part_keys()) > 3
    alone.having(plan=LIMITS).run()
    assert alone.all_rows().equals(rows)
