"""One chunk: its part, its outcomes, and what becomes of a rival's."""

import numpy as np
import pyarrow.compute as pc
import pytest

from ray_job.adoption import find
from ray_job.bucket import keys, parts
from ray_job.forecast import forecast_chunk
from ray_job.request import Request
from ray_job.run import prepare
from ray_job.work import Task
from tests.shop import LAST, STORES, midnight


@pytest.fixture
def prepared(shop):
    return prepare(shop.storage, shop.settings, Request(as_of=LAST), midnight(LAST))


def test_a_part_holds_what_its_outcomes_say(shop, prepared):
    seen = []
    for todo in prepared.todos:
        result = forecast_chunk(Task(todo.chunk), prepared.work)
        data = shop.storage.read(result.done.part)
        part = parts.decode(data, "k")
        assert part.digest == todo.chunk.digest
        # NaN is not equal to itself.
        told = [one.drop_columns(["sold"]) for one in (part.outcomes, result.done.outcomes)]
        assert told[0].equals(told[1])
        assert part.sha256 == result.done.sha256
        rows = parts.read_rows(data, "k")
        for row in part.outcomes.to_pylist():
            theirs = rows.slice(row["first_row"], row["rows"])
            assert pc.unique(theirs["store_id"]).to_pylist() == [row["store_id"]]
            totals = np.array(theirs["predicted_sales"]).reshape(-1, 7).sum(axis=0)
            assert row["predicted"] == pytest.approx(totals.tolist())
        seen += part.outcomes["store_id"].to_pylist()
    assert set(seen) == set(STORES)


def test_the_second_who_comes_adopts(shop, prepared):
    chunk = prepared.todos[0].chunk
    first = forecast_chunk(Task(chunk), prepared.work)
    again = forecast_chunk(Task(chunk), prepared.work)
    assert again.done.sha256 == first.done.sha256
    assert len(shop.part_keys()) == 1


def test_a_rivals_broken_part_is_passed_over(shop, prepared):
    chunk = prepared.todos[0].chunk
    shop.storage.create(keys.part(LAST, chunk.digest, 0), b"rubbish")
    shop.storage.create(keys.part(LAST, chunk.digest, 1), b"rubbish, too")
    done = forecast_chunk(Task(chunk), prepared.work).done
    assert (done.part, done.attempt) == (keys.part(LAST, chunk.digest, 2), 3)
    (found,) = find(shop.storage, LAST, [chunk], midnight(LAST))
    assert (found.attempts, found.done.part) == (3, done.part)


def test_a_part_of_another_chunk_is_not_adopted(shop, prepared):
    one, other = prepared.todos[0].chunk, prepared.todos[1].chunk
    done = forecast_chunk(Task(one), prepared.work).done
    shop.storage.create(keys.part(LAST, other.digest, 0), shop.storage.read(done.part))
    (found,) = find(shop.storage, LAST, [other], midnight(LAST))
    assert (found.attempts, found.done, found.best) == (1, None, None)


def test_the_last_valid_part_counts(shop, prepared):
    chunk = prepared.todos[0].chunk
    for attempt in range(3):
        forecast_chunk(Task(chunk, attempt), prepared.work)
    (found,) = find(shop.storage, LAST, [chunk], midnight(LAST))
    assert found.attempts == 3
    assert found.done.part.endswith("-2.parquet")
    assert found.done.attempt == 3
