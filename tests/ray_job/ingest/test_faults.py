"""An ingest that dies, or whose answers are lost: the bucket then, and after the next ingest."""

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import StorecastError
from ray_job.bucket.storage import open_bucket
from ray_job.ingest import CompactScope
from ray_job.settings import Ingest, Sales, Settings
from tests.fake_gcs import Crash, FakeGcs, Fault
from tests.support.delivery_bucket import NOW, DeliveryBucket


@pytest.fixture
def remote(gcs: FakeGcs, tmp_path) -> DeliveryBucket:
    settings = Settings(sales=Sales(rows="transactions"), ingest=Ingest(compact_above_files=2))
    return DeliveryBucket(open_bucket("gs://chain"), settings, tmp_path)


NIGHT = CompactScope(NOW.date().fromordinal(11))
"""The turn of store 1: the sha256 of "1" begins with 0x6b."""


def deliver(remote: DeliveryBucket) -> None:
    """Ingest two days. Put a third day, with a new column, and its weather into raw_data."""
    for day in (1, 2):
        remote.ingest(remote.file(f"{day}.csv", f"store_id,date,sales\n1,2026-01-0{day},{day}\n"))
    remote.drop("3.csv", "store_id,date,sales,open\n1,2026-01-03,3,1\n2,2026-01-03,1,1\n")
    remote.drop("weather/w.csv", "region,date,temp\nBE,2026-01-03,5\n")


def finish(remote: DeliveryBucket) -> None:
    """The command that is repeated after it died."""
    remote.ingest(remote.file("4.csv", "store_id,date,sales\n1,2026-01-04,4\n"), compact=NIGHT)


def check(remote: DeliveryBucket) -> None:
    assert remote.rows("store_id", "date", "sales", "open") == [
        ("1", "2026-01-01", 1.0, None),
        ("1", "2026-01-02", 2.0, None),
        ("1", "2026-01-03", 3.0, 1.0),
        ("1", "2026-01-04", 4.0, None),
        ("2", "2026-01-03", 1.0, 1.0),
    ]
    assert len(remote.files_of("1")) == 1
    assert remote.context("weather") == [{"region": "BE", "date": "2026-01-03", "temp": 5.0}]


@pytest.mark.parametrize("moment", ["before_write", "after_write"])
def test_a_crash_at_any_write_loses_and_doubles_nothing(remote, gcs, moment):
    for number in range(100):
        gcs.reset()
        gcs.create_bucket("chain")
        deliver(remote)
        writes: list[str] = []

        def crash(key: str, writes: list[str] = writes, number: int = number) -> None:
            writes.append(key)
            if len(writes) == number + 1:
                raise Crash

        setattr(gcs, moment, crash)
        try:
            finish(remote)
        except StorecastError:
            assert gcs.crashed
        crashed = gcs.crashed
        gcs.recover()
        finish(remote)
        check(remote)
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
def test_a_lost_answer_is_neither_a_failure_nor_a_second_delivery(remote, gcs, key, nth):
    deliver(remote)
    fault = gcs.faults.add(Fault("ack_lost", op="insert", key=key, nth=nth))
    finish(remote)
    check(remote)
    assert fault.fired == 1
    assert remote.ingest().files == 0


def test_transient_faults_change_nothing(remote, gcs):
    gcs.faults.transient(0.15, seed=7)
    deliver(remote)
    finish(remote)
    gcs.faults.clear()
    check(remote)


def test_a_corrupted_raw_file_is_noticed(remote, gcs):
    remote.drop("a.csv", "store_id,date,sales\n" + "1,2026-01-01,5\n")
    gcs.faults.add(Fault("corrupt", op="get", key="raw_data/a.csv", times=None))
    with pytest.raises(StorecastError, match=r"raw_data/a\.csv"):
        remote.ingest()
    gcs.faults.clear()
    assert remote.ingest().files == 1


def test_forbidden_fails_at_once(remote, gcs):
    gcs.denied.append(f"{keys.BATCH_DATA}/*")
    with pytest.raises(StorecastError):
        remote.ingest(remote.file("a.csv", "store_id,date,sales\n1,2026-01-01,5\n"))
