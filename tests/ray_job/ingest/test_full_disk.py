"""Full disks of the workspace and of the bucket. A limit of the length of files simulates them.

The ingest raises one sentence, commits nothing, and names no raw file as bad.
"""

import io
import re
import resource
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import StorageError
from ray_job.bucket.storage import open_bucket
from ray_job.bucket.storage.directory import DirectoryStorage
from ray_job.data.delta import open_table
from ray_job.ingest import CompactScope, attempt, compact, ingest
from ray_job.settings import Ingest, Settings
from tests.support.delivery_bucket import NOW, DeliveryBucket

EARLIER = "store_id,date,sales,a,b\n1,2009-12-31,5,1,2\n"


@contextmanager
def full(limit: int):
    """This process cannot write files of more than `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def full_bucket(limit: int):
    """The same limit, but only for writes into a bucket that is a directory."""

    def limited(write):
        @wraps(write)
        def limited_write(*args, **options):
            with full(limit):
                return write(*args, **options)

        return limited_write

    with pytest.MonkeyPatch.context() as patch:
        for name in ("create", "replace", "write_unseen", "upload"):
            patch.setattr(DirectoryStorage, name, limited(getattr(DirectoryStorage, name)))
        patch.setattr(attempt, "commit", limited(attempt.commit))
        yield


def large_file(rows: int, stores: int) -> bytes:
    """A Parquet file of less than a megabyte, which takes more than 20 MB in memory."""
    k = np.arange(rows)
    columns = {
        "store_id": pa.array(k % stores).cast(pa.string()),
        "item_id": pa.array(k // (stores * 3000)).cast(pa.string()),
        "date": pa.array(np.datetime64("2010-01-01") + (k // stores) % 3000),
        "sales": (k % 977) / 7.0,
        "a": (k % 1009) * 1.5,
        "b": (k % 1013) * 2.5,
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def version(bucket: DeliveryBucket) -> int:
    table = open_table(bucket.storage, keys.BATCH_DATA)
    assert table is not None
    return int(table.version())


@pytest.mark.parametrize(
    ("rows", "stores", "memory"),
    [
        pytest.param(300_000, 100, "20MB", id="while it checks"),
        pytest.param(900_000, 100, "40MB", id="while it reads"),
        pytest.param(1_100_000, 1, "1GB", id="while it writes a big store"),
    ],
)
def test_a_full_workspace(bucket, tmp_path, monkeypatch, rows, stores, memory):
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "work"))
    bucket.ingest(bucket.file("a.csv", EARLIER))
    bucket = bucket.with_settings(ingest=Ingest(memory_limit=memory))
    bucket.drop("big.parquet", large_file(rows, stores))
    bucket.drop("small.csv", "store_id,date,sales\n1,2009-12-30,4\n")
    before, first_version = bucket.everything(), version(bucket)
    for leave_out_bad in (False, True):
        with (
            full(2_000_000),
            pytest.raises(StorageError, match="the disk is full or cannot be written") as raised,
        ):
            bucket.ingest(leave_out_bad=leave_out_bad)
        assert len(str(raised.value).splitlines()) == 1
        assert list((tmp_path / "work").iterdir()) == []
        assert bucket.everything() == before
    bucket = bucket.with_settings(ingest=Ingest())
    report = bucket.ingest(leave_out_bad=True)
    assert (report.files, report.rows, report.bad) == (2, rows + 1, ())
    assert version(bucket) == first_version + 1
    assert bucket.history().num_rows == rows + 2
    assert bucket.ingest().files == 0


def test_a_memory_limit_that_is_too_small(bucket):
    """The error names the setting, and no raw file."""
    bucket = bucket.with_settings(ingest=Ingest(memory_limit="10MB"))
    bucket.drop("big.parquet", large_file(300_000, 100))
    with pytest.raises(StorageError, match=r"^ingest\.memory_limit is too small: [^\n]+$"):
        bucket.ingest(leave_out_bad=True)
    assert bucket.history().num_rows == 0
    assert bucket.with_settings(ingest=Ingest()).ingest().files == 1


def test_no_room_for_what_is_fetched(gcs, tmp_path):
    bucket = DeliveryBucket(open_bucket("gs://chain"), Settings(), tmp_path / "local")
    bucket.drop("big.parquet", large_file(300_000, 100))
    before = bucket.everything()
    with full(100_000), pytest.raises(StorageError, match=r"^raw_data/big\.parquet: .*too large$"):
        bucket.ingest(leave_out_bad=True)
    assert bucket.everything() == before
    assert bucket.ingest().files == 1


@pytest.fixture
def local_bucket(tmp_path) -> DeliveryBucket:
    """A bucket in a directory, with two ingested days."""
    (tmp_path / "bucket").mkdir()
    bucket = DeliveryBucket(open_bucket(str(tmp_path / "bucket")), Settings(), tmp_path / "local")
    for day in (1, 2):
        bucket.ingest(bucket.file(f"{day}.csv", f"store_id,date,sales\n1,2009-12-0{day},5\n"))
    return bucket


def days(stores: int) -> str:
    lines = [f"{k % stores},2010-01-{1 + k // stores:02d},{k / 8}" for k in range(30 * stores)]
    return "store_id,date,sales\n" + "\n".join(lines) + "\n"


def failed_ingest(bucket: DeliveryBucket, limit: int, *files: Path) -> str:
    """The sentence of an ingest into a full bucket. The histories stay the same."""
    before, first_version = bucket.history(), version(bucket)
    with full_bucket(limit), pytest.raises(StorageError) as raised:
        bucket.ingest(*files, leave_out_bad=not files)
    assert version(bucket) == first_version
    assert bucket.history().equals(before)
    assert not list(
        Path(bucket.storage.url).rglob(".storecast-[!f]*")
    )  # the lock's name begins with `f`
    (sentence,) = str(raised.value).splitlines()
    return sentence


def check_ingest_with_space(bucket: DeliveryBucket, rows: int, *files: Path) -> None:
    """With space the same command ingests each row once."""
    before = bucket.history().num_rows
    assert bucket.ingest(*files).files == 1
    assert bucket.history().num_rows == before + rows
    assert bucket.ingest(*files).files == 0


def test_no_room_for_a_raw_file(local_bucket):
    new = local_bucket.file("new.csv", days(20))
    assert "raw_data/new.csv: File too large" in failed_ingest(local_bucket, 5_000, new)
    assert "raw_data/new.csv" not in local_bucket.objects()
    check_ingest_with_space(local_bucket, 600, new)


def test_no_room_for_a_partition(local_bucket):
    local_bucket.drop("new.csv", days(20))
    sentence = failed_ingest(local_bucket, 1_000)
    assert sentence.startswith("batch_data/store_id=")
    check_ingest_with_space(local_bucket, 600)


def test_no_room_for_the_commit(local_bucket):
    """The commit is the last write, after all files of the histories."""
    local_bucket.drop("new.csv", days(100))
    before = set(local_bucket.objects())
    sentence = failed_ingest(local_bucket, 20_000)
    assert re.search(r"/batch_data/: [^\n]*: File too large", sentence)
    unseen = set(local_bucket.objects()) - before
    assert len([key for key in unseen if key.endswith(".parquet")]) == 100
    assert not [key for key in unseen if "_delta_log" in key]
    check_ingest_with_space(local_bucket, 3_000)


def test_no_room_for_context(local_bucket):
    lines = [f"R{k},2010-01-01,{k / 7}" for k in range(2_000)]
    local_bucket.drop("weather/w.csv", "region,date,temp\n" + "\n".join(lines) + "\n")
    assert "context/weather" in failed_ingest(local_bucket, 10_000)
    assert local_bucket.context("weather") == []
    assert local_bucket.ingest().files == 1
    assert len(local_bucket.context("weather")) == 2_000
    assert local_bucket.ingest().files == 0


def test_no_room_to_compact(local_bucket):
    """Until there is space, the files and their rows stay the same."""
    local_bucket = local_bucket.with_settings(ingest=Ingest(compact_above_files=1))
    nights = [CompactScope((NOW + timedelta(days=day)).date()) for day in range(16)]
    (night,) = [night for night in nights if night.includes("1")]
    before, files, first_version = (
        local_bucket.history(),
        local_bucket.files_of("1"),
        version(local_bucket),
    )
    assert len(files) == 2
    with (
        full_bucket(500),
        pytest.raises(StorageError, match=r"^batch_data/store_id=1/[^\n]*too large$"),
    ):
        compact(local_bucket.storage, local_bucket.settings, night, now=NOW)
    with full_bucket(500):
        report = ingest(local_bucket.storage, local_bucket.settings, compact=night, now=NOW)
    assert (report.files, report.compacted) == (0, 0)
    assert re.search(r"^batch_data/store_id=1/[^\n]*too large$", report.not_compacted)
    assert (local_bucket.files_of("1"), version(local_bucket)) == (files, first_version)
    assert local_bucket.history().equals(before)
    assert compact(local_bucket.storage, local_bucket.settings, night, now=NOW) == 1
    assert len(local_bucket.files_of("1")) == 1
    assert local_bucket.history().equals(before)
