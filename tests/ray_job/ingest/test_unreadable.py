"""A raw object that cannot be read is that delivery's fault, and not the night's."""

import tempfile
from pathlib import Path

import pytest

from ray_job.bucket.errors import StorageError
from ray_job.bucket.storage import open_bucket
from ray_job.ingest.reading.deliveries import problem_of_object
from ray_job.ingest.reading.raw_files import BadFilesError
from ray_job.settings import Run, Sales, Settings
from tests.fake_gcs import Fault
from tests.ray_job.bucket.test_storage import as_nobody
from tests.support.delivery_bucket import DeliveryBucket

GOOD = "store_id,date,sales\n1,2026-01-01,5\n"
BAD = "store_id,date,sales\n2,2026-01-01,7\n"


@pytest.fixture
def remote(gcs, tmp_path):
    settings = Settings(run=Run(storage_wait_seconds=3))
    bucket = DeliveryBucket(open_bucket("gs://chain"), settings, tmp_path / "local")
    bucket.drop("good.csv", GOOD)
    bucket.drop("bad.csv", BAD)
    return bucket


def _comes_in_later(bucket):
    assert bucket.ingest(leave_out_bad=True).bad == ()
    assert bucket.rows("store_id", "sales") == [("1", 5.0), ("2", 7.0)]
    assert bucket.ingest().files == 0


FAULTS = {
    "refused": (Fault("status", status=403), "the storage refuses access (403): Injected fault"),
    "damaged for good": (Fault("corrupt"), "the bytes received do not match the checksum"),
    "cut for good": (Fault("truncate", clean=True), "the bytes received do not match"),
    "not understood": (Fault("status", status=400), "the storage answers 400: Injected fault"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_an_object_that_cannot_be_read_is_left_out_by_name(remote, gcs, kind):
    fault, sentence = FAULTS[kind]
    fault.key, fault.op, fault.times = "raw_data/bad.csv", "get", None
    gcs.faults.add(fault)
    with pytest.raises(BadFilesError, match=r"^raw_data/bad\.csv: "):
        remote.ingest()
    report = remote.ingest(leave_out_bad=True)
    assert report.files == 1
    [bad] = report.bad
    assert bad.key == "raw_data/bad.csv"
    assert sentence in bad.reason
    assert bad.reason.endswith("; the next ingest tries it again")
    assert "{" not in bad.reason
    gcs.faults.clear()
    _comes_in_later(remote)


@pytest.mark.parametrize("kind", ["corrupt", "truncate", "status"])
def test_an_object_that_is_damaged_once_is_asked_for_again(remote, gcs, kind):
    status = 503 if kind == "status" else None
    fault = gcs.faults.add(Fault(kind, key="raw_data/bad.csv", op="get", status=status))
    assert remote.ingest().files == 2
    assert fault.fired == 1
    _comes_in_later(remote)


def test_a_storage_that_is_away_is_no_deliverys_fault(remote, gcs):
    gcs.faults.add(Fault("status", key="raw_data/*", op="get", status=503, times=None))
    gcs.faults.add(Fault("status", key="raw_data/*", op="stat", status=503, times=None))
    with pytest.raises(StorageError, match=r"^raw_data/"):
        remote.ingest(leave_out_bad=True)
    gcs.faults.clear()
    _comes_in_later(remote)


def test_an_object_that_is_never_answered_while_the_storage_is_well(remote):
    error = StorageError("raw_data/bad.csv: the storage did not answer in time: 503")
    assert problem_of_object(remote.storage, "raw_data/bad.csv", error) == (
        "the storage did not answer in time: 503; the next ingest tries it again"
    )


def test_an_earlier_version_that_cannot_be_read(remote, gcs):
    tills = remote.with_settings(sales=Sales(rows="transactions"))
    tills.ingest()
    gcs.faults.add(Fault("status", key="raw_data/good.csv", op="get", status=403, times=None))
    with pytest.raises(BadFilesError, match=r"good\.csv: raw_data/good\.csv, a file of the same"):
        tills.ingest(tills.file("good.csv", f"{GOOD}1,2026-01-01,6\n"))


def test_a_file_without_permission_is_left_out_by_name():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "bucket")
        root.mkdir()
        bucket = DeliveryBucket(open_bucket(str(root)), Settings(), root)
        bucket.drop("good.csv", GOOD)
        path = root / bucket.drop("bad.csv", BAD)
        for folder in (root.parent, root, path.parent):
            folder.chmod(0o777)
        path.chmod(0)
        with as_nobody():
            report = bucket.ingest(leave_out_bad=True)
        assert (report.files, [bad.reason for bad in report.bad]) == (
            1,
            ["raw_data/bad.csv: Permission denied; the next ingest tries it again"],
        )
        path.chmod(0o644)
        _comes_in_later(bucket)
