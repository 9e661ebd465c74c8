"""An ingest that dies, or whose answers are lost: what is in the bucket, and after another try."""

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import StorecastError
from ray_job.bucket.storage import open_bucket
from ray_job.ingest import CompactScope
from ray_job.settings import Ingest, Sales, Settings
from tests.fake_gcs import Crash, FakeGcs, Fault
from tests.ray_job.ingest.conftest import NOW, Desk


@pytest.fixture
def shop(gcs_bucket: FakeGcs, tmp_path) -> Desk:
    assert gcs_bucket.keys("shop") == []
    settings = Settings(sales=Sales(rows="transactions"), ingest=Ingest(compact_above_files=2))
    return Desk(open_bucket("gs://shop"), settings, tmp_path)


NIGHT = CompactScope(NOW.date().fromordinal(11))
"""The turn of store 1, whose sha256 begins with 0x6b."""


def deliver(shop: Desk) -> None:
    """Two earlier days and, in raw_data, a third one with a new column and its weather."""
    for day in (1, 2):
        shop.ingest(shop.file(f"{day}.csv", f"store_id,date,sales\n1,2026-01-0{day},{day}\n"))
    shop.drop("3.csv", "store_id,date,sales,open\n1,2026-01-03,3,1\n2,2026-01-03,1,1\n")
    shop.drop("weather/w.csv", "region,date,temp\nBE,2026-01-03,5\n")


def finish(shop: Desk) -> None:
    """The command that is given again after it died."""
    shop.ingest(shop.file("4.csv", "store_id,date,sales\n1,2026-01-04,4\n"), compact=NIGHT)


def check(shop: Desk) -> None:
    assert shop.rows("store_id", "date", "sales", "open") == [
        ("1", "2026-01-01", 1.0, None),
        ("1", "2026-01-02", 2.0, None),
        ("1", "2026-01-03", 3.0, 1.0),
        ("1", "2026-01-04", 4.0, None),
        ("2", "2026-01-03", 1.0, 1.0),
    ]
    assert len(shop.files_of("1")) == 1
    assert shop.context("weather") == [{"region": "BE", "date": "2026-01-03", "temp": 5.0}]


@pytest.mark.parametrize("moment", ["before_write", "after_write"])
def test_a_crash_at_any_write_loses_and_doubles_nothing(shop, gcs_bucket, moment):
    for number in range(100):
        gcs_bucket.reset()
        gcs_bucket.create_bucket("shop")
        deliver(shop)
        writes: list[str] = []

        def crash(key: str, writes: list[str] = writes, number: int = number) -> None:
            writes.append(key)
            if len(writes) == number + 1:
                raise Crash

        setattr(gcs_bucket, moment, crash)
        try:
            finish(shop)
        except StorecastError:
            assert gcs_bucket.crashed
        crashed = gcs_bucket.crashed
        gcs_bucket.recover()
        finish(shop)
        check(shop)
        if not crashed:
            assert number >= 10
            return
    pytest.fail("the ingest never got through")


@pytest.mark.parametrize(
    ("key", "nth"),
    [
        ("raw_data/4.csv", 1),
        ("batch_data/_ingest/*", 1),
        ("batch_data/_delta_log/*", 1),  # the new column
        ("batch_data/_delta_log/*", 2),  # the ingest
        ("batch_data/_delta_log/*", 3),  # the compaction
        ("context/weather/_delta_log/*", 1),  # the table
        ("context/weather/_delta_log/*", 2),  # its column
        ("context/weather/_delta_log/*", 3),  # its rows
        ("batch_data/*.parquet", 1),
        ("context/*.parquet", 1),
    ],
)
def test_a_lost_answer_is_neither_a_failure_nor_a_second_delivery(shop, gcs_bucket, key, nth):
    deliver(shop)
    fault = gcs_bucket.faults.add(Fault("ack_lost", op="insert", key=key, nth=nth))
    finish(shop)
    check(shop)
    assert fault.fired == 1
    assert shop.ingest().files == 0


def test_transient_faults_change_nothing(shop, gcs_bucket):
    gcs_bucket.faults.transient(0.15, seed=7)
    deliver(shop)
    finish(shop)
    gcs_bucket.faults.clear()
    check(shop)


def test_a_corrupted_raw_file_is_noticed(shop, gcs_bucket):
    shop.drop("a.csv", "store_id,date,sales\n" + "1,2026-01-01,5\n")
    gcs_bucket.faults.add(Fault("corrupt", op="get", key="raw_data/a.csv", times=None))
    with pytest.raises(StorecastError, match=r"raw_data/a\.csv"):
        shop.ingest()
    gcs_bucket.faults.clear()
    assert shop.ingest().files == 1


def test_forbidden_fails_at_once(shop, gcs_bucket):
    gcs_bucket.denied.append(f"{keys.BATCH_DATA}/*")
    with pytest.raises(StorecastError):
        shop.ingest(shop.file("a.csv", "store_id,date,sales\n1,2026-01-01,5\n"))
