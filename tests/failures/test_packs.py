"""Packs that cannot be read, written or used: a night without them is the same night."""

import json
import time
from datetime import timedelta

import pytest

from ray_job.bucket import keys
from ray_job.data.packs.index import read_index
from ray_job.ingest import ingest
from ray_job.nightly.job import run_job
from ray_job.nightly.request import RunRequest
from ray_job.progress import SilentProgress
from tests.fake_gcs import Fault
from tests.support.processes import log_events
from tests.support.shop import LAST, STORES, midnight, sales_row

DAY = timedelta(days=1)
LEFT_OUT = ("run_id", "generated_at")


def rows(shop):
    table = shop.all_rows()
    return table.select([name for name in table.column_names if name not in LEFT_OUT])


def of_another_program(data):
    """An index whose packs have a field more, and lack one."""
    document = json.loads(data)
    for pack in document["packs"]:
        pack["codec"] = "zstd"
        del pack["sections"]
    return json.dumps(document).encode()


def of_other_buckets(data):
    document = json.loads(data)
    for pack in document["packs"]:
        pack["key"] = f"{keys.PACKS}v1/of-another-bucket.arrows"
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("denied", "warning"),
    [
        (["packs/*"], "packs/v1/index.json"),
        (["packs/v1/*.arrows"], "no store could be read from one"),
    ],
)
def test_packs_that_may_not_be_read_change_nothing_and_are_told_once(
    gcs_shop, gcs, denied, warning
):
    shop = gcs_shop
    assert shop.run(force=True).packed_stores > 0
    expected = rows(shop)
    shop.delete(keys.PARTS)
    gcs.denied.extend(denied)
    receipt = shop.run(force=True)
    assert receipt.status == "published"
    assert receipt.packed_stores == 0
    (sentence,) = receipt.warnings
    assert warning in sentence
    assert rows(shop).equals(expected)
    gcs.denied.clear()
    shop.check()


def test_a_run_that_makes_a_single_part_counts_the_stores_that_it_read_from_packs(shop):
    """Also where the part has some items of a store that is cut."""
    receipt = shop.run()
    assert receipt.packed_stores == len(STORES) < sum(chunk.stores for chunk in receipt.chunks)
    for chunk in receipt.chunks:
        shop.delete(chunk.part)
        again = shop.run(force=True)
        assert (again.packed_stores, again.warnings) == (chunk.stores, ())


@pytest.mark.parametrize("change", [of_another_program, of_other_buckets, lambda _: b""])
def test_an_index_of_another_program_or_bucket_changes_nothing(shop, change):
    shop.run()
    expected = rows(shop)
    shop.delete(keys.PARTS)
    shop.tamper(keys.PACK_INDEX, change)
    receipt = shop.run(force=True)
    assert receipt.packed_stores == 0
    assert len(receipt.warnings) == 1
    assert rows(shop).equals(expected)


def test_a_bucket_without_packs_says_so_in_the_receipt(shop):
    shop.run()
    expected = rows(shop)
    shop.delete(keys.PARTS, keys.PACKS)
    receipt = shop.run(force=True)
    assert receipt.packed_stores == 0
    assert not receipt.warnings
    assert rows(shop).equals(expected)


def test_an_ingest_that_may_not_write_packs_goes_on_and_says_so_once(gcs_shop, gcs):
    shop = gcs_shop
    before = read_index(shop.storage)
    gcs.faults.add(Fault("status", op="insert", key="packs/*", status=403, times=None))
    shop.storage.create(
        "raw_data/late.csv", b"store_id,date,sales\ns001,2020-01-01,5\ns002,2020-01-01,6\n"
    )
    report = ingest(shop.storage, shop.settings, now=midnight(LAST))
    assert report.rows == 2
    assert "packs/v1/" in report.not_packed
    assert len(gcs.log.select(status=403)) == 1
    gcs.faults.clear()
    assert read_index(shop.storage) == before
    assert shop.run().status == "published"


def test_the_requests_of_a_night_do_not_grow_with_the_days_delivered(gcs_shop, gcs):
    """Only the plan reads files of stores: those of a sample, and of what new stores resemble."""
    shop = gcs_shop
    grouped = [store for store in STORES if store != "s001"]  # the others' items fill chunks
    nights = {}
    for number in range(1, 9):
        day = LAST + number * DAY
        shop.deliver(
            [sales_row(store, day) for store in STORES], name=f"day-{number}", now=midnight(day)
        )
        gcs.log.clear()
        receipt = shop.run(day, now=midnight(day))
        for store in grouped:
            key = f"batch_data/store_id={store}/*"
            assert gcs.log.count(op="get", key=key) <= 2 * len(shop.partition_files(store))
            assert gcs.log.count(op="stat", key=key) == 0
        nights[number] = gcs.log.count(op="get", key="packs/v1/*.arrows") / len(receipt.chunks)
    assert max(nights.values()) <= 5  # small packs are joined


@pytest.mark.usefixtures("local_ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_a_night_packs_histories_that_have_no_packs_after_it_published(shop, capsys):
    shop.delete(keys.PACKS)

    def night():
        return run_job(
            shop.storage,
            shop.settings,
            RunRequest(as_of=LAST, force=True),
            ingest_first=True,
            now=midnight(LAST),
            clock=time.monotonic,
            progress=SilentProgress(),
        )

    assert night().packed_stores == 0
    (event,) = log_events(capsys.readouterr().err, "packing_finished")
    assert event["severity"] == "INFO"
    assert event["files"] >= len(STORES)
    expected = rows(shop)
    shop.delete(keys.PARTS)
    assert night().packed_stores == len(STORES)
    assert rows(shop).equals(expected)
    assert log_events(capsys.readouterr().err, "packing_finished") == []
