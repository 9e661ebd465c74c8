"""`GET /v1/stores/{store_id}/forecast` and its aliases, as JSON."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from api.views.schemas import Forecast
from tests.api.fixtures.answers import fits
from tests.api.fixtures.bucket import NOON, Bucket, StoreSpec
from tests.api.fixtures.serving import Clock, serve


def test_every_field_of_a_store_without_items(running_api):
    answer = running_api.get("/v1/stores/1/forecast")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    days = body.pop("days")
    assert body == {
        "store_id": "1",
        "description": {"region": "north"},
        "release": "2026-11-22-a",
        "published_at": "2026-11-23T00:00:00Z",
        "today": "2026-11-23",
        "time_zone": "Europe/Berlin",
        "deadline": "06:00",
        "unit": None,
        "currency": None,
        "as_of": "2026-11-22",
        "generated_at": "2026-11-23T00:00:00Z",
        "data_through": "2026-11-22",
        "data_age_days": 0,
        "run_id": "run-2026-11-22-a",
        "model_version": "m1",
        "stale": False,
        "stale_reason": None,
        "carried_since": None,
        "outcome": "ok",
        "reason_code": None,
        "reason": None,
        "asked_as_of": None,
        "unread_since": None,
        "items_total": 0,
        "items": [],
        "next_page_token": None,
    }
    assert len(days) == 7
    assert days[0] == {
        "target_date": "2026-11-23",
        "weekday": "Monday",
        "days_ahead": 1,
        "predicted_sales": 101.0,
        "lower_80": 96.0,
        "upper_80": 106.0,
        "method": "model",
        "missing": ["promo", "weather"],
        # The release is one of an earlier version, which has none of these.
        "last_week_sales": None,
        "last_year_sales": None,
        "special": [],
    }
    assert days[6]["target_date"] == "2026-11-29"
    assert days[6]["weekday"] == "Sunday"
    assert days[6]["predicted_sales"] == 107.0


@pytest.mark.parametrize("url", ["/v1/stores/2/forecast", "/results/2", "/v1/stores/3/forecast"])
def test_an_answer_fits_its_schema(running_api, url):
    fits(Forecast, running_api.get(url).content)


def test_the_alias_gives_the_same_answer(running_api):
    assert running_api.get("/results/1").content == running_api.get("/v1/stores/1/forecast").content


def test_a_store_with_items(running_api):
    body = running_api.get("/v1/stores/2/forecast").json()
    assert body["items_total"] == 5
    assert [item["item_id"] for item in body["items"]] == ["a", "b", "c", "d", "e"]
    # 500 + 10 k + 1 for k = 0 … 4
    assert body["days"][0]["predicted_sales"] == 5 * 500 + 100 + 5
    assert body["items"][3]["days"][1]["predicted_sales"] == 532.0
    assert body["items"][3]["days"][1]["weekday"] == "Tuesday"


def test_pages_hold_each_item_once(running_api):
    item_ids, url = [], "/v1/stores/2/forecast?page_size=2"
    tokens = 0
    while True:
        body = running_api.get(url).json()
        item_ids += [item["item_id"] for item in body["items"]]
        if body["next_page_token"] is None:
            break
        tokens += 1
        url = f"/v1/stores/2/forecast?page_size=2&page_token={body['next_page_token']}"
    assert item_ids == ["a", "b", "c", "d", "e"]
    assert tokens == 2


def test_one_item(running_api):
    body = running_api.get("/v1/stores/2/forecast", params={"item_id": "c"}).json()
    assert [item["item_id"] for item in body["items"]] == ["c"]
    assert [day["predicted_sales"] for day in body["items"][0]["days"]] == [
        521.0, 522.0, 523.0, 524.0, 525.0, 526.0, 527.0,
    ]  # fmt: skip
    for item_id in ("", "0", "cc", "z"):
        problem = running_api.get("/v1/stores/2/forecast", params={"item_id": item_id})
        assert problem.status_code == 404
        assert problem.json()["type"] == "/problems/unknown-item"


def test_one_day(running_api):
    body = running_api.get("/v1/stores/2/forecast?target_date=2026-11-25").json()
    assert [day["days_ahead"] for day in body["days"]] == [3]
    assert [len(item["days"]) for item in body["items"]] == [1] * 5
    problem = running_api.get("/v1/stores/2/forecast?target_date=2026-11-22")
    assert problem.status_code == 404
    assert problem.json()["type"] == "/problems/unknown-target-date"


def test_a_carried_store_says_so_and_has_no_past_days(running_api):
    body = running_api.get("/v1/stores/3/forecast").json()
    assert body["as_of"] == "2026-11-20"
    assert body["carried_since"] == "2026-11-20"
    assert body["data_age_days"] == 1
    assert body["stale"] is True
    assert "Friday 20 November 2026" in body["stale_reason"]
    assert body["outcome"] == "failed"
    assert body["reason"] == "row 7 has no date"
    # It was made on Friday. Saturday and Sunday are past, Monday is its third day.
    assert body["days"][0]["target_date"] == "2026-11-23"
    assert body["days"][0]["days_ahead"] == 3
    assert body["days"][0]["predicted_sales"] == 303.0
    assert len(body["days"]) == 5


def test_the_forecast_of_an_earlier_night(running_api):
    body = running_api.get("/v1/stores/1/forecast?as_of=2026-11-19").json()
    assert body["release"] == "2026-11-19-a"
    assert body["asked_as_of"] == "2026-11-19"
    assert body["stale"] is False
    # Friday to Thursday, although Friday to Sunday are past.
    assert [day["predicted_sales"] for day in body["days"]] == [41.0 + ahead for ahead in range(7)]
    assert body["days"][0]["weekday"] == "Friday"
    items = running_api.get("/v1/stores/2/forecast?as_of=2026-11-19").json()["items"]
    assert [item["item_id"] for item in items] == ["a", "b"]
    # Store 3 did not exist then. The expired forecast of store 4 can still be read.
    assert running_api.get("/v1/stores/3/forecast?as_of=2026-11-19").status_code == 404
    expired = running_api.get("/v1/stores/4/forecast?as_of=2026-11-22").json()
    assert (expired["stale"], len(expired["days"])) == (True, 7)
    unknown = running_api.get("/v1/stores/1/forecast?as_of=2026-11-18")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/unknown-as-of")
    assert unknown.json()["first_as_of"] == "2026-11-19"


def test_selected_fields(running_api):
    answer = running_api.get("/v1/stores/2/forecast?fields=days&fields=today")
    assert answer.headers["content-type"] == "application/vnd.storecast.partial+json"
    assert set(answer.json()) == {
        "store_id", "release", "stale", "next_page_token", "days", "today",
    }  # fmt: skip
    refused = running_api.get("/v1/stores/2/forecast?fields=days", headers={"Accept": "text/csv"})
    assert refused.json()["errors"][0]["parameter"] == "fields"


def test_a_page_size_above_the_limit_is_lowered(running_api):
    for size in ("1001", "9" * 30):
        answer = running_api.get(f"/v1/stores/2/forecast?page_size={size}")
        assert (answer.status_code, len(answer.json()["items"])) == (200, 5)


def test_the_deadline_makes_a_forecast_stale_without_a_new_run(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")])
    # Tuesday, one second before the deadline: six o'clock in Berlin, five o'clock in UTC.
    clock = Clock(datetime(2026, 11, 24, 4, 59, 59, tzinfo=UTC))
    with serve(str(tmp_path), clock=clock) as api:
        assert api.get("/v1/stores/1/forecast").json()["stale"] is False
        clock.now += timedelta(seconds=1)
        body = api.get("/v1/stores/1/forecast").json()
        assert body["stale"] is True
        assert "due on Tuesday 24 November 2026 at 06:00" in body["stale_reason"]
        clock.now = NOON + timedelta(days=7)
        expired = api.get("/v1/stores/1/forecast")
        assert expired.json()["type"] == "/problems/forecast-expired"
        assert expired.json()["expired_since"] == "2026-11-30"


def test_earlier_sales_and_special_days(tmp_path):
    special = "holiday,weather_high:temp=8.3,promo=2,price_cut=1"
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1", items=("a", "b"), last_week=70.0, special=special)])
    with serve(str(tmp_path)) as api:
        body = fits(Forecast, api.get("/v1/stores/1/forecast").content)
        assert [day.last_week_sales for day in body.days] == [140.0] * 7
        assert [day.last_year_sales for day in body.days] == [70.0] * 6 + [None]
        # Both items are on promotion, one of them has another price.
        assert body.days[0].special == [
            "holiday", "weather_high:temp=8.3", "promo", "price_cut=1",
        ]  # fmt: skip
        assert body.days[1].special == []
        assert body.items[0].days[0].last_week_sales == 70.0
        (row, *_) = csv.DictReader(io.StringIO(api.get("/results/1.csv").text, newline=""))
        assert row["special"] == "holiday,weather_high:temp=8.3,promo,price_cut=1"
        page = api.get("/?store_id=1").text
        for note in (
            "public holiday", "warmer than usual by 8.3 degrees", "promotion", "price cut (1 item)",
        ):  # fmt: skip
            assert f'<span class="note">{note}</span>' in page
        assert "Last week" in page
        assert "A year ago" in page
        # 7 × 140 are known; of the last day of a year ago nothing is, so that there is no total.
        assert '<td class="number">980</td><td class="number">–</td>' in page
        german = api.get("/?store_id=1", headers={"Accept-Language": "de-DE"}).text
        assert "um 8,3 Grad wärmer als üblich" in german
