"""`GET /v1/stores/{store_id}/history`."""

from __future__ import annotations

import pytest

from api.views.history_schemas import History
from ray_job.bucket import keys
from tests.api.fixtures.answers import fits
from tests.api.fixtures.bucket import AS_OF, Bucket, StoreSpec
from tests.api.fixtures.records import DAY, score_row, write_scores
from tests.api.fixtures.serving import serve


@pytest.fixture
def bucket(tmp_path):
    bucket = Bucket.make(tmp_path)
    for back in (2, 1):
        as_of = AS_OF - back * DAY
        stores = [StoreSpec(name, base=50, as_of=as_of) for name in ("1", "2")]
        bucket.publish(stores, as_of=as_of)
    bucket.publish([StoreSpec("1"), StoreSpec("2"), StoreSpec("3")])
    return bucket


def test_forecasts_and_sales_of_past_days(bucket, tmp_path):
    saturday, sunday = AS_OF - DAY, AS_OF
    bucket.change(
        accuracy={
            saturday: write_scores(
                bucket,
                saturday,
                [
                    score_row("1", saturday, 2, 999.0, 100.0),
                    score_row("1", saturday, 1, 95.0, 100.0),
                    score_row("2", saturday, 1, 120.0, 100.0),
                ],
            ),
            sunday: write_scores(
                bucket, sunday, [score_row("1", sunday, 1, 115.0, 100.0, naive=100.0)]
            ),
        }
    )
    with serve(str(tmp_path)) as api:
        answer = api.get("/v1/stores/1/history?days=10")
        fits(History, answer.content)
        body = answer.json()
        assert [(day["target_date"], day["weekday"], day["error"]) for day in body["days"]] == [
            ("2026-11-21", "Saturday", -5.0),
            ("2026-11-22", "Sunday", 15.0),
        ]
        # wape: (|−5| + |15|) / 200. One of two days is within ± 10. Naive: (|80 − 100| + 0) / 200.
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
        # The sales of store 2 on Sunday are missing. Its forecast is in the release of Saturday.
        late = api.get("/v1/stores/2/history").json()["days"]
        assert [
            (day["target_date"], day["predicted_sales"], day["actual_sales"]) for day in late
        ] == [("2026-11-21", 120.0, 100.0), ("2026-11-22", 51.0, None)]
        # Store 3 is new: it has no forecast of a past day.
        new = api.get("/v1/stores/3/history").json()
        assert (new["days"], new["summary"]["wape"]) == ([], None)
        csv = api.get("/v1/stores/1/history", headers={"Accept": "text/csv"}).text
        assert csv.splitlines()[1].startswith("1,2026-11-21,Saturday,2026-11-20,1,95.0,85.0,105.0")


def test_days_forecast_as_closed_do_not_count(bucket, tmp_path):
    saturday, sunday = AS_OF - DAY, AS_OF
    closed = {**score_row("1", sunday, 1, 0.0, 0.0, naive=0.0), "lower_80": 0.0, "upper_80": 0.0}
    bucket.change(
        accuracy={
            saturday: write_scores(bucket, saturday, [score_row("1", saturday, 1, 150.0, 100.0)]),
            sunday: write_scores(bucket, sunday, [closed]),
        }
    )
    with serve(str(tmp_path)) as api:
        body = api.get("/v1/stores/1/history?days=2").json()
        assert len(body["days"]) == 2
        summary = body["summary"]
        assert (summary["days"], summary["wape"], summary["coverage_80"]) == (1, 0.5, 0.0)
        assert (summary["compared_days"], summary["better_days"]) == (1, 0)


def test_only_forecasts_made_before_the_day_ended_count(tmp_path):
    bucket = Bucket.make(tmp_path)
    friday = AS_OF - 2 * DAY
    bucket.publish([StoreSpec("1", as_of=friday)], as_of=friday)
    with serve(str(tmp_path)) as api:
        # The forecast was made on Saturday 00:00 UTC, before Saturday ended.
        days = api.get("/v1/stores/1/history").json()["days"]
        assert [day["target_date"] for day in days] == ["2026-11-21", "2026-11-22"]
        assert [day["days_ahead"] for day in days] == [1, 2]


@pytest.mark.usefixtures("bucket")
def test_days_are_limited(tmp_path):
    with serve(str(tmp_path)) as api:
        for query, status in (("days=0", 422), ("days=61", 422), ("days=60", 200)):
            assert api.get(f"/v1/stores/1/history?{query}").status_code == status
        assert api.get("/v1/stores/77/history").status_code == 404


def test_missing_and_corrupt_scores(bucket, tmp_path):
    sunday = AS_OF
    bucket.change(accuracy={sunday: keys.accuracy(sunday, "never-written")})
    with serve(str(tmp_path)) as api:
        days = api.get("/v1/stores/1/history?days=1").json()["days"]
        assert [day["predicted_sales"] for day in days] == [51.0]
        key = keys.accuracy(sunday, "broken")
        bucket.storage.create(key, b"PAR1")
        bucket.change(accuracy={sunday: key})
        api.refresh()
        broken = api.get("/v1/stores/1/history?days=1")
        assert (broken.status_code, broken.json()["type"]) == (503, "/problems/corrupt")
        assert "results/" not in broken.text
