"""The widths of a night's intervals: computed once, kept, and the same for everybody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ray_job.backtest import trial
from ray_job.bucket import keys, parts, receipts, widths
from ray_job.bucket.widths import CALIBRATED, SMALL, IntervalWidths, KeptWidths, SideFactors
from ray_job.data.histories import open_histories
from ray_job.data.partition import Columns
from ray_job.data.store_days import READING
from ray_job.evaluation import scoring
from ray_job.nightly.item_scores import ItemScores
from ray_job.nightly.prepare import prepare
from ray_job.nightly.request import RunRequest
from ray_job.nightly.widths import published_widths
from ray_job.operations.clean_up import reachable
from ray_job.settings import Intervals, Run
from tests.support.shop import (
    BIG,
    DAY,
    LAST,
    MODEL,
    Shop,
    filled,
    midnight,
    objects,
    snapshot,
    train,
)

NIGHTS = [LAST - back * DAY for back in (5, 4, 3, 2)]
EVE = LAST - DAY


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every object after some nights, each at its own midnight."""
    chain = Shop(filled(tmp_path_factory.mktemp("nights"), objects()))
    for night in NIGHTS:
        chain.run(night)
    return snapshot(chain.storage)


@pytest.fixture
def played(nights: dict[str, bytes], tmp_path: Path) -> Shop:
    return Shop(filled(tmp_path, nights))


def kept(shop: Shop, night=EVE) -> KeptWidths | None:
    return widths.read(shop.storage, night, MODEL)


def scored_days(shop: Shop):
    """The target dates that have scores of forecasts by this model."""
    tables = {
        day: scoring.read(shop.storage, key) for day, key in sorted(shop.pointer.accuracy.items())
    }
    return [day for day, table in tables.items() if table.num_rows]


def test_the_first_night_has_the_calibrated_widths(played):
    first = kept(played, NIGHTS[0])
    assert first is not None
    assert (first.widths, first.counted) == (CALIBRATED, ())


def test_a_night_continues_the_widths_of_the_night_before(played):
    days = scored_days(played)
    receipt = played.run(EVE)
    after = kept(played)
    assert after is not None
    assert list(after.counted) == days
    assert not after.widths.is_neutral
    assert receipt.intervals.widths == after.widths
    assert receipt.intervals.counted == len(days)
    earlier = kept(played, NIGHTS[-1])
    assert set(earlier.counted) < set(after.counted)


def test_the_published_intervals_have_these_widths(played):
    adapted = Shop(played.storage)
    adapted.run(EVE)
    calibrated = played.having(intervals=Intervals(adapt=False))
    receipt = calibrated.run(EVE, publish=False)
    assert receipt.intervals is None
    factors = kept(played).widths
    plain, plain_rows = _unpublished(calibrated, receipt)
    for store, row in adapted.stores().items():
        if store == BIG or not row["predicted"]:
            continue
        rows = adapted.forecast(store)
        np.testing.assert_allclose(row["upper_80"], rows["upper_80"].to_numpy(), rtol=1e-9)
        before = plain_rows.filter(pc.equal(plain_rows["store_id"], store))
        for ahead in range(1, 8):
            bounds = (rows["upper_80"][ahead - 1].as_py(), before["upper_80"][ahead - 1].as_py())
            predicted = rows["predicted_sales"][ahead - 1].as_py()
            if predicted == 0:
                assert bounds[0] == bounds[1] == 0
                continue
            logs = np.log1p(bounds) - np.log1p(predicted)
            of_size = factors.of_small if predicted < SMALL else factors.series
            assert logs[0] == pytest.approx(of_size.at(ahead)[1] * logs[1])
    assert plain


def _unpublished(shop: Shop, receipt):
    keys_of_parts = [chunk.part for chunk in receipt.chunks]
    tables = [parts.read_rows(shop.storage.read(key), key) for key in keys_of_parts]
    return keys_of_parts, pa.concat_tables(tables)


def test_scores_say_how_wide_the_intervals_were(played):
    played.run(EVE)
    played.run(LAST)
    table = scoring.read(played.storage, played.pointer.accuracy[LAST])
    rows = {(row["store_id"], row["as_of"]): row for row in table.to_pylist()}
    for (store, as_of), row in rows.items():
        of_night = kept(played, as_of).widths
        of_series = of_night.of_small if row["predicted"] < SMALL else of_night.series
        factors = of_night.totals if row["items"] > 1 else of_series
        assert (row["lower_factor"], row["upper_factor"]) == factors.at(row["days_ahead"])
        assert row["model_version"] == MODEL
        assert (row["items"] > 1) == (store == BIG)


def test_a_late_score_makes_no_chunk_new(played):
    # A new store depends on the sales of similar ones.
    played = played.having(run=Run(similar_stores=False))
    played.run(EVE)
    parts_before, widths_before = set(played.part_keys(EVE)), kept(played)
    played.deliver([{"store_id": "s002", "date": NIGHTS[-1], "sales": 9999.0}], now=midnight(EVE))
    receipt = played.run(EVE, now=midnight(EVE).replace(hour=3))
    assert receipt.scored
    assert kept(played) == widths_before
    made = set(played.part_keys(EVE)) - parts_before
    assert len(made) == 1  # the chunk of the store that delivered


def test_of_two_runs_the_second_has_the_widths_of_the_first(played):
    wide = SideFactors(lower=(2.0,) * 7, upper=(2.0,) * 7)
    first = KeptWidths(as_of=EVE, model_version=MODEL, widths=IntervalWidths(series=wide))
    assert widths.keep(played.storage, first) == first
    other = KeptWidths(as_of=EVE, model_version=MODEL)
    assert widths.keep(played.storage, other) == first
    assert played.run(EVE).intervals.widths == first.widths


def test_a_plan_keeps_nothing(played):
    run_plan = prepare(played.storage, played.settings, RunRequest(as_of=EVE), midnight(EVE))
    assert not run_plan.widths.widths.is_neutral
    assert kept(played) is None


def test_another_model_begins_with_its_own_calibration(played):
    train(played.storage, "other")
    receipt = played.run(EVE)
    assert receipt.model_version == "other"
    assert receipt.intervals.widths.is_neutral


def test_damaged_objects_cost_the_adaptation_only(played):
    key = keys.widths(NIGHTS[-1], MODEL)
    played.tamper(key, lambda data: data[:9])
    receipt = played.run(EVE)
    assert receipt.status == "published"
    assert list(kept(played).counted) == scored_days(played)[: len(kept(played).counted)]
    played.tamper(keys.widths(EVE, MODEL), lambda _: b"{")
    played.deliver([{"store_id": "s002", "date": EVE, "sales": 5.0}], now=midnight(EVE))
    assert played.run(EVE, now=midnight(EVE).replace(hour=4)).intervals.widths.is_neutral


def test_clean_up_keeps_the_widths_of_published_nights(played):
    played.run(EVE)
    assert keys.widths(EVE, MODEL) in reachable(played.storage, played.pointer).keys


def test_the_receipt_is_read_back_with_its_widths(played):
    receipt = played.run(EVE)
    assert receipts.read(played.storage, EVE, receipt.run_id).intervals == receipt.intervals


def item_scores(shop: Shop) -> ItemScores:
    return ItemScores(
        storage=shop.storage,
        current=shop.pointer,
        files=open_histories(shop.storage).files,
        columns=Columns(("open",)),
        reading=READING,
        widths=published_widths(shop.storage),
        calibration=trial.load(shop.storage).description.intervals,
        horizon=7,
        zone=shop.settings.zone,
    )


def test_items_are_scored_by_their_own_intervals(played):
    played.run(EVE)
    target = NIGHTS[-1]
    day = item_scores(played).of_day(target, [BIG, "s002"], MODEL)
    live = [night for night in NIGHTS if night < target]
    assert sorted(set(day.days_ahead.tolist())) == [(target - night).days for night in live][::-1]
    assert not day.is_total.any()
    first = day.at(day.days_ahead == (target - NIGHTS[0]).days)  # with the calibrated widths
    release = played.stores(played.pointer.dates[NIGHTS[0]])
    read_parts = {**release[BIG], "parts": release[BIG]["parts"][:2]}
    rows = pa.concat_tables([played.rows_of(read_parts), played.rows_of(release["s002"])])
    rows = rows.filter(pc.equal(rows["target_date"], target))
    rows = rows.filter(pc.equal(rows["method"], "model"))
    assert rows.num_rows > 2
    for name, values in (
        ("predicted_sales", first.predicted),
        ("lower_80", first.lower),
        ("upper_80", first.upper),
    ):
        np.testing.assert_allclose(sorted(values), sorted(rows[name].to_pylist()), rtol=1e-9)
    scores = scoring.read(played.storage, played.pointer.accuracy[target]).to_pylist()
    [sold] = {row["actual"] for row in scores if row["store_id"] == "s002"}
    assert sold in first.actual


def test_without_forecasts_by_the_model_nothing_is_scored(played):
    assert len(item_scores(played).of_day(NIGHTS[-1], [BIG], "other").actual) == 0
    assert len(item_scores(played).of_day(NIGHTS[-1], [], MODEL).actual) == 0


def test_items_that_cannot_be_read_cost_their_scores_only(played, caplog):
    for key in played.part_keys(NIGHTS[0]):
        played.tamper(key, lambda data: data[:100])
    assert played.run(EVE).status == "published"
    assert "do not count the items" in caplog.text
    assert kept(played).widths.totals != CALIBRATED.totals
