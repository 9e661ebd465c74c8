"""Whole nights without Ray: late data, backfills, rollbacks, racing runs, lost workers."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import StorecastError
from ray_job.data import delta
from ray_job.data.histories import open_histories
from ray_job.execution.inline import InlineExecutor
from ray_job.model.model import ModelDescription
from ray_job.nightly.request import RunRequest
from ray_job.nightly.run import prepare
from ray_job.operations.clean_up import clean_up
from ray_job.operations.rollback import rollback
from ray_job.settings import Plan, Run
from tests.fake_gcs import Fault
from tests.support.faults import ActingAfter, Losing
from tests.support.shop import BIG, DAY, LAST, STORES, generations, midnight, sales_row
from tests.support.threads import at_once

POISONED = "s003"


def test_a_late_upload_is_forecast_by_the_same_run(shop):
    """A store's sales of Sunday are corrected after midnight: only its chunk is made again."""
    sunday = LAST + DAY
    shop.deliver([sales_row("s010", sunday)])
    shop.run(sunday)
    before = shop.stores()
    shop.deliver([sales_row("s010", sunday, 3000.0)], name="later", now=midnight(sunday))
    receipt = shop.run("current", now=midnight(sunday) + timedelta(hours=1))
    assert (receipt.status, receipt.as_of) == ("published", sunday)
    new_chunks = [chunk for chunk in receipt.chunks if not chunk.adopted]
    assert len(new_chunks) == 1
    after = shop.stores()
    assert after["s010"]["predicted"] != before["s010"]["predicted"]
    assert after["s010"]["run_id"] == receipt.run_id
    others = set(STORES) - {"s010"}
    assert all(after[store]["predicted"] == before[store]["predicted"] for store in others)
    written = generations(shop.storage)
    assert shop.run("current", now=midnight(sunday) + timedelta(hours=2)) == receipt
    assert generations(shop.storage) == written


def test_a_backfill_never_moves_current_back(shop):
    newest = shop.run()
    scored = dict(shop.pointer.accuracy)
    receipt = shop.run(LAST - 10 * DAY, now=midnight(LAST))
    assert (receipt.status, receipt.hindsight) == ("published", True)
    current = shop.pointer
    assert current.current == newest.release
    assert current.dates[LAST - 10 * DAY] == receipt.release
    assert shop.release(receipt.release).header.hindsight
    assert not shop.release().header.hindsight
    assert current.accuracy == scored
    # The backfill is not scored: when it was made, its target dates were over.
    again = shop.run(LAST - DAY, now=midnight(LAST))
    table = pa.concat_tables(
        [
            pa.parquet.read_table(pa.BufferReader(shop.storage.read(key)))
            for key in shop.pointer.accuracy.values()
        ]
        or [pa.table({"as_of": pa.array([], pa.date32())})]
    )
    assert LAST - 10 * DAY not in table["as_of"].to_pylist()
    assert again.hindsight


def test_a_backfill_does_not_replace_what_was_scored(shop):
    for back in (2, 1, 0):
        shop.run(LAST - back * DAY)
    before = {day: shop.storage.read(key) for day, key in shop.pointer.accuracy.items()}
    shop.having(run=Run(minimum_history_days=50)).run(LAST - 2 * DAY, now=midnight(LAST))
    shop.run(LAST)
    assert {day: shop.storage.read(key) for day, key in shop.pointer.accuracy.items()} == before


def test_a_backfill_by_a_model_that_saw_later_days_is_hindsight(shop):
    shop.delete("context/weather/")
    description = shop.storage.read(keys.model_description("tiny"))
    trained_through = ModelDescription.from_bytes(description, "tiny").as_of
    assert not shop.run(trained_through, now=midnight(LAST)).hindsight
    assert shop.run(trained_through - DAY, now=midnight(LAST)).hindsight
    assert shop.release(shop.pointer.dates[trained_through - DAY]).header.hindsight


def test_a_backfill_without_weather_is_no_hindsight(shop):
    shop.delete("context/weather/")
    assert not shop.run(LAST - 5 * DAY, now=midnight(LAST)).hindsight


def test_after_a_rollback(shop):
    first = shop.run(LAST - DAY)
    bad = shop.run(LAST)
    done = rollback(shop.storage)
    assert (done.release, done.abandoned) == (first.release, (bad.release,))
    # Neither the bad release nor an older as-of becomes current.
    for as_of in ("current", LAST, LAST - 3 * DAY):
        held = shop.run(as_of, now=midnight(LAST))
        assert (held.status, held.exit_code) == ("held", 3)
        assert shop.pointer.current == first.release
    # The next night is published, and carries no forecast of the bad release.
    shop.deliver([sales_row(store, LAST + DAY) for store in STORES[1:9]], now=midnight(LAST + DAY))
    for key in shop.partition_files("s010"):
        shop.tamper(key, lambda _: b"")
    receipt = shop.run(LAST + DAY)
    assert receipt.exit_code == 4
    row = shop.stores()["s010"]
    assert (row["as_of"], row["run_id"]) == (LAST - DAY, first.run_id)
    shop.check()


def test_force_after_a_rollback(shop):
    shop.run(LAST - DAY)
    shop.run(LAST)
    rollback(shop.storage)
    receipt = shop.run(LAST, force=True)
    assert receipt.status == "published"
    assert shop.pointer.hold_through is None
    assert shop.release().header.forced
    assert {row["as_of"] for row in shop.stores().values()} == {LAST}


def test_two_runs_of_the_same_night_at_once(shop):
    shop.run(LAST - DAY)
    receipts = at_once([shop.run] * 2)
    assert {receipt.exit_code for receipt in receipts} == {0}
    assert [entry.as_of for entry in shop.pointer.history] == [LAST, LAST - DAY]
    assert len(shop.part_keys()) == len(receipts[0].chunks)
    shop.check()


def test_a_slow_night_that_ends_after_an_hourly_run(shop):
    """The slow night read its stores before the late upload, and publishes last."""
    delivered = []

    def hourly_run(_):
        if not delivered:
            delivered.append(sales_row("s002", LAST, 9999.0))
            shop.deliver(delivered)
            shop.run(LAST)

    shop.by(ActingAfter(InlineExecutor(), hourly_run)).run(LAST)
    version = open_histories(shop.storage).version
    assert shop.stores()["s002"]["table_version"] == version
    assert shop.stores()["s004"]["as_of"] == LAST
    rows = shop.all_rows()
    shop.run(LAST)
    assert shop.all_rows().equals(rows)


def test_a_night_overtaken_by_the_next_one(shop):
    slow_executor = ActingAfter(InlineExecutor(), lambda _: shop.run(LAST))
    slow = shop.by(slow_executor).run(LAST - DAY)
    assert slow.status == "published"
    assert shop.pointer.current_entry.as_of == LAST
    assert shop.pointer.dates[LAST - DAY] == slow.release


def test_files_that_are_vacuumed_between_plan_and_read(shop):
    shop.run(LAST - DAY)
    old_files = set()

    class Vacuumed:
        """After the plan, rows of a store are replaced and its old files are deleted."""

        def run(self, tasks, spec):
            if not old_files:
                old_files.update(shop.partition_files(POISONED))
                shop.deliver([sales_row(POISONED, LAST, 4321.0)], replace=True)
                shop.delete(*(old_files - set(shop.partition_files(POISONED))))
            yield from InlineExecutor().run(tasks, spec)

    receipt = shop.by(Vacuumed()).run()
    assert old_files - set(shop.partition_files(POISONED))
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    assert receipt.table_version == delta.open_table(shop.storage, keys.BATCH_DATA).version()
    shop.check()


def test_a_store_that_kills_its_worker_is_found_by_halving(shop):
    shop = shop.having(plan=Plan(chunk_rows=700))
    shop.run(LAST - DAY)
    losing = Losing(InlineExecutor(), lambda task: POISONED in task.chunk.store_ids)
    receipt = shop.by(losing).run()
    assert receipt.exit_code == 4
    assert [(failure.store_id, failure.reason_code) for failure in receipt.failures] == [
        (POISONED, "killed_worker")
    ]
    poisoned_tasks = [stores for stores in losing.handed_out if POISONED in stores]
    assert poisoned_tasks[0] == poisoned_tasks[1]
    assert [len(stores) for stores in poisoned_tasks[1:]] == sorted(
        (len(stores) for stores in poisoned_tasks[1:]), reverse=True
    )
    assert poisoned_tasks[-1] == [POISONED]
    stores_of_release = shop.stores()
    assert {row["as_of"] for name, row in stores_of_release.items() if name != POISONED} == {LAST}
    before = generations(shop.storage)
    unused = Losing(InlineExecutor(), lambda _: True)
    assert shop.by(unused).run() == receipt
    assert unused.handed_out == []
    assert generations(shop.storage) == before
    shop.check()


def test_a_chunk_in_pieces_gives_the_rows_of_the_whole_chunk(shop):
    shop = shop.having(plan=Plan(chunk_rows=700))
    shop.run(publish=False)
    shop.delete(*shop.part_keys())
    attempts = {}

    def lost(task):
        """Every chunk is lost twice, so that its stores are forecast in pieces."""
        if task.chunk.n_stores == 1:
            return False
        attempts[task.chunk.digest] = attempts.get(task.chunk.digest, 0) + 1
        return attempts[task.chunk.digest] <= 2

    shop.by(Losing(InlineExecutor(), lost)).run()
    rows_from_pieces = shop.all_rows()
    shop.delete(*shop.part_keys())
    shop.run(force=True)
    assert shop.all_rows().equals(rows_from_pieces)


def test_the_order_in_which_chunks_end_changes_nothing(shop):
    """The big store is cut into chunks, which may end in any order."""
    for number, order in enumerate((sorted, lambda digests: sorted(digests, reverse=True))):

        class Shuffled:
            def run(self, tasks, spec, order=order):
                results = {result.digest: result for result in InlineExecutor().run(tasks, spec)}
                yield from (results[digest] for digest in order(results))

        night = LAST - number * DAY
        receipt = shop.by(Shuffled()).run(night)
        assert len(shop.stores(receipt.release)[BIG]["parts"]) > 1
        before = generations(shop.storage)
        assert shop.run(night) == receipt
        assert generations(shop.storage) == before


def test_a_lost_task_is_done_once_more(shop):
    times_handed_out = 0

    def first_time(task):
        nonlocal times_handed_out
        times_handed_out += POISONED in task.chunk.store_ids
        return POISONED in task.chunk.store_ids and times_handed_out == 1

    receipt = shop.by(Losing(InlineExecutor(), first_time)).run()
    assert (receipt.status, receipt.stores.failed) == ("published", 0)
    assert times_handed_out == 2


def test_a_storage_that_fails_for_a_while(gcs_shop, gcs):
    """A part with a failure of the storage is made again, up to three attempts."""
    shop = gcs_shop
    shop.delete(keys.PACKS)
    shop.run(LAST - DAY)
    gcs.faults.add(Fault("status", op="get", key="*store_id=s003/*", status=403, times=None))
    numbers_of_parts = []
    for hour in range(5):
        receipt = shop.run(now=midnight(LAST) + timedelta(hours=hour))
        assert receipt.exit_code == 4
        numbers_of_parts.append(len(shop.part_keys()))
    assert receipt.failures[0].reason_code == "storage"
    # After three attempts only `--force` makes another one.
    first = numbers_of_parts[0]
    assert numbers_of_parts == [first, first + 1, first + 2, first + 2, first + 2]
    gcs.faults.clear()
    assert shop.run().exit_code == 4
    assert shop.run(force=True).exit_code == 0
    assert shop.stores()["s003"]["as_of"] == LAST


def test_a_part_that_cannot_be_written(gcs_shop, gcs):
    """All stores of its chunk are `failed`, without a part; the next run makes that part."""
    shop = gcs_shop
    shop.run(LAST - DAY)
    run_plan = prepare(shop.storage, shop.settings, RunRequest(as_of=LAST), midnight(LAST))
    (chunk,) = [
        planned.chunk for planned in run_plan.planned_chunks if "s003" in planned.chunk.store_ids
    ]
    part = f"{keys.PARTS}as_of={LAST}/{chunk.digest}-*"
    gcs.faults.add(Fault("status", op="insert", key=part, status=403, times=None))
    receipt = shop.run(force=True)
    assert receipt.exit_code == 4
    assert {failure.store_id for failure in receipt.failures} == set(chunk.store_ids)
    assert {failure.reason_code for failure in receipt.failures} == {"storage"}
    stores = shop.stores()
    assert {stores[name]["as_of"] for name in chunk.store_ids} == {LAST - DAY}
    assert {stores[name]["as_of"] for name in set(stores) - set(chunk.store_ids)} == {LAST}
    parts_before = set(shop.part_keys())
    assert not [key for key in parts_before if chunk.digest in key]
    shop.check()
    gcs.faults.clear()
    assert shop.run(now=midnight(LAST) + timedelta(hours=1)).exit_code == 0
    (new_part,) = set(shop.part_keys()) - parts_before
    assert chunk.digest in new_part
    assert {row["as_of"] for row in shop.stores().values()} == {LAST}
    shop.check()


def test_a_storage_that_forbids_everything_fails_at_once(gcs_shop, gcs):
    shop = gcs_shop
    shop.run(LAST - DAY)
    gcs.log.clear()
    gcs.denied.append("results/*")
    with pytest.raises(StorecastError, match=r"results/"):
        shop.run()
    assert len(gcs.log.select(status=403)) < 5
    gcs.denied.clear()
    shop.check()


def test_a_rerun_that_fails_keeps_the_nights_own_forecast(shop):
    """The late upload is unreadable: the earlier forecast of the night stays, with the reason."""
    shop.run()
    good = shop.forecast("s004")
    shop.deliver([sales_row("s004", LAST)])
    newest = next(iter(set(shop.partition_files("s004")) - {""}))
    shop.tamper(newest, lambda _: b"")
    receipt = shop.run()
    assert receipt.exit_code == 4
    assert receipt.failures[0].last_good_as_of == LAST
    row = shop.stores()["s004"]
    assert (row["outcome"], row["as_of"], row["carried_since"]) == ("failed", LAST, None)
    assert shop.forecast("s004").equals(good)


def test_old_parts_are_not_adopted(shop):
    """Clean-up may delete an old part that no release refers to."""
    shop.run(publish=False)
    parts = set(shop.part_keys())
    receipt = shop.run(now=midnight(LAST) + timedelta(days=6, hours=2))
    assert not any(chunk.adopted for chunk in receipt.chunks)
    assert {key for key in shop.part_keys() if key not in parts} == {
        key.replace("-0.parquet", "-1.parquet") for key in parts
    }
    later = midnight(LAST) + timedelta(days=12)
    assert shop.run(now=later).run_id == receipt.run_id


def test_a_broken_part_is_not_adopted(shop):
    shop.run(publish=False)
    key = shop.part_keys()[0]
    shop.tamper(key, lambda data: data[:60] + bytes([data[60] ^ 0xFF]) + data[61:])
    receipt = shop.run()
    assert sum(not chunk.adopted for chunk in receipt.chunks) == 1
    assert key.replace("-0.parquet", "-1.parquet") in shop.part_keys()
    shop.check()


def test_clean_up_after_some_nights(shop):
    for back in (2, 1, 0):
        shop.run(LAST - back * DAY)
    shop.run(LAST - DAY, publish=False, force=True, stores=["s002"])
    views = {name: shop.all_rows(name) for name in shop.pointer.dates.values()}
    done = clean_up(shop.storage, datetime.now(UTC) + timedelta(days=8))
    assert done.objects > 0
    assert {name: shop.all_rows(name) for name in views} == views
    shop.check()
    before = generations(shop.storage)
    shop.run(LAST)
    assert generations(shop.storage) == before
