"""Deliveries that do not arrive: which stores are late, and when no night is published."""

from ray_job.operations.explain import explain
from ray_job.settings import Gates
from tests.support.shop import DAY, LAST, STORES, midnight, sales_row

SILENT = "s004"


def test_a_sunday_that_nobody_delivers(shop):
    """A store that was declared closed is not late."""
    sunday = LAST + DAY
    shop.deliver([sales_row("s010", sunday, 1500.0)])
    receipt = shop.run(sunday)
    assert receipt.status == "published"
    assert receipt.stores.late == 0
    assert {row["data_through"] for row in shop.stores().values()} == {sunday}


def test_a_delivery_that_stops_shows_its_age(shop):
    """A store without new sales is forecast, and its data age grows every night."""
    shop = shop.having(gates=Gates(late_share=1.0))
    nights = 17
    for night in range(1, nights + 1):
        rows = [sales_row(store, LAST + night * DAY) for store in STORES[1:] if store != SILENT]
        shop.deliver(rows, name=f"night{night}", now=midnight(LAST + night * DAY))
    ages = []
    for night in range(1, 10):
        receipt = shop.run(LAST + night * DAY)
        row = shop.stores()[SILENT]
        explanation = explain(
            shop.storage, shop.settings, SILENT, None, midnight(LAST + night * DAY)
        )
        assert row["outcome"] == "ok"
        assert {prediction["data_through"] for prediction in shop.forecast(SILENT).to_pylist()} == {
            row["data_through"]
        }
        ages.append(explanation["data_age_days"])
        of_station = {row["data_through"] for name, row in shop.stores().items() if name == "s010"}
        assert of_station == {LAST + night * DAY}
        # Nothing is missing on the first Sunday, which was declared closed. From Monday on two
        # stores are late: SILENT, and the first store, whose sales this test does not deliver.
        assert receipt.stores.late == (0 if night == 1 else 2)
    # The eighth night is a closed Sunday, 5 April: the age grows on such a day, too.
    assert ages == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    receipt = shop.run(LAST + nights * DAY)
    assert receipt.stores.late == 2
    assert shop.stores()[SILENT]["outcome"] == "fallback"
    assert "sales through" in shop.stores()[SILENT]["reason"]


def test_a_closed_sunday_that_was_delivered_counts(shop):
    shop = shop.having(gates=Gates(late_share=1.0))
    monday = LAST + 2 * DAY
    shop.deliver([sales_row(SILENT, LAST + DAY, 0.0, open=0)])
    shop.deliver([sales_row("s010", monday, 1.0)], name="monday", now=midnight(monday))
    shop.run(monday)
    assert shop.stores()[SILENT]["data_through"] == LAST + DAY
    assert shop.stores()["s002"]["data_through"] == LAST


def test_a_night_with_too_many_late_stores_is_refused(shop):
    shop.run()
    shop.deliver([sales_row("s010", LAST + 2 * DAY, 1500.0)], now=midnight(LAST + 2 * DAY))
    receipt = shop.run(LAST + 2 * DAY)
    assert (receipt.status, receipt.exit_code) == ("refused", 3)
    assert "8 of 10 stores lack the sales of Monday 30 March 2026" in receipt.message
