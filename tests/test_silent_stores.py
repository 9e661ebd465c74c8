"""A store in twenty whose sales stop for three days: event, receipt, metrics and page say so."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest

from ray_job.bucket import receipts
from ray_job.nightly.job import run_job
from ray_job.nightly.prepare import RunRequest
from ray_job.progress import SilentProgress
from tests.api.fixtures.serving import Clock, serve
from tests.support.shop import DAY, LAST, STORES, Shop, midnight

FIRST = LAST - 60 * DAY
AS_OF = LAST + 5 * DAY
"""A Thursday. The chain's last day is a Saturday, and the Sunday after it is closed."""
MORE = tuple(f"t{number:03d}" for number in range(1, 11))
SILENT = "t004"
NEWEST = AS_OF - 3 * DAY


def sales(store: str, first, last) -> list[dict[str, object]]:
    """Every day but Sundays, on which the store is known to be closed."""
    days = [first + k * DAY for k in range((last - first).days + 1)]
    return [
        {"store_id": store, "date": day, "sales": 0.0 if shut else 900.0, "open": int(not shut)}
        for day in days
        for shut in [day.weekday() == 6]
    ]


@pytest.fixture
def chain(shop: Shop) -> Shop:
    """Twenty stores whose sales arrived until the as-of, but for one."""
    rows = [row for store in MORE for row in sales(store, FIRST, LAST)]
    for store in (*STORES, *MORE):
        rows += sales(store, LAST + DAY, NEWEST if store == SILENT else AS_OF)
    shop.deliver(rows, now=midnight(AS_OF))
    regions = "store_id,region\n" + "".join(
        f"{store},{'BE' if store < 't' else 'BY'}\n" for store in (*STORES, *MORE)
    )
    shop.deliver(regions, kind="stores", now=midnight(AS_OF) + timedelta(minutes=1))
    return shop


@pytest.mark.usefixtures("local_ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_event_receipt_metrics_and_page_say_so(chain, capsys):
    capsys.readouterr()
    run_id = run_job(
        chain.storage,
        chain.settings,
        RunRequest(as_of=AS_OF),
        now=midnight(AS_OF),
        clock=time.monotonic,
        progress=SilentProgress(),
    ).run_id

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[:1] == "{"]
    (event,) = [line for line in lines if line.get("event") == "run_finished"]
    assert event["severity"] == "WARNING"
    assert (event["status"], event["silent_stores"], event["silent_share"]) == (
        "published",
        1,
        0.05,
    )
    (warning,) = event["warnings"]
    assert warning == f"1 of 20 stores have sent no sales for 3 days or more: {SILENT}"
    assert event["regions"].keys() == {"BE", "BY"}

    receipt = receipts.read(chain.storage, AS_OF, run_id)
    assert receipt.drift is not None
    assert receipt.drift.silent_stores == (SILENT,)
    assert receipt.drift.warnings == (warning,)
    assert receipt.stores.late == 1

    with serve(chain.storage.url, clock=Clock(midnight(AS_OF) + DAY / 3)) as served:
        metrics = served.get("/metrics").text.splitlines()
        assert "storecast_api_silent_stores 1.0" in metrics
        assert "storecast_api_late_stores 1.0" in metrics
        level = 'storecast_api_forecast_to_usual{region="BY"} '
        (line,) = [line for line in metrics if line.startswith(level)]
        assert float(line.removeprefix(level)) == pytest.approx(event["regions"]["BY"])
        stores = served.get("/").text
        assert "1 of 20 stores have sent no sales for 3 days or more." in stores
        assert "No sales for 3 days" in stores
        page = served.get("/", params={"store_id": SILENT}).text
        assert "No sales have arrived for 3 days: the newest are of Monday 30 March 2026." in page
        assert "Up to date." in served.get("/", params={"store_id": "t005"}).text
