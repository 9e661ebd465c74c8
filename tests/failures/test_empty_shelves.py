"""Days without stock: no demand is concluded from them, in no chunk, score or training."""

from __future__ import annotations

import numpy as np
import pytest

from ray_job.data.histories import open_histories
from ray_job.evaluation import scoring
from ray_job.model import examples, training_data
from ray_job.settings import Plan, Sales
from tests.support.shop import DAY, LAST, SETTINGS, midnight

NEW = "s900"
UNCUT = Plan(chunk_rows=1_000_000)


def item_rows(item, days, empty=(), *, level=100.0, quantity=12.0, rows_when_empty=True):
    """Rows of an item of NEW: it sells every day, but on `empty` days ago nothing was in stock."""
    rows = []
    for ago in range(days - 1, -1, -1):
        is_empty = ago in empty
        if is_empty and not rows_when_empty:
            continue
        rows.append(
            {
                "store_id": NEW,
                "item_id": item,
                "date": LAST - ago * DAY,
                "sales": 0.0 if is_empty else level + ago % 7,
                "open": 1,
                "in_stock": 0.0 if is_empty else quantity,
            }
        )
    return rows


def mean_forecast(shop, item):
    rows = [row for row in shop.forecast(NEW).to_pylist() if row["item_id"] == item]
    return np.mean([row["predicted_sales"] for row in rows]), {row["method"] for row in rows}


@pytest.mark.parametrize("quantity", [1.0, 57.0], ids=["flag", "quantity on hand"])
def test_empty_shelves_are_no_lack_of_demand(shop, quantity):
    recent = set(range(9))
    shop.deliver(
        [
            *item_rows("full", 80, quantity=quantity),
            *item_rows("empty", 80, recent, quantity=quantity),
        ]
    )
    assert shop.run().exit_code == 0
    full, empty = (mean_forecast(shop, item) for item in ("full", "empty"))
    assert empty[0] == pytest.approx(full[0], rel=0.25)
    assert full[0] > 50
    row = shop.stores()[NEW]
    assert (row["outcome"], row["data_through"]) == ("ok", LAST)
    shop.check()


def test_without_the_column_they_would_be(shop):
    rows = item_rows("empty", 80, set(range(9)))
    shop.deliver([{name: row[name] for name in row if name != "in_stock"} for row in rows])
    shop.run()
    assert mean_forecast(shop, "empty")[0] < 75


def test_an_item_out_of_stock_has_not_ended_until_it_never_comes_back(shop):
    days = 83
    away, gone = set(range(36)), set(range(70))
    shop.deliver(
        [*item_rows("full", days), *item_rows("away", days, away), *item_rows("gone", days, gone)]
    )
    shop.run()
    assert "ended" not in mean_forecast(shop, "away")[1]
    assert mean_forecast(shop, "gone")[1] == {"ended"}


def test_of_transactions_the_stock_comes_in_a_file_of_its_own(shop):
    transactions = shop.having(sales=Sales(rows="transactions"))
    empty = {0, 1, 2, 3, 4, 5, 6, 7}
    sold = [
        {name: row[name] for name in ("store_id", "item_id", "date", "sales")}
        for row in [
            *item_rows("full", 80),
            *item_rows("empty", 80, empty, rows_when_empty=False),
        ]
    ]
    stock = [
        {name: row[name] for name in ("store_id", "item_id", "date", "in_stock")}
        for row in item_rows("empty", 80, empty)
    ]
    transactions.deliver(sold)
    transactions.run()
    without = mean_forecast(transactions, "empty")[0]
    transactions.deliver(stock, name="stock")
    transactions.run(now=midnight(LAST).replace(hour=2))
    assert without < 75
    assert mean_forecast(transactions, "empty")[0] > 90


def test_rows_are_the_same_however_a_store_is_cut(shop):
    rows = [
        row
        for number in range(14)
        for row in item_rows(f"i{number:02d}", 80, set(range(number, 2 * number)))
    ]
    shop.deliver(rows)
    shop.run()
    before = shop.all_rows()
    uncut = shop.having(plan=UNCUT)
    uncut.delete("results/")
    uncut.run()
    assert uncut.all_rows().equals(before)


def test_days_without_stock_are_not_scored(shop):
    night = LAST - DAY
    days = [row for row in item_rows("", 80, {0}) if row["date"] <= night]
    shop.deliver(days, now=midnight(night))
    shop.run(night)
    last = [row for row in item_rows("", 80, {0}) if row["date"] == LAST]
    shop.deliver(last, name="last", now=midnight(LAST))
    shop.run(LAST)
    scores = scoring.read(shop.storage, shop.pointer.accuracy[LAST])
    assert "s002" in scores["store_id"].to_pylist()
    assert NEW not in scores["store_id"].to_pylist()


def test_training_leaves_them_out(shop):
    shop.deliver(item_rows("", 80, {3, 4, 20}))
    data = training_data.load(shop.storage, SETTINGS, open_histories(shop.storage), LAST, days=84)
    row = list(data.panel.store_ids).index(NEW)
    judged = examples.scored(data.panel)[row]
    assert not judged[[-4, -5, -21]].any()
    assert judged[[-3, -6]].all()
    assert "in_stock" not in data.panel.known_ahead
