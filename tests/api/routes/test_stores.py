"""`GET /v1/stores` and `GET /v1/forecasts:batchGet`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import time, timedelta

import pytest

from api.views.schemas import Batch, PartialStoreList, StoreList
from tests.api.fixtures.answers import fits
from tests.api.fixtures.bucket import AS_OF, Bucket, StoreSpec
from tests.api.fixtures.serving import RunningApi, serve


def ids(answer) -> list[str]:
    return [store["store_id"] for store in answer.json()["stores"]]


def test_all_stores_with_their_totals(running_api):
    answer = running_api.get("/v1/stores")
    fits(StoreList, answer.content)
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


@pytest.fixture(scope="module")
def many_stores(tmp_path_factory) -> Iterator[RunningApi]:
    folder = tmp_path_factory.mktemp("many")
    bucket = Bucket.make(folder)
    names = ("Öster Market", "Market Square", "Harbour", None, "market 10")
    bucket.publish(
        [
            StoreSpec(
                f"{number:02}",
                base=(7 * number) % 10 + 1,
                description={"name": name, "region": "North" if number % 2 else 12},
                data_through=AS_OF - timedelta(days=number),
                outcome="closed" if number == 4 else "ok",
            )
            for number, name in enumerate(names)
        ]
    )
    with serve(str(folder)) as api:
        yield api


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=market", ["00", "01", "04"]),
        ("q=MARKET+north", ["01"]),
        ("q=%C3%B6STER", ["00"]),
        ("q=O%CC%88ster", ["00"]),
        ("q=12", ["00", "02", "04"]),
        ("q=0", ["00", "01", "02", "03", "04"]),
        ("q=4", ["04"]),
        ("q=nowhere", []),
        ("q=%+_", []),
        ("sort=-store_id", ["04", "03", "02", "01", "00"]),
        ("sort=name", ["02", "04", "01", "00", "03"]),
        ("sort=-name", ["00", "01", "04", "02", "03"]),
        ("sort=region", ["00", "02", "04", "01", "03"]),
        ("sort=data_through", ["04", "03", "02", "01", "00"]),
        # The bases are 1, 8, 5, 2 and 9.
        ("sort=-predicted_sales", ["04", "01", "02", "03", "00"]),
        # Store 00 has the newest sales, and 04 is closed: it owes none.
        ("sort=problems", ["01", "02", "03", "00", "04"]),
        ("sort=-predicted_sales&q=market&outcome=ok", ["01", "00"]),
    ],
)
def test_search_and_order_hold_for_all_pages(many_stores, query, expected):
    answer = many_stores.get(f"/v1/stores?{query}")
    assert ids(answer) == expected
    assert answer.json()["stores_total"] == len(expected)
    by_page: list[str] = []
    url = f"/v1/stores?{query}&page_size=2"
    token = ""
    while True:
        page = many_stores.get(url + token)
        by_page += ids(page)
        if page.json()["next_page_token"] is None:
            break
        token = f"&page_token={page.json()['next_page_token']}"
    assert by_page == expected


def test_a_page_token_of_another_search_is_refused(many_stores):
    token = many_stores.get("/v1/stores?q=0&page_size=2").json()["next_page_token"]
    for query in ("q=00", "q=0&sort=name", "q=0&outcome=ok"):
        answer = many_stores.get(f"/v1/stores?{query}&page_token={token}")
        assert answer.json()["type"] == "/problems/invalid"


def test_only_the_wanted_fields(many_stores):
    answer = many_stores.get("/v1/stores?fields=outcome&fields=description&page_size=1")
    assert answer.headers["content-type"] == "application/vnd.storecast.partial+json"
    fits(PartialStoreList, answer.content)
    assert answer.json()["stores"] == [
        {
            "store_id": "00",
            "description": {"name": "Öster Market", "region": "12"},
            "stale": False,
            "outcome": "ok",
        }
    ]


def test_the_unit_of_the_sales(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")])
    bucket.change(unit="pieces", currency="EUR", deadline=time(7, 30))
    with serve(str(tmp_path)) as api:
        for url in (
            "/v1/stores", "/v1/stores/1/forecast", "/v1/forecasts:batchGet?store_id=1",
            "/v1/stores/1/history",
        ):  # fmt: skip
            answer = api.get(url).json()
            assert (answer["unit"], answer["currency"], answer["deadline"]) == (
                "pieces", "EUR", "07:30",
            )  # fmt: skip
        assert ",pieces,EUR\r\n" in api.get("/results/1.csv").text


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
    fits(Batch, answer.content)
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
