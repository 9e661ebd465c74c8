"""`GET /v1/stores` and `GET /v1/forecasts:batchGet`."""

from __future__ import annotations

import csv
import io

import pytest

from api.views.schemas import Batch, StoreList
from tests.api.fixtures.bucket import AS_OF, Bucket, StoreSpec
from tests.api.fixtures.serving import serve


def ids(answer) -> list[str]:
    return [store["store_id"] for store in answer.json()["stores"]]


def test_all_stores_with_their_totals(running_api):
    answer = running_api.get("/v1/stores")
    StoreList.model_validate_json(answer.content)
    body = answer.json()
    assert ids(answer) == ["1", "2", "3", "4", "5", "6"]
    assert (body["release"], body["stores_total"]) == ("2026-11-22-a", 6)
    assert body["stores"][1]["days"][0]["predicted_sales"] == 2605.0
    assert body["stores"][3]["days"] == []  # expired
    assert body["stores"][4]["outcome"] == "no_data"
    assert body["stores"][4]["stale"] is True


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("outcome=failed", ["3", "4", "6"]),
        ("stale=true", ["3", "4", "5", "6"]),
        ("stale=false", ["1", "2"]),
        ("stale=true&outcome=no_data", ["5"]),
        ("outcome=closed", []),
    ],
)
def test_stores_by_outcome_and_staleness(running_api, query, expected):
    answer = running_api.get(f"/v1/stores?{query}")
    assert ids(answer) == expected
    assert answer.json()["stores_total"] == len(expected)


def test_pages(running_api):
    first = running_api.get("/v1/stores?page_size=4")
    assert ids(first) == ["1", "2", "3", "4"]
    second = running_api.get(f"/v1/stores?page_size=4&page_token={first.json()['next_page_token']}")
    assert ids(second) == ["5", "6"]
    assert second.json()["next_page_token"] is None
    token = first.json()["next_page_token"]
    assert running_api.get(f"/v1/stores?outcome=ok&page_token={token}").status_code == 422
    assert running_api.get("/v1/stores?outcome=great").status_code == 422


def test_stores_as_csv(running_api):
    answer = running_api.get("/v1/stores", headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    # Stores 1 and 2 have seven days, store 3 has five. Stores 4, 5 and 6 have one row each.
    assert len(rows) == 7 + 7 + 5 + 1 + 1 + 1
    assert [(row["outcome"], row["predicted_sales"]) for row in rows if row["store_id"] == "5"] == [
        ("no_data", "")
    ]


def test_a_batch_has_forecasts_and_problems_of_one_release(running_api):
    answer = running_api.get("/v1/forecasts:batchGet?store_id=2&store_id=5&store_id=1&store_id=99")
    Batch.model_validate_json(answer.content)
    body = answer.json()
    assert [store["store_id"] for store in body["forecasts"]] == ["2", "1"]
    assert [(problem["store_id"], problem["type"]) for problem in body["problems"]] == [
        ("5", "/problems/no-data"),
        ("99", "/problems/unknown-store"),
    ]


def test_a_batch_has_limits(running_api):
    too_many = "&".join(f"store_id={number}" for number in range(101))
    assert running_api.get(f"/v1/forecasts:batchGet?{too_many}").status_code == 422
    assert running_api.get("/v1/forecasts:batchGet").status_code == 422
    assert running_api.get("/v1/forecasts:batchGet?store_id=a/b").status_code == 422
    largest = "&".join(f"store_id={number}" for number in range(100))
    assert running_api.get(f"/v1/forecasts:batchGet?{largest}").status_code == 200
    old = running_api.get("/v1/forecasts:batchGet?store_id=3&max_age_days=1").json()
    assert old["problems"][0]["type"] == "/problems/too-old"


def test_pages_come_from_one_release_until_it_is_bad(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec(str(number), base=100) for number in range(4)])
    with serve(str(tmp_path)) as api:
        first = api.get("/v1/stores?page_size=2").json()
        bucket.publish([StoreSpec(str(number), base=900) for number in range(4)], name="b")
        api.refresh()
        second = api.get(f"/v1/stores?page_size=2&page_token={first['next_page_token']}").json()
        assert second["release"] == "2026-11-22-a"
        assert [store["days"][0]["predicted_sales"] for store in second["stores"]] == [101.0, 101.0]
        bucket.change(bad=("2026-11-22-a",))
        api.refresh()
        gone = api.get(f"/v1/stores?page_token={first['next_page_token']}")
        assert (gone.status_code, gone.json()["type"]) == (410, "/problems/release-gone")


def test_a_page_token_of_a_deleted_release(tmp_path):
    bucket = Bucket.make(tmp_path)
    specs = [StoreSpec("1", items=("a", "b", "c")), StoreSpec("2")]
    bucket.publish(specs, name="first")
    with serve(str(tmp_path)) as api:
        url = "/v1/stores/1/forecast?page_size=1"
        token = api.get(url).json()["next_page_token"]
        bucket.publish(specs, name="second")
        api.refresh()
        assert api.get(f"{url}&page_token={token}").json()["release"] == "first"
        bucket.publish(specs, name="third")
        api.refresh()
        (tmp_path / "results/releases/first.parquet").unlink()
        assert api.get(f"{url}&page_token={token}").status_code == 410
        assert api.get(f"/v1/stores/1/forecast?as_of={AS_OF}").json()["release"] == "third"
