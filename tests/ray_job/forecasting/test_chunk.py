"""One chunk: its part, its outcomes, and what becomes of a rival's."""

import numpy as np
import pyarrow.compute as pc
import pytest

from ray_job.bucket import keys, parts
from ray_job.forecasting.chunk import forecast_chunk
from ray_job.forecasting.part_files import find_parts
from ray_job.forecasting.task import Task
from ray_job.nightly.request import RunRequest
from ray_job.nightly.run import prepare
from tests.support.shop import LAST, STORES, midnight


@pytest.fixture
def run_plan(shop):
    return prepare(shop.storage, shop.settings, RunRequest(as_of=LAST), midnight(LAST))


def test_a_part_holds_what_its_outcomes_say(shop, run_plan):
    stores = []
    for planned in run_plan.planned_chunks:
        result = forecast_chunk(Task(planned.chunk), run_plan.spec)
        data = shop.storage.read(result.part.part)
        part = parts.decode(data, "k")
        assert part.digest == planned.chunk.digest
        # `sold` has NaN, which is not equal to itself.
        written, returned = (
            outcomes.drop_columns(["sold"]) for outcomes in (part.outcomes, result.part.outcomes)
        )
        assert written.equals(returned)
        assert part.sha256 == result.part.sha256
        rows = parts.read_rows(data, "k")
        for row in part.outcomes.to_pylist():
            store_rows = rows.slice(row["first_row"], row["rows"])
            assert pc.unique(store_rows["store_id"]).to_pylist() == [row["store_id"]]
            totals = np.array(store_rows["predicted_sales"]).reshape(-1, 7).sum(axis=0)
            assert row["predicted"] == pytest.approx(totals.tolist())
        stores += part.outcomes["store_id"].to_pylist()
    assert set(stores) == set(STORES)


def test_a_second_worker_adopts_the_part(shop, run_plan):
    chunk = run_plan.planned_chunks[0].chunk
    first = forecast_chunk(Task(chunk), run_plan.spec)
    again = forecast_chunk(Task(chunk), run_plan.spec)
    assert again.part.sha256 == first.part.sha256
    assert len(shop.part_keys()) == 1


def test_a_rivals_broken_part_is_passed_over(shop, run_plan):
    chunk = run_plan.planned_chunks[0].chunk
    shop.storage.create(keys.part(LAST, chunk.digest, 0), b"rubbish")
    shop.storage.create(keys.part(LAST, chunk.digest, 1), b"rubbish, too")
    done = forecast_chunk(Task(chunk), run_plan.spec).part
    assert (done.part, done.attempt) == (keys.part(LAST, chunk.digest, 2), 3)
    (existing,) = find_parts(shop.storage, LAST, [chunk], midnight(LAST))
    assert (existing.attempts, existing.valid.part) == (3, done.part)


def test_a_part_of_another_chunk_is_not_adopted(shop, run_plan):
    first, second = run_plan.planned_chunks[0].chunk, run_plan.planned_chunks[1].chunk
    done = forecast_chunk(Task(first), run_plan.spec).part
    shop.storage.create(keys.part(LAST, second.digest, 0), shop.storage.read(done.part))
    (existing,) = find_parts(shop.storage, LAST, [second], midnight(LAST))
    assert (existing.attempts, existing.valid, existing.readable) == (1, None, None)


def test_the_last_valid_part_counts(shop, run_plan):
    chunk = run_plan.planned_chunks[0].chunk
    for attempt in range(3):
        forecast_chunk(Task(chunk, attempt), run_plan.spec)
    (existing,) = find_parts(shop.storage, LAST, [chunk], midnight(LAST))
    assert existing.attempts == 3
    assert existing.valid.part.endswith("-2.parquet")
    assert existing.valid.attempt == 3
