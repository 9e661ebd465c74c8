"""Scores of sales that arrive late or are corrected, and of stores that close or reopen."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ray_job.bucket import keys
from ray_job.evaluation import accuracy, scoring
from tests.fake_gcs import Fault
from tests.support.shop import (
    BIG,
    DAY,
    LAST,
    STORES,
    Shop,
    filled,
    generations,
    midnight,
    objects,
    snapshot,
    stores_csv,
    weekday_row,
)

LATE = "s004"
OTHERS = tuple(store for store in STORES if store not in (BIG, LATE, "s009"))
"""Open stores with one series each, without LATE."""
MONDAY = LAST + 2 * DAY


def night(shop: Shop, as_of: date, *more: dict[str, object]):
    """Deliver the sales of that day and the rows `more`, then run."""
    rows = [*(weekday_row(store, as_of) for store in OTHERS), *more]
    shop.deliver(rows, name=f"day-{as_of}", now=midnight(as_of))
    return shop.run(as_of)


def scores(shop: Shop, target: date, store: str) -> list[dict[str, object]]:
    table = scoring.read(shop.storage, shop.pointer.accuracy[target])
    return table.filter(pc.equal(table["store_id"], store)).to_pylist()


@pytest.fixture(scope="module")
def week_objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every object after eight nights. Sales of LATE arrive in the first one only."""
    shop = Shop(filled(tmp_path_factory.mktemp("week"), objects()))
    shop.run(LAST)
    for ahead in range(1, 8):
        night(shop, LAST + ahead * DAY)
    return snapshot(shop.storage)


@pytest.fixture
def week(week_objects: dict[str, bytes], tmp_path: Path) -> Shop:
    return Shop(filled(tmp_path, week_objects))


def test_sales_of_a_week_ago_are_scored_when_they_come_and_once(week):
    assert scores(week, MONDAY, LATE) == []
    before = scores(week, MONDAY, "s003")
    receipt = night(week, LAST + 8 * DAY, weekday_row(LATE, MONDAY, 432.0))
    assert receipt.scored.keys() == {MONDAY, LAST + 8 * DAY}
    late_scores = scores(week, MONDAY, LATE)
    assert [row["days_ahead"] for row in late_scores] == [2, 1]
    assert {row["actual"] for row in late_scores} == {432.0}
    assert scores(week, MONDAY, "s003") == before
    scores_key = week.pointer.accuracy[MONDAY]
    assert night(week, LAST + 9 * DAY).scored.keys() == {LAST + 9 * DAY}
    assert week.pointer.accuracy[MONDAY] == scores_key


def test_corrected_sales_are_scored_again(week):
    old_key = week.pointer.accuracy[MONDAY]
    assert {row["actual"] for row in scores(week, MONDAY, "s003")} == {900.0}
    receipt = night(week, LAST + 8 * DAY, weekday_row("s003", MONDAY, 1234.0))
    assert receipt.scored.keys() == {MONDAY, LAST + 8 * DAY}
    assert {row["actual"] for row in scores(week, MONDAY, "s003")} == {1234.0}
    assert {row["actual"] for row in scores(week, MONDAY, "s005")} == {900.0}
    # The old scores stay, and the pointer does not name them.
    assert old_key in generations(week.storage)
    assert old_key not in week.pointer.accuracy.values()
    store_scores = accuracy.read(week.storage, week.pointer, days=14).of("s003")
    (monday,) = [row for row in accuracy.day_by_day(store_scores) if row["target_date"] == MONDAY]
    assert monday["actual"] == 1234.0


def test_a_night_without_a_release(shop):
    """The forecast of the night before holds for its days, and the next night scores its sales."""
    shop.run(LAST)
    night(shop, LAST + DAY)
    tuesday = MONDAY + DAY
    rows_of_monday = [weekday_row(store, MONDAY) for store in OTHERS]
    receipt = night(shop, tuesday, *rows_of_monday)
    assert receipt.scored.keys() == {MONDAY, tuesday}
    assert MONDAY not in shop.pointer.dates
    assert [row["days_ahead"] for row in scores(shop, MONDAY, "s003")] == [2, 1]
    assert [row["as_of"] for row in scores(shop, tuesday, "s003")] == [LAST, LAST + DAY]
    all_scores = accuracy.read(shop.storage, shop.pointer, days=3)
    assert accuracy.summarise(all_scores)["days_without"] == []
    newest_days_ahead = {
        row["target_date"]: row["days_ahead"] for row in accuracy.day_by_day(all_scores.of("s003"))
    }
    assert newest_days_ahead == {LAST + DAY: 1, MONDAY: 1, tuesday: 2}


def test_a_store_that_closed_for_good_is_neither_silent_nor_scored(shop):
    shop.run(LAST)
    shop.deliver(stores_csv(STORES, LATE), kind="stores", now=midnight(LAST + DAY))
    for ahead in range(1, 6):
        receipt = night(shop, LAST + ahead * DAY)
    assert receipt.published
    assert receipt.stores.expected == len(STORES) - 1
    assert receipt.drift.silent_stores == (BIG,)  # it is open and sends no sales
    assert shop.stores()[LATE]["expected"] is False
    assert scores(shop, MONDAY, LATE) == []
    assert scores(shop, MONDAY, "s003") != []


def test_a_store_that_reopens_after_three_months(shop):
    """Its forecast is 0 while it is closed. From its first open day on it has scores."""
    shop = shop.having(lookback_days=250)
    first, closing = LAST - 190 * DAY, LAST - 95 * DAY
    past = [weekday_row("reopens", first + k * DAY, 500.0) for k in range((LAST - first).days + 1)]
    for row in past:
        if row["date"] >= closing:
            row |= {"sales": 0.0, "open": 0}
    ahead = [
        {"store_id": "reopens", "date": LAST + k * DAY, "sales": None, "open": int(k in (9, 10))}
        for k in range(1, 15)
    ]
    shop.deliver([*past, *ahead], now=midnight(LAST))
    receipt = shop.run(LAST)
    row = shop.stores()["reopens"]
    assert (row["outcome"], set(row["predicted"])) == ("closed", {0.0})
    assert (receipt.status, receipt.drift.silent) == ("published", 0)

    opening = LAST + 9 * DAY
    closed_days = [
        {"store_id": "reopens", "date": LAST + k * DAY, "sales": 0.0, "open": 0}
        for k in range(1, 9)
    ]
    shop.deliver(closed_days, name="shut", now=midnight(opening))
    night(
        shop,
        opening - DAY,
        *(weekday_row(store, LAST + k * DAY) for store in OTHERS for k in range(8)),
    )
    row = shop.stores()["reopens"]
    assert row["outcome"] == "ok"
    predicted = dict(zip(row["target_dates"], row["predicted"], strict=True))
    assert 100 < predicted[opening] < 2500
    assert predicted[opening + 3 * DAY] == 0.0

    night(shop, opening, weekday_row("reopens", opening, 700.0))
    (scored,) = scores(shop, opening, "reopens")
    assert (scored["predicted"], scored["actual"], scored["naive"]) == (
        predicted[opening],
        700.0,
        0.0,
    )


@pytest.mark.parametrize("how", ["damaged", "gone", "of another kind"])
def test_scores_that_are_lost_are_made_anew_and_keep_no_night_from_readers(week, how):
    """Otherwise every night would end with an error that needs them."""
    target = LAST + 6 * DAY
    as_they_were = {store: scores(week, target, store) for store in OTHERS}
    for key in week.pointer.accuracy.values():
        path = week.storage.root / key
        path.unlink()
        if how != "gone":
            path.write_bytes(b"x" if how == "damaged" else odd_scores())
    assert night(week, LAST + 8 * DAY).exit_code == 0
    assert {store: scores(week, target, store) for store in OTHERS} == as_they_were
    written = generations(week.storage)
    week.run(LAST + 8 * DAY)
    assert generations(week.storage) == written


def odd_scores() -> bytes:
    """Parquet with digests that are valid JSON of another type."""
    sink = pa.BufferOutputStream()
    table = pa.table({"x": [1]}).replace_schema_metadata({"storecast.seen": "[1]"})
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def test_scores_that_the_storage_refuses_wait_for_another_night(gcs_shop, gcs):
    """The night is published; what was not scored is scored once the storage gives them again."""
    for ahead in (-2, -1):
        gcs_shop.run(LAST + ahead * DAY)
    [key] = gcs_shop.pointer.accuracy.values()
    refused = gcs.faults.add(Fault("status", key=key, op="get", status=403, times=None))
    assert gcs_shop.run(LAST).exit_code == 0
    assert refused.fired
    assert gcs_shop.pointer.accuracy[LAST - DAY] == key
    assert gcs_shop.pointer.current_entry.as_of == LAST


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_an_earlier_release_that_is_lost_costs_its_own_scores_only(week, how):
    night_of_it = LAST + 5 * DAY
    key = keys.release(week.pointer.dates[night_of_it])
    if how == "damaged":
        week.tamper(key, lambda data: data[:100])
    else:
        week.delete(key)
    week.deliver([weekday_row(LATE, LAST + 6 * DAY)], now=midnight(LAST + 7 * DAY))
    assert night(week, LAST + 8 * DAY).exit_code == 0
    made = {row["as_of"] for row in scores(week, LAST + 6 * DAY, LATE)}
    assert night_of_it not in made
    assert LAST + 4 * DAY in made
