from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.schemas import History
from ray_job.bucket import keys
from ray_job.bucket.scores import SCORES_SCHEMA
from tests.api.bucket import AS_OF, Bucket, StoreSpec
from tests.api.serving import serve

DAY = timedelta(days=1)


def row(store: str, target: date, ahead: int, predicted: float, actual: float | None, naive=80.0):
    return {
        "store_id": store,
        "as_of": target - ahead * DAY,
        "days_ahead": ahead,
        "predicted": predicted,
        "lower_80": predicted - 10,
        "upper_80": predicted + 10,
        "actual": actual,
        "naive": naive,
        "run_id": "r",
    }


def write_scores(bucket: Bucket, target: date, rows: list[dict[str, object]]) -> str:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCORES_SCHEMA), sink)
    key = keys.accuracy(target, "r")
    bucket.storage.create(key, sink.getvalue().to_pybytes())
    return key


@pytest.fixture
def bucket(tmp_path):
    bucket = Bucket.make(tmp_path)
    for back in (2, 1):
        then = AS_OF - back * DAY
        bucket.publish([StoreSpec(name, base=50, as_of=then) for name in ("1", "2")], as_of=then)
    bucket.publish([StoreSpec("1"), StoreSpec("2"), StoreSpec("3")])
    return bucket


def test_what_was_said_and_what_was_sold(bucket, tmp_path):
    saturday, sunday = AS_OF - DAY, AS_OF
    bucket.change(
        accuracy={
            saturday: write_scores(
                bucket,
                saturday,
                [
                    row("1", saturday, 2, 999.0, 100.0),
                    row("1", saturday, 1, 95.0, 100.0),
                    row("2", saturday, 1, 120.0, 100.0),
                ],
            ),
            sunday: write_scores(bucket, sunday, [row("1", sunday, 1, 115.0, 100.0, naive=100.0)]),
        }
    )
    with serve(str(tmp_path)) as served:
        answer = served.get("/v1/stores/1/history?days=10")
        History.model_validate_json(answer.content)
        body = answer.json()
        assert [(day["target_date"], day["weekday"], day["error"]) for day in body["days"]] == [
            ("2026-11-21", "Saturday", -5.0),
            ("2026-11-22", "Sunday", 15.0),
        ]
        # |−5| + |15| over 200; one of two within ± 10; naive: |80 − 100| + 0 over 200
        assert body["summary"] == {
            "days": 2,
            "mae": 10.0,
            "wape": 0.1,
            "bias": 0.05,
            "coverage_80": 0.5,
            "naive_wape": 0.1,
            "compared_days": 2,
            "better_days": 1,
        }
        # Store 2's sales of Sunday did not come: what was said of it is in the release of Saturday
        late = served.get("/v1/stores/2/history").json()["days"]
        assert [
            (day["target_date"], day["predicted_sales"], day["actual_sales"]) for day in late
        ] == [("2026-11-21", 120.0, 100.0), ("2026-11-22", 51.0, None)]
        # Store 3 is new: nothing was said of it before today
        new = served.get("/v1/stores/3/history").json()
        assert (new["days"], new["summary"]["wape"]) == ([], None)
        csv = served.get("/v1/stores/1/history", headers={"Accept": "text/csv"}).text
        assert csv.splitlines()[1].startswith("1,2026-11-21,Saturday,2026-11-20,1,95.0,85.0,105.0")


def test_a_closed_day_that_was_closed_proves_no_skill(bucket, tmp_path):
    saturday, sunday = AS_OF - DAY, AS_OF
    closed = {**row("1", sunday, 1, 0.0, 0.0, naive=0.0), "lower_80": 0.0, "upper_80": 0.0}
    bucket.change(
        accuracy={
            saturday: write_scores(bucket, saturday, [row("1", saturday, 1, 150.0, 100.0)]),
            sunday: write_scores(bucket, sunday, [closed]),
        }
    )
    with serve(str(tmp_path)) as served:
        body = served.get("/v1/stores/1/history?days=2").json()
        assert len(body["days"]) == 2
        told = {name: body["summary"][name] for name in ("days", "wape", "coverage_80")}
        assert told == {"days": 1, "wape": 0.5, "coverage_80": 0.0}
        assert (body["summary"]["compared_days"], body["summary"]["better_days"]) == (1, 0)


def test_a_backfill_does_not_count_as_what_was_said(tmp_path):
    bucket = Bucket.make(tmp_path)
    friday = AS_OF - 2 * DAY
    bucket.publish([StoreSpec("1", as_of=friday)], as_of=friday)
    with serve(str(tmp_path)) as served:
        # generated on Saturday 00:00 UTC, before Saturday ended
        days = served.get("/v1/stores/1/history").json()["days"]
        assert [day["target_date"] for day in days] == ["2026-11-21", "2026-11-22"]
        assert [day["days_ahead"] for day in days] == [1, 2]


@pytest.mark.usefixtures("bucket")
def test_bounds(tmp_path):
    with serve(str(tmp_path)) as served:
        for query, status in (("days=0", 422), ("days=61", 422), ("days=60", 200)):
            assert served.get(f"/v1/stores/1/history?{query}").status_code == status
        assert served.get("/v1/stores/77/history").status_code == 404


def test_scores_that_are_gone_or_broken(bucket, tmp_path):
    sunday = AS_OF
    bucket.change(accuracy={sunday: keys.accuracy(sunday, "never-written")})
    with serve(str(tmp_path)) as served:
        days = served.get("/v1/stores/1/history?days=1").json()["days"]
        assert [day["predicted_sales"] for day in days] == [51.0]
        key = keys.accuracy(sunday, "broken")
        bucket.storage.create(key, b"PAR1")
        bucket.change(accuracy={sunday: key})
        served.refresh()
        broken = served.get("/v1/stores/1/history?days=1")
        assert (broken.status_code, broken.json()["type"]) == (503, "/problems/corrupt")
        assert "results/" not in broken.text
