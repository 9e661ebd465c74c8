"""The night as a Dataset: one fused task for each block."""

from __future__ import annotations

import pytest

from ray_job.datasets.executor import night_dataset
from ray_job.forecasting.task import Task
from ray_job.nightly.prepare import prepare
from ray_job.nightly.request import RunRequest
from ray_job.settings import Plan
from tests.support.shop import LAST, midnight

pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray, about itself
]


@pytest.fixture
def dataset(shop):
    run_plan = prepare(
        shop.storage,
        shop.having(plan=Plan(chunk_rows=421)).settings,
        RunRequest(LAST),
        midnight(LAST),
    )
    tasks = [Task(planned.chunk) for planned in run_plan.planned_chunks]
    return night_dataset(tasks, run_plan.spec)


def test_reading_and_forecasting_are_one_task(dataset, capsys):
    dataset.explain()
    optimized = capsys.readouterr().out.partition("Physical Plan (Optimized)")[2]
    assert "ReadStorePartitions->MapBatches(forecast_block)" in optimized


def test_metadata_come_from_the_plan(dataset):
    files = dataset.input_files()
    assert files
    assert all(name.startswith("batch_data/store_id=") for name in files)
