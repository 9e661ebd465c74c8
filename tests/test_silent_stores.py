"""Sales of one store in twenty stop for three days: event, receipt, metrics and page say so."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from ray_job.bucket import receipts
from ray_job.nightly.job import run_job
from ray_job.nightly.request import RunRequest
from ray_job.progress import SilentProgress
from tests.api.fixtures.serving import Clock, serve
from tests.support.processes import log_events
from tests.support.shop import DAY, LAST, STORES, Shop, midnight, weekday_row

FIRST = LAST - 60 * DAY
AS_OF = LAST + 5 * DAY
"""A Thursday. The chain's last day is a Saturday, and all stores are closed on Sunday."""
FURTHER = tuple(f"t{number:03d}" for number in range(1, 11))
SILENT = "t004"
NEWEST = AS_OF - 3 * DAY


def daily_rows(store: str, first, last) -> list[dict[str, object]]:
    return [weekday_row(store, first + k * DAY) for k in range((last - first).days + 1)]


@pytest.fixture
def twenty_stores(shop: Shop) -> Shop:
    """Twenty stores whose sales arrived through the as-of, except for those of SILENT."""
    rows = [row for store in FURTHER for row in daily_rows(store, FIRST, LAST)]
    for store in (*STORES, *FURTHER):
        rows += daily_rows(store, LAST + DAY, NEWEST if store == SILENT else AS_OF)
    shop.deliver(rows, now=midnight(AS_OF))
    regions = "store_id,region\n" + "".join(
        f"{store},{'BE' if store < 't' else 'BY'}\n" for store in (*STORES, *FURTHER)
    )
    shop.deliver(regions, kind="stores", now=midnight(AS_OF) + timedelta(minutes=1))
    return shop


@pytest.mark.usefixtures("local_ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_event_receipt_metrics_and_page_say_so(twenty_stores, capsys):
    shop = twenty_stores
    capsys.readouterr()
    run_id = run_job(
        shop.storage,
        shop.settings,
        RunRequest(as_of=AS_OF),
        now=midnight(AS_OF),
        clock=time.monotonic,
        progress=SilentProgress(),
    ).run_id

    (event,) = log_events(capsys.readouterr().err, "run_finished")
    assert event["severity"] == "WARNING"
    assert (event["status"], event["silent_stores"], event["silent_share"]) == (
        "published",
        1,
        0.05,
    )
    (warning,) = event["warnings"]
    assert warning == f"1 of 20 stores have sent no sales for 3 days or more: {SILENT}"
    assert event["regions"].keys() == {"BE", "BY"}

    receipt = receipts.read(shop.storage, AS_OF, run_id)
    assert receipt.drift is not None
    assert receipt.drift.silent_stores == (SILENT,)
    assert receipt.drift.warnings == (warning,)
    assert receipt.stores.late == 1

    with serve(shop.storage.url, clock=Clock(midnight(AS_OF) + DAY / 3)) as api:
        metrics = api.get("/metrics").text.splitlines()
        assert "storecast_api_silent_stores 1.0" in metrics
        assert "storecast_api_late_stores 1.0" in metrics
        level = 'storecast_api_forecast_to_usual{region="BY"} '
        (metric,) = [line for line in metrics if line.startswith(level)]
        assert float(metric.removeprefix(level)) == pytest.approx(event["regions"]["BY"])
        overview = api.get("/").text
        assert "1 of 20 stores have sent no sales for 3 days or more." in overview
        assert "No sales for 3 days" in overview
        page = api.get("/", params={"store_id": SILENT}).text
        assert "No sales have arrived for 3 days: the newest are of Monday 30 March 2026." in page
        assert "Up to date." in api.get("/", params={"store_id": "t005"}).text
