"""Disks that are full, as files longer than a limit cannot be written: the workspace's, the bucket.

No commit, one sentence, nothing that readers see; and no delivery is blamed for it.
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
from ray_job.bucket.storage.directory import DirectoryStorage
from ray_job.bucket.errors import StorageError
from ray_job.bucket.storage import open_bucket
from ray_job.data.delta import open_table
from ray_job.ingest import CompactScope, attempt, compact, ingest
from ray_job.settings import Ingest, Settings
from tests.ray_job.ingest.conftest import NOW, Desk

EARLIER = "store_id,date,sales,a,b\n1,2009-12-31,5,1,2\n"


@contextmanager
def full(limit: int):
    """No file of this process can become longer than that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def full_bucket(limit: int):
    """The same of what is written into a bucket that is a directory, and of nothing else."""

    def limited(write):
        @wraps(write)
        def within(*given, **named):
            with full(limit):
                return write(*given, **named)

        return within

    with pytest.MonkeyPatch.context() as patch:
        for name in ("create", "replace", "write_unseen", "upload"):
            patch.setattr(DirectoryStorage, name, limited(getattr(DirectoryStorage, name)))
        patch.setattr(attempt, "commit", limited(attempt.commit))
        yield


def much(rows: int, stores: int) -> bytes:
    """A file of under a megabyte that takes more than twenty in memory."""
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


def version(desk: Desk) -> int:
    table = open_table(desk.storage, keys.BATCH_DATA)
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
def test_a_full_workspace(desk, tmp_path, monkeypatch, rows, stores, memory):
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "work"))
    desk.ingest(desk.file("a.csv", EARLIER))
    desk = desk.with_settings(ingest=Ingest(memory_limit=memory))
    desk.drop("big.parquet", much(rows, stores))
    desk.drop("small.csv", "store_id,date,sales\n1,2009-12-30,4\n")
    before, at = desk.everything(), version(desk)
    for leave_out_bad in (False, True):
        with (
            full(2_000_000),
            pytest.raises(StorageError, match="no room is left to work in") as told,
        ):
            desk.ingest(leave_out_bad=leave_out_bad)
        assert len(str(told.value).splitlines()) == 1
        assert list((tmp_path / "work").iterdir()) == []
        assert desk.everything() == before
    desk = desk.with_settings(ingest=Ingest())
    report = desk.ingest(leave_out_bad=True)
    assert (report.files, report.rows, report.bad) == (2, rows + 1, ())
    assert version(desk) == at + 1
    assert desk.history().num_rows == rows + 2
    assert desk.ingest().files == 0


def test_a_memory_limit_that_is_too_small(desk):
    """Said as such wherever it shows, and not of the file."""
    desk = desk.with_settings(ingest=Ingest(memory_limit="10MB"))
    desk.drop("big.parquet", much(300_000, 100))
    with pytest.raises(StorageError, match=r"^ingest\.memory_limit is too small: [^\n]+$"):
        desk.ingest(leave_out_bad=True)
    assert desk.history().num_rows == 0
    assert desk.with_settings(ingest=Ingest()).ingest().files == 1


def test_no_room_for_what_is_fetched(gcs_bucket, tmp_path):
    desk = Desk(open_bucket("gs://shop"), Settings(), tmp_path / "desk")
    desk.drop("big.parquet", much(300_000, 100))
    before = desk.everything()
    with full(100_000), pytest.raises(StorageError, match=r"^raw_data/big\.parquet: .*too large$"):
        desk.ingest(leave_out_bad=True)
    assert desk.everything() == before
    assert desk.ingest().files == 1


@pytest.fixture
def shelf(tmp_path) -> Desk:
    """A bucket in a directory, with two days in it."""
    (tmp_path / "bucket").mkdir()
    desk = Desk(open_bucket(str(tmp_path / "bucket")), Settings(), tmp_path / "desk")
    for day in (1, 2):
        desk.ingest(desk.file(f"{day}.csv", f"store_id,date,sales\n1,2009-12-0{day},5\n"))
    return desk


def days(stores: int) -> str:
    lines = [f"{k % stores},2010-01-{1 + k // stores:02d},{k / 8}" for k in range(30 * stores)]
    return "store_id,date,sales\n" + "\n".join(lines) + "\n"


def failed_for_room(desk: Desk, limit: int, *files: Path) -> str:
    """What an ingest says that finds no room in the bucket, whose readers see what they saw."""
    before, at = desk.history(), version(desk)
    with full_bucket(limit), pytest.raises(StorageError) as told:
        desk.ingest(*files, leave_out_bad=not files)
    assert version(desk) == at
    assert desk.history().equals(before)
    assert not list(Path(desk.storage.url).rglob(".storecast-[!f]*"))  # `f` begins the lock's name
    (sentence,) = str(told.value).splitlines()
    return sentence


def in_for_good(desk: Desk, rows: int, *files: Path) -> None:
    """The same command, with room: each row once, and nothing left to do."""
    before = desk.history().num_rows
    assert desk.ingest(*files).files == 1
    assert desk.history().num_rows == before + rows
    assert desk.ingest(*files).files == 0


def test_no_room_for_a_raw_file(shelf):
    new = shelf.file("new.csv", days(20))
    assert "raw_data/new.csv: File too large" in failed_for_room(shelf, 5_000, new)
    assert "raw_data/new.csv" not in shelf.objects()
    in_for_good(shelf, 600, new)


def test_no_room_for_a_partition(shelf):
    shelf.drop("new.csv", days(20))
    sentence = failed_for_room(shelf, 1_000)
    assert sentence.startswith("batch_data/store_id=")
    in_for_good(shelf, 600)


def test_no_room_for_the_commit(shelf):
    """The last write of all, of which the partitions are there already."""
    shelf.drop("new.csv", days(100))
    there = set(shelf.objects())
    sentence = failed_for_room(shelf, 20_000)
    assert re.search(r"/batch_data/: [^\n]*: File too large", sentence)
    unseen = set(shelf.objects()) - there
    assert len([key for key in unseen if key.endswith(".parquet")]) == 100
    assert not [key for key in unseen if "_delta_log" in key]
    in_for_good(shelf, 3_000)


def test_no_room_for_context(shelf):
    lines = [f"R{k},2010-01-01,{k / 7}" for k in range(2_000)]
    shelf.drop("weather/w.csv", "region,date,temp\n" + "\n".join(lines) + "\n")
    assert "context/weather" in failed_for_room(shelf, 10_000)
    assert shelf.context("weather") == []
    assert shelf.ingest().files == 1
    assert len(shelf.context("weather")) == 2_000
    assert shelf.ingest().files == 0


def test_no_room_to_compact(shelf):
    """The files stay as they are, and so do their rows, until there is room."""
    shelf = shelf.with_settings(ingest=Ingest(compact_above_files=1))
    nights = [CompactScope((NOW + timedelta(days=day)).date()) for day in range(16)]
    (night,) = [night for night in nights if night.includes("1")]
    before, files, at = shelf.history(), shelf.files_of("1"), version(shelf)
    assert len(files) == 2
    with (
        full_bucket(500),
        pytest.raises(StorageError, match=r"^batch_data/store_id=1/[^\n]*too large$"),
    ):
        compact(shelf.storage, shelf.settings, night, now=NOW)
    with full_bucket(500):
        report = ingest(shelf.storage, shelf.settings, compact=night, now=NOW)
    assert (report.files, report.compacted) == (0, 0)
    assert re.search(r"^batch_data/store_id=1/[^\n]*too large$", report.not_compacted)
    assert (shelf.files_of("1"), version(shelf)) == (files, at)
    assert shelf.history().equals(before)
    assert compact(shelf.storage, shelf.settings, night, now=NOW) == 1
    assert len(shelf.files_of("1")) == 1
    assert shelf.history().equals(before)
