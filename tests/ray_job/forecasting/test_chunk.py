"""One chunk: its part, its outcomes, and what becomes of a rival's."""

import numpy as np
import pyarrow.compute as pc
import pytest

from ray_job.bucket import keys, parts
from ray_job.forecasting.chunk import forecast_chunk
from ray_job.forecasting.part_files import find_parts
from ray_job.forecasting.task import Task
from ray_job.nightly.prepare import RunRequest
from ray_job.nightly.run import prepare
from tests.support.shop import LAST, STORES, midnight


@pytest.fixture
def run_plan(shop):
    return prepare(shop.storage, shop.settings, RunRequest(as_of=LAST), midnight(LAST))


def test_a_part_holds_what_its_outcomes_say(shop, run_plan):
    seen = []
    for planned in run_plan.planned_chunks:
        result = forecast_chunk(Task(planned.chunk), run_plan.spec)
        data = shop.storage.read(result.part.part)
        part = parts.decode(data, "k")
        assert part.digest == planned.chunk.digest
        # NaN is not equal to itself.
        told = [one.drop_columns(["sold"]) for one in (part.outcomes, result.part.outcomes)]
        assert told[0].equals(told[1])
        assert part.sha256 == result.part.sha256
        rows = parts.read_rows(data, "k")
        for row in part.outcomes.to_pylist():
            theirs = rows.slice(row["first_row"], row["rows"])
            assert pc.unique(theirs["store_id"]).to_pylist() == [row["store_id"]]
            totals = np.array(theirs["predicted_sales"]).reshape(-1, 7).sum(axis=0)
            assert row["predicted"] == pytest.approx(totals.tolist())
        seen += part.outcomes["store_id"].to_pylist()
    assert set(seen) == set(STORES)


def test_the_second_who_comes_adopts(shop, run_plan):
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
    (found,) = find_parts(shop.storage, LAST, [chunk], midnight(LAST))
    assert (found.attempts, found.valid.part) == (3, done.part)


def test_a_part_of_another_chunk_is_not_adopted(shop, run_plan):
    one, other = run_plan.planned_chunks[0].chunk, run_plan.planned_chunks[1].chunk
    done = forecast_chunk(Task(one), run_plan.spec).part
    shop.storage.create(keys.part(LAST, other.digest, 0), shop.storage.read(done.part))
    (found,) = find_parts(shop.storage, LAST, [other], midnight(LAST))
    assert (found.attempts, found.valid, found.readable) == (1, None, None)


def test_the_last_valid_part_counts(shop, run_plan):
    chunk = run_plan.planned_chunks[0].chunk
    for attempt in range(3):
        forecast_chunk(Task(chunk, attempt), run_plan.spec)
    (found,) = find_parts(shop.storage, LAST, [chunk], midnight(LAST))
    assert found.attempts == 3
    assert found.valid.part.endswith("-2.parquet")
    assert found.valid.attempt == 3
