"""The service over what real nights have written: nothing is lost between the job and an answer."""

from __future__ import annotations

import csv
import io

import pytest

from api.schemas import Forecast, History
from ray_job.bucket import parts
from ray_job.bucket.receipts import Receipt
from tests.api.serving import Clock, serve
from tests.support.shop import BIG, DAY, LAST, STORES, Shop, midnight


@pytest.fixture
def nights(shop: Shop) -> Shop:
    for back in (2, 1, 0):
        shop.run(LAST - back * DAY)
    return shop


def part_rows(shop: Shop, store: str) -> list[dict[str, object]]:
    row = next(row for row in shop.release().stores.to_pylist() if row["store_id"] == store)
    return [
        found
        for each in row["parts"]
        for found in parts.read_rows(
            shop.storage.read(each["part"]), each["part"], each["first_row"], each["rows"]
        ).to_pylist()
    ]


def test_every_number_of_the_job_is_an_answer(nights):
    with serve(nights.storage.url, clock=Clock(midnight(LAST) + DAY / 2)) as served:
        rows = nights.release().stores.to_pylist()
        assert [row["store_id"] for row in rows] == sorted(STORES)
        for row in rows:
            answer = served.get(f"/v1/stores/{row['store_id']}/forecast")
            assert answer.status_code == 200, answer.text
            body = Forecast.model_validate_json(answer.content)
            assert body.outcome == row["outcome"]
            assert not body.stale
            assert [day.target_date for day in body.days] == row["target_dates"]
            assert [day.predicted_sales for day in body.days] == row["predicted"]
            assert [day.lower_80 for day in body.days] == row["lower_80"]
            assert served.get("/", params={"store_id": row["store_id"]}).status_code == 200
        found = served.get("/v1/stores").json()
        assert found["stores_total"] == len(STORES)


def test_the_items_of_a_store_that_was_cut(nights):
    wanted = {
        (row["item_id"], row["target_date"].isoformat()): row["predicted_sales"]
        for row in part_rows(nights, BIG)
    }
    with serve(nights.storage.url, clock=Clock(midnight(LAST))) as served:
        rows: list[dict[str, str]] = []
        url: str | None = f"/results/{BIG}.csv?page_size=5"
        while url is not None:
            answer = served.get(url)
            rows += csv.DictReader(io.StringIO(answer.text, newline=""))
            url = answer.links.get("next", {}).get("url")
        shown = {
            (row["item_id"], row["target_date"]): float(row["predicted_sales"])
            for row in rows
            if row["level"] == "item"
        }
        assert shown == wanted
        assert served.get(f"/v1/stores/{BIG}/forecast").json()["items_total"] == 12


def test_scores_and_receipts(nights):
    refused = nights.run(LAST, stores=STORES[:2], publish=False, force=True)
    with serve(nights.storage.url, clock=Clock(midnight(LAST) + DAY / 2)) as served:
        history = History.model_validate_json(served.get(f"/v1/stores/{STORES[1]}/history").content)
        assert [day.target_date for day in history.days] == [LAST - DAY, LAST]
        assert all(day.actual_sales is not None for day in history.days)
        assert all(day.days_ahead == 1 for day in history.days)
        current = Receipt.model_validate_json(served.get("/v1/runs/current").content)
        assert (current.as_of, current.published) == (LAST, True)
        other = Receipt.model_validate_json(served.get(f"/v1/runs/{refused.run_id}").content)
        assert other == refused
        assert len(served.get("/v1/releases").json()["releases"]) == 3
        then = served.get(f"/v1/stores/{STORES[1]}/forecast", params={"as_of": str(LAST - DAY)})
        assert then.json()["as_of"] == str(LAST - DAY)
