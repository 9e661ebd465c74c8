"""Several nodes share the chunks, and give the same rows as one process."""

from __future__ import annotations

import json
import shutil
import subprocess

import pyarrow.parquet as pq
import pytest

from ray_job.bucket.storage import open_bucket
from tests.processes.three_nodes import LIMITS
from tests.support.processes import environment_without_ray, python_command
from tests.support.shop import Shop


@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_all_nodes_work_and_give_the_rows_of_one_process(shop, tmp_path):
    shutil.copytree(shop.storage.url, tmp_path / "alone")
    alone = Shop(open_bucket(str(tmp_path / "alone")))
    out = tmp_path / "rows.parquet"
    subprocess.run(
        python_command("tests.processes.three_nodes", shop.storage.url, out),
        check=True,
        timeout=150,
        env=environment_without_ray(),
    )
    chunks = json.loads((tmp_path / "rows.parquet.json").read_text())
    assert min(chunks["first"]) > 0
    assert chunks["joined"] > 0
    rows = pq.read_table(out)
    assert len(shop.part_keys()) > 3
    alone.having(plan=LIMITS).run()
    assert alone.all_rows().equals(rows)
