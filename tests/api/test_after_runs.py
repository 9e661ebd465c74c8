"""The service over a bucket that real nights have written: every number of the job is served."""

from __future__ import annotations

import csv
import io

import pytest

from api.views.history_schemas import History
from api.views.schemas import Forecast
from ray_job.bucket import parts
from ray_job.bucket.receipts import Receipt
from tests.api.fixtures.answers import fits
from tests.api.fixtures.serving import Clock, serve
from tests.support.shop import BIG, DAY, LAST, STORES, Shop, midnight


@pytest.fixture
def shop_after_runs(shop: Shop) -> Shop:
    for back in (2, 1, 0):
        shop.run(LAST - back * DAY)
    return shop


def part_rows(shop: Shop, store: str) -> list[dict[str, object]]:
    row = next(row for row in shop.release().stores.to_pylist() if row["store_id"] == store)
    return [
        part_row
        for part in row["parts"]
        for part_row in parts.read_rows(
            shop.storage.read(part["part"]), part["part"], part["first_row"], part["rows"]
        ).to_pylist()
    ]


def test_every_number_of_the_release_is_served(shop_after_runs):
    with serve(shop_after_runs.storage.url, clock=Clock(midnight(LAST) + DAY / 2)) as api:
        rows = shop_after_runs.release().stores.to_pylist()
        assert [row["store_id"] for row in rows] == sorted(STORES)
        for row in rows:
            answer = api.get(f"/v1/stores/{row['store_id']}/forecast")
            assert answer.status_code == 200, answer.text
            body = fits(Forecast, answer.content)
            assert body.outcome == row["outcome"]
            assert not body.stale
            assert [day.target_date for day in body.days] == row["target_dates"]
            assert [day.predicted_sales for day in body.days] == row["predicted"]
            assert [day.lower_80 for day in body.days] == row["lower_80"]
            assert api.get("/", params={"store_id": row["store_id"]}).status_code == 200
        stores = api.get("/v1/stores").json()
        assert stores["stores_total"] == len(STORES)


def test_every_item_of_a_large_store_is_served(shop_after_runs):
    expected = {
        (row["item_id"], row["target_date"].isoformat()): row["predicted_sales"]
        for row in part_rows(shop_after_runs, BIG)
    }
    with serve(shop_after_runs.storage.url, clock=Clock(midnight(LAST))) as api:
        rows: list[dict[str, str]] = []
        url: str | None = f"/results/{BIG}.csv?page_size=5"
        while url is not None:
            answer = api.get(url)
            rows += csv.DictReader(io.StringIO(answer.text, newline=""))
            url = answer.links.get("next", {}).get("url")
        served = {
            (row["item_id"], row["target_date"]): float(row["predicted_sales"])
            for row in rows
            if row["level"] == "item"
        }
        assert served == expected
        assert api.get(f"/v1/stores/{BIG}/forecast").json()["items_total"] == 12


def test_scores_and_receipts(shop_after_runs):
    unpublished = shop_after_runs.run(LAST, stores=STORES[:2], publish=False, force=True)
    with serve(shop_after_runs.storage.url, clock=Clock(midnight(LAST) + DAY / 2)) as api:
        history = fits(History, api.get(f"/v1/stores/{STORES[1]}/history").content)
        assert [day.target_date for day in history.days] == [LAST - DAY, LAST]
        assert all(day.actual_sales is not None for day in history.days)
        assert all(day.days_ahead == 1 for day in history.days)
        current = Receipt.model_validate_json(api.get("/v1/runs/current").content)
        assert (current.as_of, current.published) == (LAST, True)
        receipt = Receipt.model_validate_json(api.get(f"/v1/runs/{unpublished.run_id}").content)
        assert receipt == unpublished
        assert len(api.get("/v1/releases").json()["releases"]) == 3
        earlier = api.get(f"/v1/stores/{STORES[1]}/forecast", params={"as_of": str(LAST - DAY)})
        assert earlier.json()["as_of"] == str(LAST - DAY)
