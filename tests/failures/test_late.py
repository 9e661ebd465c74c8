"""Deliveries that do not come: who is late, how it shows, and when it holds up a night."""

from ray_job.operations.explain import explain
from ray_job.settings import Gates
from tests.support.shop import DAY, LAST, STORES, midnight

SILENT = "s004"


def test_a_sunday_that_nobody_delivers(shop):
    """Stores that were declared closed are not late."""
    sunday = LAST + DAY
    shop.deliver([{"store_id": "s010", "date": sunday, "sales": 1500.0, "open": 1, "promo": 0}])
    receipt = shop.run(sunday)
    assert receipt.status == "published"
    assert receipt.stores.late == 0
    assert {row["data_through"] for row in shop.stores().values()} == {sunday}


def test_a_delivery_that_stops_shows_its_age(shop):
    """Nothing new arrives for one store: it is forecast, and says what it rests on."""
    shop = shop.having(gates=Gates(late_share=1.0))
    nights = 17
    for night in range(1, nights + 1):
        rows = [
            {"store_id": store, "date": LAST + night * DAY, "sales": 900.0, "open": 1, "promo": 0}
            for store in STORES[1:]
            if store != SILENT
        ]
        shop.deliver(rows, name=f"night{night}", now=midnight(LAST + night * DAY))
    ages = []
    for night in range(1, 10):
        receipt = shop.run(LAST + night * DAY)
        row = shop.stores()[SILENT]
        told = explain(shop.storage, shop.settings, SILENT, None, midnight(LAST + night * DAY))
        assert row["outcome"] == "ok"
        assert {one["data_through"] for one in shop.forecast(SILENT).to_pylist()} == {
            row["data_through"]
        }
        ages.append(told["data_age_days"])
        others = {row["data_through"] for name, row in shop.stores().items() if name == "s010"}
        assert others == {LAST + night * DAY}
        # Of the other stores nothing is missing on the first Sunday, which was declared closed.
        assert receipt.stores.late == (0 if night == 1 else 2)  # the big one was not delivered
    # Sunday 5 April is the eighth: a day that was declared closed makes no data younger.
    assert ages == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    receipt = shop.run(LAST + nights * DAY)
    assert receipt.stores.late == 2  # the big one was not delivered either
    assert shop.stores()[SILENT]["outcome"] == "fallback"
    assert "sales through" in shop.stores()[SILENT]["reason"]


def test_a_closed_sunday_that_was_delivered_counts(shop):
    shop = shop.having(gates=Gates(late_share=1.0))
    monday = LAST + 2 * DAY
    shop.deliver([{"store_id": SILENT, "date": LAST + DAY, "sales": 0.0, "open": 0, "promo": 0}])
    shop.deliver(
        [{"store_id": "s010", "date": monday, "sales": 1.0, "open": 1, "promo": 0}],
        name="monday",
        now=midnight(monday),
    )
    shop.run(monday)
    assert shop.stores()[SILENT]["data_through"] == LAST + DAY
    assert shop.stores()["s002"]["data_through"] == LAST


def test_late_stores_hold_up_a_night(shop):
    rows = [{"store_id": "s010", "date": LAST + 2 * DAY, "sales": 1500.0, "open": 1, "promo": 0}]
    shop.run()
    shop.deliver(rows)
    receipt = shop.run(LAST + 2 * DAY)
    assert (receipt.status, receipt.exit_code) == ("refused", 3)
    assert "8 of 10 stores lack the sales of Monday 30 March 2026" in receipt.message
