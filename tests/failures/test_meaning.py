"""Deliveries whose numbers do not mean what they seem to: closed weekdays, ended items, zeros."""

from datetime import date

import pytest

from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import open_bucket
from ray_job.data.histories import open_histories
from ray_job.model import training, training_data
from ray_job.settings import Gates, Plan, Sales
from tests.support.shop import BIG, DAY, LAST, SETTINGS, STORES, Shop, midnight

NEW = "s900"
CLOSED_STORE = "s009"
WEDNESDAY, SUNDAY = 2, 6
TARGETS = [LAST + k * DAY for k in range(1, 8)]
UNCUT = Plan(chunk_rows=1_000_000)


def sold(store, days, *, item=None, level=100.0, skip=(), every=1, until=0):
    """Rows of the last days up to `until` days ago, without some weekdays, all without `open`."""
    rows = []
    for ago in range(days - 1, until - 1, -1):
        day = LAST - ago * DAY
        if day.weekday() not in skip and ago % every == 0:
            sales = level + ago % 7
            rows.append({"store_id": store, "item_id": item, "date": day, "sales": sales})
    return rows


def methods(shop, store, item=""):
    rows = shop.forecast(store).to_pylist()
    return [row["method"] for row in rows if row["item_id"] == item]


@pytest.mark.parametrize("skip", [(SUNDAY,), (WEDNESDAY,), (0, 1)])
def test_a_weekday_that_nobody_delivers(shop, skip):
    shop.deliver(sold(NEW, 80, skip=skip))
    assert shop.run().exit_code == 0
    row = shop.stores()[NEW]
    closed = [day.weekday() in skip for day in TARGETS]
    assert [method == "closed" for method in row["method"]] == closed
    assert [value == 0.0 for value in row["predicted"]] == closed
    assert (row["outcome"], row["reason_code"]) == ("ok", "closed_weekday")
    assert row["reason"].startswith("no sales on ")
    shop.check()


def test_a_plan_that_says_open_counts_more(shop):
    plan = [{"store_id": NEW, "date": day, "sales": None, "open": 1} for day in TARGETS]
    shop.deliver(sold(NEW, 80, skip=(SUNDAY,)))
    shop.deliver(plan, name="plan")
    shop.run()
    row = shop.stores()[NEW]
    assert "closed" not in row["method"]
    assert row["reason"] is None


def test_a_new_store_follows_the_chain(shop):
    """All stores are closed on Sundays but the station; ten days of a new one say nothing."""
    shop.deliver(sold(NEW, 10, skip=(SUNDAY,)))
    shop.run()
    assert [m == "closed" for m in methods(shop, NEW)] == [d.weekday() == SUNDAY for d in TARGETS]


def test_an_item_that_ended(shop):
    shop.deliver([*sold(NEW, 80, item="kept"), *sold(NEW, 80, item="gone", until=40)])
    shop.run()
    rows = shop.forecast(NEW).to_pylist()
    assert {row["predicted_sales"] for row in rows if row["item_id"] == "gone"} == {0.0}
    assert set(methods(shop, NEW, "gone")) == {"ended"}
    assert set(methods(shop, NEW, "kept")) == {"model"}
    row = shop.stores()[NEW]
    assert row["outcome"] == "ok"
    assert sum(row["predicted"]) < 7 * 130
    shop.check()


def test_a_store_level_history_that_items_continue(shop):
    items = [*sold(NEW, 20, item="a", level=40.0), *sold(NEW, 20, item="b", level=60.0)]
    shop.deliver([*sold(NEW, 80, until=20), *items])
    shop.run()
    assert set(methods(shop, NEW)) == {"ended"}
    assert max(shop.stores()[NEW]["predicted"]) < 130


@pytest.mark.parametrize("missing", ["unknown", "zero"])
def test_rows_are_the_same_however_a_store_is_cut(shop, missing):
    """An item that ended, one that is sold every ninth day, and days of other items only."""
    shop.deliver(
        [
            *sold(BIG, 80, item="0-gone", until=40),
            *sold(BIG, 80, item="9-rare", every=9),
            *sold(BIG, 80, item="z-gone", until=50, every=2),
        ]
    )
    cut = shop.having(sales=Sales(missing_items=missing))
    assert cut.run().exit_code == 0
    assert len(cut.stores()[BIG]["parts"]) > 1
    rows = cut.all_rows()
    whole = cut.having(plan=UNCUT)
    whole.run(force=True)
    assert len(whole.stores()[BIG]["parts"]) == 1
    assert whole.all_rows().equals(rows)
    ended = {row["item_id"] for row in rows.to_pylist() if row["method"] == "ended"}
    assert {"0-gone", "z-gone"} <= ended
    rare = [row["predicted_sales"] for row in rows.to_pylist() if row["item_id"] == "9-rare"]
    assert (max(rare) < 60) is (missing == "zero")


def zeros(days, stores=STORES):
    return [
        {"store_id": store, "date": day, "sales": 0.0, "open": 1}
        for store in stores
        for day in days
    ]


def test_zeros_filled_in_ahead(shop):
    """Monday and Tuesday after the last Saturday are there, with 0 for every store."""
    night = LAST + 3 * DAY
    shop.deliver(zeros([LAST + 2 * DAY, night]), now=midnight(night))
    receipt = shop.run(night)
    assert receipt.exit_code == 3
    assert receipt.stores.late >= 9
    assert "nearly every open store has sales of 0 from Monday 30 March 2026 on" in receipt.message
    forced = shop.run(night, force=True)
    assert forced.published
    through = {name: row["data_through"] for name, row in shop.stores().items()}
    assert through["s010"] <= LAST + DAY
    assert max(through.values()) <= LAST + DAY


def test_a_store_of_zeros_beside_others_is_not_late(shop):
    night = LAST + 2 * DAY
    others = [{"store_id": store, "date": night, "sales": 500.0, "open": 1} for store in STORES[1:]]
    shop.deliver([*others, *zeros([night], STORES[:1])], now=midnight(night))
    shop.having(gates=Gates(late_share=1.0)).run(night)
    assert shop.stores()[BIG]["data_through"] == night


def test_zeros_on_a_public_holiday(shop):
    """Good Friday of 2026 is 3 April: nobody sells, and nobody is late."""
    friday = date(2026, 4, 3)
    days = [LAST + k * DAY for k in range(2, 6)]
    rows = [
        {"store_id": store, "date": day, "sales": 500.0, "open": 1}
        for store in STORES
        for day in days
    ]
    shop.deliver([*rows, *zeros([friday])], now=midnight(friday))
    receipt = shop.run(friday)
    assert receipt.stores.late == 0
    assert {row["data_through"] for row in shop.stores().values()} >= {friday}


def test_one_store_at_a_hundred_times(shop):
    night = LAST + 2 * DAY
    before = shop.run(LAST)
    assert before.exit_code == 0
    usual = {name: row["usual"] for name, row in shop.stores().items()}
    rows = [
        {
            "store_id": store,
            "date": night,
            "sales": max(usual[store] or [0.0]) * (100 if store == "s002" else 1),
            "open": 1,
        }
        for store in STORES
        if store != CLOSED_STORE
    ]
    shop.deliver(rows, now=midnight(night))
    receipt = shop.having(gates=Gates(late_share=1.0, missing_share=0.2)).run(night)
    assert (receipt.status, receipt.exit_code) == ("published_with_failures", 4)
    (failure,) = receipt.failures
    assert (failure.store_id, failure.reason_code) == ("s002", "implausible")
    assert "times the usual" in failure.reason
    assert failure.last_good_as_of == LAST
    rows = shop.stores()
    assert rows["s002"]["as_of"] == LAST
    assert {row["as_of"] for name, row in rows.items() if name != "s002"} == {night}
    shop.check()
    # Corrected, the next run publishes it.
    right = [{"store_id": "s002", "date": night, "sales": max(usual["s002"])}]
    shop.deliver(right, name="right", now=midnight(night))
    shop.having(gates=Gates(late_share=1.0)).run(night)
    assert shop.stores()["s002"]["as_of"] == night


def test_weekly_totals(tmp_path, shop):
    """Refused when a model is fitted, and by a run with a model of another chain."""
    root = tmp_path / "weekly"
    root.mkdir()
    for key, data in (
        (info.key, shop.storage.read(info.key)) for info in shop.storage.list("models/")
    ):
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    weekly = Shop(open_bucket(str(root)))
    fridays = {0, 1, 2, 3, 5, 6}
    weekly.deliver([row for store in "abc" for row in sold(store, 400, skip=fridays)])
    sentence = "3 of 3 stores have sales on Fridays only: these are weekly or monthly totals"
    with pytest.raises(InputError, match=sentence):
        weekly.run()
    data = training_data.load(
        weekly.storage, SETTINGS, open_histories(weekly.storage), LAST, days=400
    )
    with pytest.raises(InputError, match=sentence):
        training.fit(data.panel, LAST, data.context, SETTINGS, categories=data.categories)
