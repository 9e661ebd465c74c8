"""Late data, backfills, rollbacks, racing runs and lost workers: whole nights, without Ray."""

import threading
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import StorecastError
from ray_job.data import delta
from ray_job.data.histories import open_histories
from ray_job.execution.inline import InlineExecutor
from ray_job.model.model import ModelDescription
from ray_job.nightly.prepare import RunRequest
from ray_job.nightly.run import prepare
from ray_job.operations.clean_up import clean_up
from ray_job.operations.rollback import rollback
from ray_job.settings import Plan, Run
from tests.fake_gcs import Fault
from tests.support.faults import Losing
from tests.support.shop import BIG, DAY, LAST, STORES, generations, midnight

POISONED = "s003"


def sale(store, day, sales=777.0):
    return {"store_id": store, "date": day, "sales": sales, "open": 1, "promo": 0}


def test_a_late_upload_is_forecast_by_the_same_run(shop):
    """Monday's sales of two stores arrive after midnight: only their chunks are done again."""
    sunday = LAST + DAY
    shop.deliver([sale("s010", sunday)])
    shop.run(sunday)
    before = shop.stores()
    shop.deliver([sale("s010", sunday, 3000.0)], name="later", now=midnight(sunday))
    receipt = shop.run("current", now=midnight(sunday) + timedelta(hours=1))
    assert (receipt.status, receipt.as_of) == ("published", sunday)
    done = [chunk for chunk in receipt.chunks if not chunk.adopted]
    assert len(done) == 1
    after = shop.stores()
    assert after["s010"]["predicted"] != before["s010"]["predicted"]
    assert after["s010"]["run_id"] == receipt.run_id
    others = set(STORES) - {"s010"}
    assert all(after[s]["predicted"] == before[s]["predicted"] for s in others)
    objects = generations(shop.storage)
    assert shop.run("current", now=midnight(sunday) + timedelta(hours=2)) == receipt
    assert generations(shop.storage) == objects


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
    # What was live at the time is not scored by it: its days were over when it was made.
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
    for key in [info.key for info in shop.storage.list("context/weather/")]:
        shop.storage.delete(key, shop.storage.stat(key).generation)
    described = shop.storage.read(keys.model_description("tiny"))
    learnt = ModelDescription.from_bytes(described, "tiny").as_of
    assert not shop.run(learnt, now=midnight(LAST)).hindsight
    assert shop.run(learnt - DAY, now=midnight(LAST)).hindsight
    assert shop.release(shop.pointer.dates[learnt - DAY]).header.hindsight


def test_a_backfill_without_weather_is_no_hindsight(shop):
    for key in [info.key for info in shop.storage.list("context/weather/")]:
        shop.storage.delete(key, shop.storage.stat(key).generation)
    assert not shop.run(LAST - 5 * DAY, now=midnight(LAST)).hindsight


def test_after_a_rollback(shop):
    first = shop.run(LAST - DAY)
    bad = shop.run(LAST)
    done = rollback(shop.storage)
    assert (done.release, done.abandoned) == (first.release, (bad.release,))
    # The hourly run does not bring the bad release or an older as-of back.
    for as_of in ("current", LAST, LAST - 3 * DAY):
        held = shop.run(as_of, now=midnight(LAST))
        assert (held.status, held.exit_code) == ("held", 3)
        assert shop.pointer.current == first.release
    # The next night does publish, and carries nothing from the bad one.
    shop.deliver([sale(store, LAST + DAY) for store in STORES[1:9]], now=midnight(LAST + DAY))
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
    barrier, done = threading.Barrier(2), []

    def work():
        barrier.wait()
        done.append(shop.run())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.exit_code for one in done} == {0}
    assert [entry.as_of for entry in shop.pointer.history] == [LAST, LAST - DAY]
    assert len(shop.part_keys()) == len(done[0].chunks)
    shop.check()


def test_a_slow_night_that_ends_after_an_hourly_run(shop):
    """Its stores were read before the late upload, and it is the last to publish."""
    late = {}

    class Slow:
        def run(self, tasks, spec):
            yield from InlineExecutor().run(tasks, spec)
            if not late:
                late["done"] = True
                shop.deliver([sale("s002", LAST, 9999.0)])
                shop.run(LAST)

    shop.by(Slow()).run(LAST)
    version = open_histories(shop.storage).version
    assert shop.stores()["s002"]["table_version"] == version
    assert shop.stores()["s004"]["as_of"] == LAST
    sold = shop.all_rows()
    shop.run(LAST)
    assert shop.all_rows().equals(sold)


def test_a_night_overtaken_by_the_next_one(shop):
    class Slow:
        def run(self, tasks, spec):
            yield from InlineExecutor().run(tasks, spec)
            if spec.basis.as_of == LAST - DAY:
                shop.run(LAST)

    slow = shop.by(Slow()).run(LAST - DAY)
    assert slow.status == "published"
    assert shop.pointer.current_entry.as_of == LAST
    assert shop.pointer.dates[LAST - DAY] == slow.release


def test_what_was_vacuumed_between_plan_and_read(shop):
    shop.run(LAST - DAY)
    acted = {}

    class Vacuumed:
        """A replacement commits and the old files go, after the plan was made."""

        def run(self, tasks, spec):
            if not acted:
                acted["old"] = set(shop.partition_files(POISONED))
                shop.deliver([sale(POISONED, LAST, 4321.0)], replace=True)
                for key in acted["old"] - set(shop.partition_files(POISONED)):
                    shop.storage.delete(key, shop.storage.stat(key).generation)
            yield from InlineExecutor().run(tasks, spec)

    receipt = shop.by(Vacuumed()).run()
    assert acted["old"] - set(shop.partition_files(POISONED))
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    assert receipt.table_version == delta.open_table(shop.storage, keys.BATCH_DATA).version()
    shop.check()


def test_a_store_that_kills_its_worker_is_found_by_halving(shop):
    shop = shop.having(plan=Plan(chunk_rows=700))
    shop.run(LAST - DAY)
    losing = Losing(InlineExecutor(), lambda task: POISONED in task.chunk.store_ids)
    receipt = shop.by(losing).run()
    assert receipt.exit_code == 4
    assert [(one.store_id, one.reason_code) for one in receipt.failures] == [
        (POISONED, "killed_worker")
    ]
    theirs = [stores for stores in losing.seen if POISONED in stores]
    assert theirs[0] == theirs[1]
    assert [len(stores) for stores in theirs[1:]] == sorted(
        (len(stores) for stores in theirs[1:]), reverse=True
    )
    assert theirs[-1] == [POISONED]
    expected = shop.stores()
    assert {row["as_of"] for name, row in expected.items() if name != POISONED} == {LAST}
    before = generations(shop.storage)
    again = Losing(InlineExecutor(), lambda _: True)
    assert shop.by(again).run() == receipt
    assert again.seen == []
    assert generations(shop.storage) == before
    shop.check()


def test_a_piece_put_together_is_what_the_whole_would_be(shop):
    shop = shop.having(plan=Plan(chunk_rows=700))
    shop.run(publish=False)
    whole = {key: shop.storage.read(key) for key in shop.part_keys()}
    for key in whole:
        shop.storage.delete(key, shop.storage.stat(key).generation)
    turns = {}

    def lost(task):
        """Every chunk is lost twice, then goes through in pieces."""
        if task.chunk.n_stores == 1:
            return False
        turns[task.chunk.digest] = turns.get(task.chunk.digest, 0) + 1
        return turns[task.chunk.digest] <= 2

    shop.by(Losing(InlineExecutor(), lost)).run()
    pieces = shop.all_rows()
    for key in shop.part_keys():
        shop.storage.delete(key, shop.storage.stat(key).generation)
    shop.run(force=True)
    assert shop.all_rows().equals(pieces)


def test_whoever_is_done_first_a_second_run_writes_nothing(shop):
    """The big store is cut into chunks, which end in any order."""
    for number, order in enumerate((sorted, lambda digests: sorted(digests, reverse=True))):

        class Shuffled:
            def run(self, tasks, spec, order=order):
                done = {one.digest: one for one in InlineExecutor().run(tasks, spec)}
                yield from (done[digest] for digest in order(done))

        night = LAST - number * DAY
        receipt = shop.by(Shuffled()).run(night)
        assert len(shop.stores(receipt.release)[BIG]["parts"]) > 1
        before = generations(shop.storage)
        assert shop.run(night) == receipt
        assert generations(shop.storage) == before


def test_a_lost_task_is_done_once_more(shop):
    lost = []

    def once(task):
        return POISONED in task.chunk.store_ids and not (lost and True) and not lost.append(1)

    receipt = shop.by(Losing(InlineExecutor(), once)).run()
    assert (receipt.status, receipt.stores.failed) == ("published", 0)
    assert lost == [1]


def test_a_storage_that_fails_for_a_while(gcs_shop, gcs):
    """A part with a failure that was not the data's own fault is done again, but not for ever."""
    shop = gcs_shop
    shop.run(LAST - DAY)
    gcs.faults.add(Fault("status", op="get", key="*store_id=s003/*", status=403, times=None))
    seen = []
    for hour in range(5):
        receipt = shop.run(now=midnight(LAST) + timedelta(hours=hour))
        assert receipt.exit_code == 4
        seen.append(len(shop.part_keys()))
    assert receipt.failures[0].reason_code == "storage"
    # Three attempts, then the last one counts until somebody forces it.
    assert seen == [seen[0], seen[0] + 1, seen[0] + 2, seen[0] + 2, seen[0] + 2]
    gcs.faults.clear()
    assert shop.run().exit_code == 4
    assert shop.run(force=True).exit_code == 0
    assert shop.stores()["s003"]["as_of"] == LAST


def test_a_part_that_cannot_be_written(gcs_shop, gcs):
    """All stores of its chunk are `failed`, without a part; the next run does that chunk."""
    shop = gcs_shop
    shop.run(LAST - DAY)
    prepared = prepare(shop.storage, shop.settings, RunRequest(as_of=LAST), midnight(LAST))
    (chunk,) = [one.chunk for one in prepared.planned_chunks if "s003" in one.chunk.store_ids]
    part = f"{keys.PARTS}as_of={LAST}/{chunk.digest}-*"
    gcs.faults.add(Fault("status", op="insert", key=part, status=403, times=None))
    receipt = shop.run(force=True)
    assert receipt.exit_code == 4
    assert {one.store_id for one in receipt.failures} == set(chunk.store_ids)
    assert {one.reason_code for one in receipt.failures} == {"storage"}
    stores = shop.stores()
    assert {stores[name]["as_of"] for name in chunk.store_ids} == {LAST - DAY}
    assert {stores[name]["as_of"] for name in set(stores) - set(chunk.store_ids)} == {LAST}
    there = set(shop.part_keys())
    assert not [key for key in there if chunk.digest in key]
    shop.check()
    gcs.faults.clear()
    assert shop.run(now=midnight(LAST) + timedelta(hours=1)).exit_code == 0
    (new,) = set(shop.part_keys()) - there
    assert chunk.digest in new
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
    """A late upload is rubbish: the forecast of the same night stays, and says why it is old."""
    shop.run()
    good = shop.forecast("s004")
    shop.deliver([sale("s004", LAST)])
    newest = next(iter(set(shop.partition_files("s004")) - {""}))
    shop.tamper(newest, lambda _: b"")
    receipt = shop.run()
    assert receipt.exit_code == 4
    assert receipt.failures[0].last_good_as_of == LAST
    row = shop.stores()["s004"]
    assert (row["outcome"], row["as_of"], row["carried_since"]) == ("failed", LAST, None)
    assert shop.forecast("s004").equals(good)


def test_old_parts_are_not_adopted(shop):
    """Clean-up may be about to delete what nothing reaches."""
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
