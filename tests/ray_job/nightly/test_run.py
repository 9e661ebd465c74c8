"""Whole nights without Ray: what is in the bucket afterwards."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ray_job.bucket import keys, receipts
from ray_job.bucket.errors import ConflictError, CorruptError, InputError, StorecastError
from ray_job.bucket.storage.directory import DirectoryStorage
from ray_job.data.histories import open_histories
from ray_job.settings import Gates, Plan, Run
from tests.support.shop import BIG, DAY, LAST, STORES, Shop, generations, midnight, sales_row


def test_a_night(shop):
    receipt = shop.run()
    assert (receipt.status, receipt.exit_code, receipt.published) == ("published", 0, True)
    assert (receipt.stores.ok, receipt.stores.closed, receipt.stores.fallback) == (8, 1, 1)
    assert all(gate.passed for gate in receipt.gates)
    stores = shop.stores()
    assert sorted(stores) == list(STORES)
    assert {row["as_of"] for row in stores.values()} == {LAST}
    assert stores["s009"]["outcome"] == "closed"
    assert stores["s009"]["predicted"] == [0.0] * 7
    assert stores["s005"]["outcome"] == "fallback"
    assert "3 observations" in stores["s005"]["reason"]
    assert stores[BIG]["items"] == 12
    assert len(stores[BIG]["parts"]) > 1
    rows = shop.forecast("s002")
    assert rows["target_date"].to_pylist() == [LAST + k * DAY for k in range(1, 8)]
    assert rows["days_ahead"].to_pylist() == list(range(1, 8))
    assert rows["method"].to_pylist()[0] == "closed"  # a Sunday
    shop.check()


def test_totals_are_sums_over_items(shop):
    shop.run()
    row = shop.stores()[BIG]
    rows = shop.forecast(BIG)
    by_day = np.array(rows["predicted_sales"]).reshape(12, 7).sum(axis=0)
    assert row["predicted"] == pytest.approx(by_day.tolist(), rel=1e-12)
    lower, upper = np.array(row["lower_80"]), np.array(row["upper_80"])
    opened = by_day > 0
    assert (lower[opened] < by_day[opened]).all()
    assert (by_day[opened] < upper[opened]).all()
    items_upper = np.array(rows["upper_80"]).reshape(12, 7).sum(axis=0)
    assert (upper[opened] < items_upper[opened]).all()  # bounds of items don't add up


def test_a_store_of_one_item_has_its_interval(shop):
    shop.run()
    row, rows = shop.stores()["s002"], shop.forecast("s002")
    for name in ("lower_80", "upper_80"):
        assert row[name] == pytest.approx(rows[name].to_pylist(), rel=1e-9)


def test_the_second_run_writes_nothing(shop):
    first = shop.run()
    before = generations(shop.storage)
    again = shop.run(now=midnight(LAST).replace(hour=2))
    assert generations(shop.storage) == before
    assert again == first


def test_an_unpublished_run_leaves_the_pointer_alone(shop):
    receipt = shop.run(publish=False)
    assert (receipt.status, receipt.published, receipt.release) == ("unpublished", False, None)
    assert shop.storage.stat(keys.POINTER) is None
    assert shop.part_keys()
    published = shop.run()
    assert published.status == "published"
    assert all(chunk.adopted for chunk in published.chunks)


def test_other_chunks_hold_identical_rows(shop):
    shop.run(publish=False)
    parts_before = shop.part_keys()
    rows = []
    for limits in (
        Plan(chunk_rows=420),
        Plan(chunk_rows=10_000_000),
        Plan(chunk_rows=1),
        Plan(chunk_rows=300, chunk_bytes=4_000),
    ):
        other = shop.having(plan=limits)
        other.run(force=True)
        rows.append(other.all_rows())
    assert len(shop.part_keys()) > len(parts_before)
    for made in rows[1:]:
        assert made.equals(rows[0])
    assert rows[0].num_rows == (len(STORES) - 1 + 12) * 7


def test_some_stores_of_a_night(shop):
    shop.run(LAST - DAY)
    receipt = shop.run(stores=["s002", "s003"], force=True)
    stores = shop.stores()
    assert receipt.stores.carried == 8
    assert {name for name, row in stores.items() if row["as_of"] == LAST} == {"s002", "s003"}
    assert stores["s004"]["carried_since"] == LAST
    assert stores["s004"]["outcome"] == "ok"


def test_the_whole_night_after_some_stores(shop):
    shop.run(stores=["s002"], force=True)
    shop.run()
    assert {row["as_of"] for row in shop.stores().values()} == {LAST}


def test_a_trial_of_some_stores_counts_these_only(shop):
    for _ in range(2):
        receipt = shop.run(stores=["s002", "s003"], publish=False, force=True)
        assert receipt.status == "unpublished"
        assert (receipt.stores.expected, receipt.stores.ok, receipt.stores.no_data) == (2, 2, 0)
        shop.run()


def test_a_run_for_the_current_release_before_the_first_publication(shop):
    """The hourly job of a new installation: that it has nothing to do is no error."""
    receipt = shop.run("current")
    assert (receipt.status, receipt.exit_code, receipt.published) == ("unchanged", 0, False)
    assert "nothing was published yet" in receipt.message
    assert shop.storage.stat(keys.POINTER) is None
    assert shop.part_keys() == []
    assert shop.run().status == "published"


def test_the_newest_sales_give_the_as_of(shop):
    assert shop.run(None).as_of == LAST
    shop.run(LAST - DAY)
    assert shop.run("current").as_of == LAST


def test_scores_of_the_nights_before(shop):
    for back in (3, 2, 1, 0):
        shop.run(LAST - back * DAY)
    current = shop.pointer
    assert set(current.accuracy) == {LAST - k * DAY for k in range(3)}
    table = pa.parquet.read_table(pa.BufferReader(shop.storage.read(current.accuracy[LAST])))
    rows = [row for row in table.to_pylist() if row["store_id"] == "s002"]
    assert [(row["as_of"], row["days_ahead"]) for row in rows] == [
        (LAST - 3 * DAY, 3),
        (LAST - 2 * DAY, 2),
        (LAST - DAY, 1),
    ]
    earlier = shop.stores(current.dates[LAST - DAY])["s002"]
    assert rows[-1]["predicted"] == earlier["predicted"][0]
    assert shop.stores()["s002"]["data_through"] == LAST
    assert rows[-1]["actual"] > 0


def test_a_receipt_lies_beside_each_run(shop):
    receipt = shop.run(submission="night-1")
    assert receipts.of_night(shop.storage, LAST) == [receipt]
    assert receipt.submission == "night-1"
    assert receipt.model_version == "tiny"
    assert receipt.rows_read == sum(chunk.rows for chunk in receipt.chunks)
    assert len(receipt.chunks) == len(shop.part_keys())


def test_a_restart_after_the_receipt_was_lost_writes_one(shop):
    first = shop.run()
    key = keys.receipt(LAST, first.run_id)
    shop.storage.delete(key, shop.storage.stat(key).generation)
    again = shop.run()
    assert (again.run_id, again.status) == (first.run_id, "published")
    assert "written by a later run" in again.message
    before = generations(shop.storage)
    assert shop.run() == again
    assert generations(shop.storage) == before


@dataclass(frozen=True)
class Interrupted(DirectoryStorage):
    """A bucket in which something happens right before the first receipt is written."""

    events: list = field(default_factory=list)

    def create(self, key, data):
        if key.startswith(keys.RECEIPTS) and self.events:
            self.events.pop()()
        super().create(key, data)


def test_a_run_whose_receipt_another_one_wrote_is_no_error(shop):
    """The other run finds the publication, and no receipt. The one that published is alive."""
    others = []
    root = Path(shop.storage.url)
    slow = Interrupted(root, [lambda: others.append(shop.run())])
    receipt = Shop(slow).run()
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    (other,) = others
    assert (other.run_id, other.status, other.exit_code) == (receipt.run_id, "published", 0)
    assert "died" not in other.message
    assert receipts.read(shop.storage, LAST, receipt.run_id) == receipt
    assert receipt.written_by is None
    before = generations(shop.storage)
    assert shop.run() == receipt
    assert generations(shop.storage) == before


@pytest.mark.parametrize("table", [keys.BATCH_DATA, *map(keys.context, keys.CONTEXT_KINDS)])
@pytest.mark.parametrize("left", [0, 40])
def test_a_damaged_newest_commit_is_an_error_and_not_an_empty_table(shop, table, left):
    log = f"{table}/_delta_log/"
    newest = max(info.key for info in shop.storage.list(log) if info.key.endswith(".json"))
    shop.tamper(newest, lambda data: data[:left])
    with pytest.raises(CorruptError, match=f"^{newest}: "):
        shop.run()
    assert shop.pointer.current is None


@pytest.mark.parametrize("table", [keys.BATCH_DATA, keys.context("stores")])
def test_a_log_without_its_first_commit_is_an_error_and_not_a_new_table(shop, table):
    first = f"{table}/_delta_log/{0:020d}.json"
    shop.storage.delete(first, shop.storage.stat(first).generation)
    with pytest.raises(StorecastError, match=table):
        shop.run()
    before = generations(shop.storage)
    with pytest.raises(StorecastError, match=table):
        shop.deliver([sales_row("s002", LAST)])
    assert generations(shop.storage) == before


def test_a_receipt_of_another_run_is_never_replaced(shop):
    receipt = shop.run()
    with pytest.raises(ConflictError):
        receipts.write_own(shop.storage, receipt.model_copy(update={"message": "other"}))


def test_a_run_with_other_settings_leaves_a_receipt_of_its_own(shop):
    """It changes nothing, as all parts are there, but whoever reads it learns of the settings."""
    first = shop.run()
    other = shop.having(gates=Gates(mean_factor=3.0))
    again = other.run()
    assert (again.status, again.published) == ("unchanged", False)
    assert again.run_id != first.run_id
    assert again.all_settings_digest != first.all_settings_digest
    assert receipts.read(shop.storage, LAST, again.run_id) == again
    key = keys.receipt(LAST, first.run_id)
    shop.storage.delete(key, shop.storage.stat(key).generation)
    assert other.run().run_id == first.run_id  # it is written in the name of the one that published
    assert receipts.read(shop.storage, LAST, first.run_id).published


@pytest.mark.parametrize("as_of", [LAST + DAY, date(2026, 12, 24)])
def test_the_future_is_refused(shop, as_of):
    with pytest.raises(InputError, match=f"^--as-of {as_of}: the last date that can be used is"):
        shop.run(as_of, now=midnight(LAST))


def test_yesterday_is_that_of_the_time_zone(shop):
    """At 22:30 UTC the next day has begun in Berlin in summer, but not in winter."""
    shop.run(LAST, now=datetime(2026, 3, 28, 23, 30, tzinfo=UTC))
    with pytest.raises(InputError):
        shop.run(LAST, now=datetime(2026, 3, 28, 22, 30, tzinfo=UTC))


def test_an_unknown_store(shop):
    with pytest.raises(InputError, match="--stores: store 'x' has no history"):
        shop.run(stores=["s001", "x"])


def test_no_model_yet(shop):
    key = keys.CURRENT_MODEL
    shop.storage.delete(key, shop.storage.stat(key).generation)
    with pytest.raises(InputError, match="there is no model yet"):
        shop.run()


def test_nothing_ingested_yet(storage):
    with pytest.raises(InputError, match="there are no histories"):
        open_histories(storage)


def test_a_model_of_other_bytes_is_refused(shop):
    shop.tamper(keys.model_artifact("tiny"), lambda data: data[:-1] + b"x")
    before = generations(shop.storage)
    with pytest.raises(CorruptError, match="sha256"):
        shop.run()
    assert generations(shop.storage) == before


def test_a_horizon_beyond_the_models(shop):
    with pytest.raises(InputError, match="horizon = 9: model tiny forecasts 7 days ahead"):
        shop.having(horizon=9).run()


def test_a_shorter_horizon_beside_a_longer_one(shop):
    """After the setting was changed, a release has both horizons until every store is forecast."""
    shop.run()
    receipt = shop.having(horizon=5).run(stores=["s002"])
    assert receipt.published
    stores = shop.stores()
    assert len(stores["s002"]["predicted"]) == 5
    assert len(stores["s003"]["predicted"]) == 7
    shop.having(horizon=5).run(LAST - DAY)
    shop.check()


def test_settings_that_matter_make_other_parts(shop):
    shop.run()
    before = set(shop.part_keys())
    shop.having(run=Run(minimum_history_days=50)).run()
    assert not before & {key for key in shop.part_keys() if key not in before}
    assert len(shop.part_keys()) == 2 * len(before)
    shop.having(run=Run(chunk_deadline_seconds=7)).run(force=True)
    assert len(shop.part_keys()) == 2 * len(before)
