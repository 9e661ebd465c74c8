"""New stores and new items: forecast by similar ones, until their own level takes over."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest

from ray_job.bucket.errors import InputError
from ray_job.data.histories import open_histories
from ray_job.data.history_block import decode, encode
from ray_job.evaluation import scoring
from ray_job.forecasting.chunk import forecast_histories, read_chunk
from ray_job.model import registry
from ray_job.model.item_levels import ItemLevels
from ray_job.model.model import ModelDescription
from ray_job.nightly.prepare import prepare
from ray_job.nightly.request import RunRequest
from ray_job.nightly.similar_stores import new_stores
from ray_job.settings import Plan, Run
from tests.support.shop import BIG, DAY, LAST, SETTINGS, STORES, midnight

NEW = "s900"
OLD = [f"o{number:02d}" for number in range(8)]
UNCUT = Plan(chunk_rows=1_000_000)


def rows(store, days, level, *, item=None, noise=0.1, seed=0):
    """Rows of the last days: half as much on Mondays, closed on Sundays."""
    rng = np.random.default_rng([seed, *store.encode()])
    sold = []
    for ago in range(days - 1, -1, -1):
        day = LAST - ago * DAY
        closed = day.weekday() == 6
        usual = level * (0.5 if day.weekday() == 0 else 1.0)
        sales = 0.0 if closed else round(usual * float(np.exp(rng.normal(0, noise))), 2)
        row = {"store_id": store, "date": day, "sales": sales, "open": int(not closed)}
        sold.append(row if item is None else {**row, "item_id": item})
    return sold


def stores_table(extra):
    """The chain's stores with region and format, and further ones: (id, region, format, like)."""
    lines = [f"{store},BE,shop," for store in STORES]
    lines += [f"{store},XX,kiosk," for store in OLD]
    lines += [",".join(row) for row in extra]
    return "\n".join(["store_id,region,format,like", *lines, ""])


@pytest.fixture
def kiosks(shop):
    """Eight old kiosks in region XX, that sell 200 to 340 a day."""
    shop.deliver([row for k, store in enumerate(OLD) for row in rows(store, 80, 200 + 20 * k)])
    return shop


def forecast(shop, store=NEW):
    row = shop.stores()[store]
    return row, np.array(row["predicted"])


def test_a_store_without_history_is_forecast_by_its_region_and_format(kiosks):
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "")]), name="stores", kind="stores")
    receipt = kiosks.run()
    assert receipt.exit_code == 0
    row, predicted = forecast(kiosks)
    assert (row["outcome"], row["reason_code"]) == ("fallback", "little_history")
    assert "the median of 8 stores of region XX and format kiosk" in row["reason"]
    assert row["data_through"] is None
    by_weekday = dict(zip(row["target_dates"], predicted, strict=True))
    for day, sales in by_weekday.items():
        usual = {6: 0.0, 0: 135.0}.get(day.weekday(), 270.0)
        assert sales == pytest.approx(usual, rel=0.12)
    assert set(row["method"]) == {"closed", "similar"}
    table = kiosks.forecast(NEW)
    assert set(table["method"].to_pylist()) == {"closed", "similar"}
    opened = predicted > 0
    assert (np.array(row["lower_80"])[opened] < predicted[opened]).all()
    assert (np.array(row["upper_80"])[opened] > predicted[opened]).all()
    kiosks.check()


def test_the_store_that_is_named_counts_more(kiosks):
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "o07")]), name="stores", kind="stores")
    kiosks.run()
    row, predicted = forecast(kiosks)
    assert "by the usual sales of store o07" in row["reason"]
    assert predicted.max() == pytest.approx(340, rel=0.12)


def test_a_named_store_without_history_is_said_and_the_median_counts(kiosks, caplog):
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "nobody")]), name="stores", kind="stores")
    kiosks.run()
    assert "s900 is like 'nobody', which has no history of its own" in caplog.text
    assert forecast(kiosks)[1].max() == pytest.approx(270, rel=0.12)


def test_its_own_level_takes_over_as_days_come_in(kiosks):
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "")]), name="stores", kind="stores")
    levels = []
    for days in (0, 1, 3, 12):
        if days:
            kiosks.deliver(rows(NEW, days, 900.0, noise=0.0), name=f"new-{days}")
        kiosks.run(now=midnight(LAST).replace(hour=1 + days % 12, minute=days))
        levels.append(float(forecast(kiosks)[1].max()))
    assert levels[0] == pytest.approx(270, rel=0.12)
    assert levels == sorted(levels)
    assert levels[-1] == pytest.approx(900, rel=0.1)
    assert levels[1] > 1.3 * levels[0]
    kiosks.deliver(rows(NEW, 60, 900.0), name="old")
    kiosks.run(now=midnight(LAST).replace(hour=20))
    assert "model" in forecast(kiosks)[0]["method"]


def test_a_new_store_of_items_gets_those_of_the_similar_one(kiosks):
    kiosks.deliver(stores_table([(NEW, "BE", "shop", BIG)]), name="stores", kind="stores")
    kiosks.run()
    table = kiosks.forecast(NEW)
    assert set(table["item_id"].to_pylist()) == set(kiosks.forecast(BIG)["item_id"].to_pylist())
    assert set(table["method"].to_pylist()) == {"similar", "closed"}
    assert table["store_id"].to_pylist() == [NEW] * table.num_rows
    kiosks.check()


def test_rows_are_the_same_in_any_chunks(kiosks):
    extra = [(f"n{k}", "XX", "kiosk", "o03" if k == 1 else "") for k in range(4)]
    kiosks.deliver(stores_table(extra), name="stores", kind="stores")
    kiosks.deliver(rows("n2", 5, 500.0))
    kiosks.run()
    before = kiosks.all_rows()
    assert {f"n{k}" for k in range(4)} <= set(before["store_id"].to_pylist())
    for limits in (UNCUT, Plan(chunk_rows=100)):
        again = kiosks.having(plan=limits)
        again.delete("results/")
        again.run()
        assert again.all_rows().equals(before)


class BlockExecutor:
    """Forecasts what is left of histories after their way through a block of Ray Data."""

    def run(self, tasks, spec):
        for task in tasks:
            for histories in decode(encode([read_chunk(task, spec)])):
                yield forecast_histories(task, spec, histories)


def test_a_store_without_rows_is_not_lost_in_a_block(kiosks):
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "")]), name="stores", kind="stores")
    kiosks.run()
    before = kiosks.all_rows()
    kiosks.delete("results/")
    kiosks.by(BlockExecutor()).run()
    assert kiosks.all_rows().equals(before)
    assert NEW in before["store_id"].to_pylist()


def test_late_sales_of_a_similar_store_change_the_chunks_of_new_stores_only(kiosks):
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "o03")]), name="stores", kind="stores")
    kiosks.run()
    before = forecast(kiosks)[1]
    kiosks.deliver(
        [{"store_id": "o03", "date": LAST - DAY, "sales": 999.0, "open": 1}], name="late"
    )
    receipt = kiosks.run(now=midnight(LAST).replace(hour=3))
    made = [chunk for chunk in receipt.chunks if not chunk.adopted]
    assert 0 < len(made) < len(receipt.chunks)
    assert (forecast(kiosks)[1] >= before).all()
    assert (forecast(kiosks)[1] > before).any()


def test_the_second_run_of_a_night_writes_nothing(kiosks):
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "")]), name="stores", kind="stores")
    first = kiosks.run()
    assert kiosks.run(now=midnight(LAST).replace(hour=4)) == first


def test_forecasts_of_new_stores_are_scored(kiosks):
    night = LAST - DAY
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "")]), name="stores", kind="stores")
    kiosks.run(night)
    kiosks.deliver(rows(NEW, 1, 300.0), name="first")
    kiosks.run(LAST)
    scores = scoring.read(kiosks.storage, kiosks.pointer.accuracy[LAST])
    assert NEW in scores["store_id"].to_pylist()


def test_it_can_be_turned_off(kiosks):
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "")]), name="stores", kind="stores")
    kiosks.having(run=Run(similar_stores=False)).run()
    assert NEW not in kiosks.stores() or kiosks.stores()[NEW]["outcome"] == "no_data"


def test_a_new_store_can_be_forecast_alone(kiosks):
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "")]), name="stores", kind="stores")
    receipt = kiosks.run(stores=[NEW], publish=False)
    assert (receipt.stores.expected, receipt.stores.fallback) == (1, 1)


def test_a_store_that_is_neither_delivered_nor_described_is_unknown(kiosks):
    with pytest.raises(InputError, match="store 'nobody' has no history"):
        kiosks.run(stores=["nobody"], publish=False)


def test_history_that_is_taken_away_is_forecast_better_than_by_nothing(shop):
    """Eight stores of the same kind, each in turn without its history."""
    truth = {store: 300.0 * (1 + 0.1 * k) for k, store in enumerate(OLD)}
    shop.deliver([row for store in OLD[:-1] for row in rows(store, 80, truth[store])])
    shop.deliver(stores_table([]), name="stores", kind="stores")
    shop.run()
    row, predicted = forecast(shop, OLD[-1])
    actual = np.array(
        [
            0 if day.weekday() == 6 else truth[OLD[-1]] * (0.5 if day.weekday() == 0 else 1)
            for day in row["target_dates"]
        ]
    )
    assert np.abs(predicted - actual).sum() / actual.sum() < 0.35


def test_old_stores_are_not_new(shop):
    files = open_histories(shop.storage).files
    assert new_stores(files, STORES, LAST, 28) == ["s005"]
    assert new_stores(files, [*STORES, "s999"], LAST, 28) == ["s005", "s999"]
    assert new_stores(files, [], LAST, 28) == []


def test_a_plan_names_the_new_stores(kiosks):
    kiosks.deliver(stores_table([(NEW, "XX", "kiosk", "")]), name="stores", kind="stores")
    run_plan = prepare(kiosks.storage, SETTINGS, RunRequest(as_of=LAST), midnight(LAST))
    assert NEW in run_plan.spec.similar
    assert any(NEW in planned.chunk.store_ids for planned in run_plan.planned_chunks)


@pytest.fixture
def levels(shop):
    """The chain's model, and what it knows of items: kola sells 30 a day in a usual store."""
    artifact = registry.load(shop.storage)
    known = ModelDescription.from_bytes(artifact.description, "model.json")
    of_items = ItemLevels(stores={BIG: 2.0}, items={"kola": 30.0}, unknown=5.0)
    changed = known.model_copy(update={"version": "levels", "item_levels": of_items})
    registry.register(shop.storage, "levels", artifact.model, changed.to_bytes())
    registry.promote(shop.storage, "levels", midnight(LAST))
    return of_items


def of_item(shop, item):
    table = shop.forecast(BIG)
    return table.filter(pc.equal(table["item_id"], item)).to_pylist()


@pytest.mark.parametrize(("item", "usual"), [("kola", 60.0), ("nobody's", 10.0)])
def test_a_new_item_of_an_old_store_sells_as_it_does_in_others(shop, levels, item, usual):
    plan = [
        {"store_id": BIG, "item_id": item, "date": LAST + k * DAY, "sales": None, "open": 1}
        for k in range(1, 8)
    ]
    shop.deliver(plan, name="plan")
    shop.run()
    assert [row["method"] for row in of_item(shop, item)] == ["similar"] * 7
    for row in of_item(shop, item):
        assert row["predicted_sales"] == usual
        assert row["lower_80"] < usual < row["upper_80"]
    assert shop.stores()[BIG]["outcome"] == "ok"
    before = shop.all_rows()
    shop.check()
    again = shop.having(plan=UNCUT)
    again.delete("results/")
    again.run()
    assert again.all_rows().equals(before)


def test_a_new_item_that_sells_more_is_soon_forecast_higher(shop, levels):
    predicted = []
    for days in (1, 6, 20):
        shop.deliver(rows(BIG, days, 400.0, item="kola", noise=0.0), name=f"kola-{days}")
        shop.run(now=midnight(LAST).replace(hour=days))
        predicted.append(max(row["predicted_sales"] for row in of_item(shop, "kola")))
    assert 60.0 < predicted[0] < predicted[1] < predicted[2]
    shop.deliver(rows(BIG, 60, 400.0, item="kola"), name="old")
    shop.run(now=midnight(LAST).replace(hour=21))
    assert "similar" not in {row["method"] for row in of_item(shop, "kola")}
