"""Scores: forecasts that were live against the sales, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from ray_job.bucket.errors import CorruptError
from ray_job.bucket.pointer import Pointer
from ray_job.evaluation import scoring
from ray_job.evaluation.sales import SalesTotals
from ray_job.evaluation.scoring import SCORED_DAYS, SOLD_DAYS
from tests.support.shop import DAY, LAST, SETTINGS, Shop, filled, midnight, objects, snapshot

NIGHTS = [LAST - back * DAY for back in (8, 7, 6, 5, 3, 2)]
SKIPPED = LAST - 4 * DAY
TARGET = LAST - 1 * DAY
"""A Friday: every store is open but those that are closed for good."""


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every object after some nights, each at its own midnight; one night was left out."""
    chain = Shop(filled(tmp_path_factory.mktemp("nights"), objects()))
    for night in NIGHTS:
        chain.run(night)
    return snapshot(chain.storage)


@pytest.fixture
def played(nights: dict[str, bytes], tmp_path: Path) -> Shop:
    return Shop(filled(tmp_path, nights))


def sold(shop: Shop, as_of: date, **changes: float | None) -> SalesTotals:
    """Invented sales of every store and day. `changes`: sales on TARGET, None if unknown."""
    stores = sorted(shop.stores())
    days = np.array([as_of - back * DAY for back in range(SOLD_DAYS)][::-1], dtype="datetime64[D]")
    ordinals = days.astype(np.int64)
    totals = 100.0 * (1 + np.arange(len(stores)))[:, None] + ordinals % 7
    column = np.flatnonzero(days == np.datetime64(TARGET))
    for store, value in changes.items():
        totals[stores.index(store), column] = np.nan if value is None else value
    return SalesTotals(stores, days, totals)


def score(shop: Shop, current: Pointer, known: SalesTotals, as_of: date):
    return scoring.score(shop.storage, current, known, as_of=as_of, horizon=7, zone=SETTINGS.zone)


def scored(shop: Shop, current: Pointer, known: SalesTotals, as_of: date):
    """Score and let the pointer name what was written; returns the new pointer too."""
    scores = score(shop, current, known, as_of)
    written = scoring.write(shop.storage, scores, f"run-{as_of}-{len(current.accuracy)}")
    return scores, current.model_copy(update={"accuracy": {**current.accuracy, **written}})


def unscored(shop: Shop) -> Pointer:
    return shop.pointer.model_copy(update={"accuracy": {}})


def of(table, store):
    return table.filter(pc.equal(table["store_id"], store)).to_pylist()


def test_a_run_scores_the_forecasts_of_the_nights_before(played):
    played.run(TARGET)
    current = played.pointer
    table = scoring.read(played.storage, current.accuracy[TARGET])
    rows = of(table, "s002")
    live = [night for night in NIGHTS if (TARGET - night).days <= 7]
    assert [row["as_of"] for row in rows] == live
    assert [row["days_ahead"] for row in rows] == [(TARGET - night).days for night in live]
    for row in rows:
        released = played.stores(current.dates[row["as_of"]])["s002"]
        place = released["target_dates"].index(TARGET)
        assert row["predicted"] == released["predicted"][place]
        assert (row["lower_80"], row["upper_80"]) == (
            released["lower_80"][place],
            released["upper_80"][place],
        )
        assert row["run_id"] == released["run_id"]


def test_scores_have_the_sales_and_last_weeks_number(played):
    known = sold(played, TARGET, s003=555.0)
    table = score(played, unscored(played), known, TARGET)[TARGET]
    row = of(table, "s003")[0]
    assert row["actual"] == 555.0
    assert row["naive"] == known.on(TARGET - 7 * DAY)[known.store_ids.index("s003")]
    assert table["store_id"].to_pylist() == sorted(table["store_id"].to_pylist())


def test_a_backfilled_night_was_never_live(played):
    played.run(SKIPPED, now=midnight(LAST))
    played.run(TARGET)
    played.run(LAST)
    table = scoring.read(played.storage, played.pointer.accuracy[TARGET])
    assert SKIPPED not in table["as_of"].to_pylist()
    # For later target dates the same backfill was in time.
    known = SalesTotals(
        ["s002"], np.array([LAST + DAY], dtype="datetime64[D]"), np.array([[100.0]])
    )
    scores = score(played, unscored(played), known, LAST + DAY)
    assert SKIPPED in scores[LAST + DAY]["as_of"].to_pylist()


def test_a_forecast_that_was_live_counts_after_its_night_was_run_again(played):
    before = score(played, unscored(played), sold(played, TARGET), TARGET)[TARGET]
    played.deliver(
        [{"store_id": "s002", "date": LAST - 9 * DAY, "sales": 1.0}], now=midnight(TARGET)
    )
    night = LAST - 2 * DAY
    played.run(night, now=midnight(LAST))
    assert of(before, "s002") == of(
        score(played, unscored(played), sold(played, TARGET), TARGET)[TARGET], "s002"
    )


def test_sales_that_come_a_week_late_are_scored_then_and_once(played):
    early, current = scored(played, unscored(played), sold(played, TARGET, s002=None), TARGET)
    assert of(early[TARGET], "s002") == []
    as_of = TARGET + 7 * DAY
    late, current = scored(played, current, sold(played, as_of, s002=321.0), as_of)
    assert {row["actual"] for row in of(late[TARGET], "s002")} == {321.0}
    assert of(late[TARGET], "s003") == of(early[TARGET], "s003")
    again, _ = scored(played, current, sold(played, as_of + DAY, s002=321.0), as_of + DAY)
    assert TARGET not in again


def test_sales_that_come_too_late_are_not_scored(played):
    as_of = TARGET + SCORED_DAYS * DAY
    assert TARGET not in score(played, unscored(played), sold(played, as_of), as_of)


def test_corrected_sales_are_scored_again(played):
    first, current = scored(played, unscored(played), sold(played, TARGET), TARGET)
    as_of = TARGET + 3 * DAY
    again, current = scored(played, current, sold(played, as_of, s004=999.0), as_of)
    table = scoring.read(played.storage, current.accuracy[TARGET])
    assert {row["actual"] for row in of(table, "s004")} == {999.0}
    assert table.num_rows == first[TARGET].num_rows
    assert again[TARGET].equals(table)


def test_a_correction_of_last_weeks_number_is_scored_again(played):
    _, current = scored(played, unscored(played), sold(played, TARGET), TARGET)
    known = sold(played, TARGET)
    totals = known.totals.copy()
    week_ago = np.flatnonzero(known.days == np.datetime64(TARGET - 7 * DAY))
    totals[known.store_ids.index("s004"), week_ago] = 77.0
    again = score(played, current, replace(known, totals=totals), TARGET)
    assert {row["naive"] for row in of(again[TARGET], "s004")} == {77.0}


def test_a_run_of_some_stores_keeps_the_scores_of_the_others(played):
    whole = sold(played, TARGET)
    first, current = scored(played, unscored(played), whole, TARGET)
    some = SalesTotals(whole.store_ids[:2], whole.days, whole.totals[:2])
    assert score(played, current, some, TARGET) == {}
    changed = SalesTotals(some.store_ids, some.days, some.totals + 1)
    again = score(played, current, changed, TARGET)[TARGET]
    assert again.num_rows == first[TARGET].num_rows
    assert of(again, whole.store_ids[5]) == of(first[TARGET], whole.store_ids[5])


def test_the_same_sales_are_not_scored_twice(played):
    _, current = scored(played, unscored(played), sold(played, TARGET), TARGET)
    assert score(played, current, sold(played, TARGET), TARGET) == {}


def test_a_release_that_was_rolled_back_is_not_scored(played):
    current = unscored(played)
    night = LAST - 2 * DAY
    bad = current.model_copy(update={"bad": (current.dates[night],)})
    assert (
        night not in score(played, bad, sold(played, TARGET), TARGET)[TARGET]["as_of"].to_pylist()
    )


def test_the_first_night_scores_nothing(shop):
    shop.run(LAST)
    assert shop.pointer.accuracy == {}


def test_scores_that_cannot_be_read_name_their_key(played):
    played.run(TARGET)
    key = played.pointer.accuracy[TARGET]
    played.tamper(key, lambda data: data[:100])
    with pytest.raises(CorruptError, match="target_date="):
        scoring.read(played.storage, key)
