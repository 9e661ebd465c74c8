"""Sales that come late, are corrected, or belong to stores that close and reopen: the scores."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow.compute as pc
import pytest

from ray_job.evaluation import accuracy, scoring
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
)

LATE = "s004"
OTHERS = tuple(store for store in STORES if store not in (BIG, LATE, "s009"))
"""Stores of one series that are open, but for LATE."""
MONDAY = LAST + 2 * DAY


def sales(store: str, day: date, value: float = 900.0) -> dict[str, object]:
    shut = day.weekday() == 6
    return {"store_id": store, "date": day, "sales": 0.0 if shut else value, "open": int(not shut)}


def night(shop: Shop, as_of: date, *more: dict[str, object]):
    """What was sold that day arrives, and more; then the run."""
    rows = [*(sales(store, as_of) for store in OTHERS), *more]
    shop.deliver(rows, name=f"day-{as_of}", now=midnight(as_of))
    return shop.run(as_of)


def scores(shop: Shop, target: date, store: str) -> list[dict[str, object]]:
    table = scoring.read(shop.storage, shop.pointer.accuracy[target])
    return table.filter(pc.equal(table["store_id"], store)).to_pylist()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every object after eight nights; of LATE nothing arrives after the first."""
    shop = Shop(filled(tmp_path_factory.mktemp("week"), objects()))
    shop.run(LAST)
    for ahead in range(1, 8):
        night(shop, LAST + ahead * DAY)
    return snapshot(shop.storage)


@pytest.fixture
def week(played: dict[str, bytes], tmp_path: Path) -> Shop:
    return Shop(filled(tmp_path, played))


def test_sales_of_a_week_ago_are_scored_when_they_come_and_once(week):
    assert scores(week, MONDAY, LATE) == []
    before = scores(week, MONDAY, "s003")
    receipt = night(week, LAST + 8 * DAY, sales(LATE, MONDAY, 432.0))
    assert receipt.scored.keys() == {MONDAY, LAST + 8 * DAY}
    found = scores(week, MONDAY, LATE)
    assert [row["days_ahead"] for row in found] == [2, 1]
    assert {row["actual"] for row in found} == {432.0}
    assert scores(week, MONDAY, "s003") == before
    named = week.pointer.accuracy[MONDAY]
    assert night(week, LAST + 9 * DAY).scored.keys() == {LAST + 9 * DAY}
    assert week.pointer.accuracy[MONDAY] == named


def test_corrected_sales_are_scored_again(week):
    old = week.pointer.accuracy[MONDAY]
    assert {row["actual"] for row in scores(week, MONDAY, "s003")} == {900.0}
    receipt = night(week, LAST + 8 * DAY, sales("s003", MONDAY, 1234.0))
    # A week after it, Monday's number is also what the naive rule says.
    assert receipt.scored.keys() == {MONDAY, LAST + 8 * DAY}
    assert {row["actual"] for row in scores(week, MONDAY, "s003")} == {1234.0}
    assert {row["actual"] for row in scores(week, MONDAY, "s005")} == {900.0}
    assert old in generations(week.storage)  # what was scored before stays, and nobody names it
    assert old not in week.pointer.accuracy.values()
    told = accuracy.read(week.storage, week.pointer, days=14).of("s003")
    (monday,) = [row for row in accuracy.day_by_day(told) if row["target_date"] == MONDAY]
    assert monday["actual"] == 1234.0


def test_a_night_without_a_release(shop):
    """What was said a night earlier stands for it, and its sales are scored by the next night."""
    shop.run(LAST)
    night(shop, LAST + DAY)
    tuesday = MONDAY + DAY
    skipped = [sales(store, MONDAY) for store in OTHERS]
    receipt = night(shop, tuesday, *skipped)
    assert receipt.scored.keys() == {MONDAY, tuesday}
    assert MONDAY not in shop.pointer.dates
    assert [row["days_ahead"] for row in scores(shop, MONDAY, "s003")] == [2, 1]
    assert [row["as_of"] for row in scores(shop, tuesday, "s003")] == [LAST, LAST + DAY]
    told = accuracy.read(shop.storage, shop.pointer, days=3)
    assert accuracy.summarise(told)["days_without"] == []
    last = {row["target_date"]: row["days_ahead"] for row in accuracy.day_by_day(told.of("s003"))}
    assert last == {LAST + DAY: 1, MONDAY: 1, tuesday: 2}


def test_a_store_that_closed_for_good_is_neither_silent_nor_scored(shop):
    shop.run(LAST)
    told = "store_id,region,closed_for_good\n" + "".join(
        f"{store},BE,{'yes' if store == LATE else ''}\n" for store in STORES
    )
    shop.deliver(told, kind="stores", now=midnight(LAST + DAY))
    for ahead in range(1, 6):
        receipt = night(shop, LAST + ahead * DAY)
    assert receipt.published
    assert receipt.stores.expected == len(STORES) - 1
    assert receipt.drift.silent_stores == (BIG,)  # whose sales have really stopped
    assert shop.stores()[LATE]["expected"] is False
    assert scores(shop, MONDAY, LATE) == []
    assert scores(shop, MONDAY, "s003") != []


def test_a_store_that_reopens_after_three_months(shop):
    """Closed, it is 0 and no failure; from the first open day on it has a forecast and scores."""
    shop = shop.having(lookback_days=250)
    first, closing = LAST - 190 * DAY, LAST - 95 * DAY
    past = [sales("reopens", first + k * DAY, 500.0) for k in range((LAST - first).days + 1)]
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
    shut = [
        {"store_id": "reopens", "date": LAST + k * DAY, "sales": 0.0, "open": 0}
        for k in range(1, 9)
    ]
    shop.deliver(shut, name="shut", now=midnight(opening))
    night(
        shop, opening - DAY, *(sales(store, LAST + k * DAY) for store in OTHERS for k in range(8))
    )
    row = shop.stores()["reopens"]
    assert row["outcome"] == "ok"
    said = dict(zip(row["target_dates"], row["predicted"], strict=True))
    assert 100 < said[opening] < 2500
    assert said[opening + 3 * DAY] == 0.0

    night(shop, opening, sales("reopens", opening, 700.0))
    (scored,) = scores(shop, opening, "reopens")
    assert (scored["predicted"], scored["actual"], scored["naive"]) == (said[opening], 700.0, 0.0)
