"""Histories that have no packs get some, whatever made them so."""

from functools import partial

import pyarrow as pa
import pytest

from ray_job import plan
from ray_job.bucket import keys
from ray_job.bucket.errors import StorageError
from ray_job.data.delta import open_snapshot
from ray_job.data.packs.index import read_index
from ray_job.data.packs.writing import PackWriter
from ray_job.ingest import pack_histories, packing
from tests.ray_job.data.packs.test_packed_rows import FIRST
from tests.support.packed import basis, both_ways, chunk_of


@pytest.fixture
def unpacked(bucket):
    """Three deliveries of three, two and one stores, whose packs are gone."""
    for day in (1, 2, 3):
        rows = [
            f"{store},{item},2026-03-0{date},{store + date},1"
            for store in range(1, 5 - day)
            for item in "abc"
            for date in (day, day + 1)
        ]
        header = "store_id,item_id,date,sales,open\n"
        bucket.ingest(bucket.file(f"{day}.csv", header + "\n".join(rows) + "\n"))
    forget_packs(bucket.storage)
    return bucket


def forget_packs(storage):
    for info in list(storage.list(keys.PACKS)):
        storage.delete(info.key, info.generation)


def stores_read_from_packs(storage):
    """Whatever is read from packs is what the partitions give."""
    files = open_snapshot(storage, keys.BATCH_DATA).files
    paths = [f"{keys.BATCH_DATA}/{path}" for path in files["path"].to_pylist()]
    lines = [
        {
            "store_id": row["store_id"],
            "path": path,
            "bytes": row["size"],
            "rows": row["rows"],
            "first_date": row["first_date"],
            "last_date": row["last_date"],
        }
        for path, row in zip(paths, files.to_pylist(), strict=True)
    ]
    dates = basis(FIRST, FIRST.replace(day=9))
    chunk = chunk_of(pa.Table.from_pylist(lines, plan.FILES_SCHEMA), dates)
    plain, read, packed = both_ways(storage, chunk, dates, read_index(storage))
    assert read == plain
    return packed


def test_every_file_gets_into_a_pack(unpacked):
    assert stores_read_from_packs(unpacked.storage) == set()
    report = pack_histories(unpacked.storage)
    assert (report.files, report.rows, report.failure) == (6, 36, None)
    assert stores_read_from_packs(unpacked.storage) == {"1", "2", "3"}


def test_a_second_call_changes_nothing(unpacked):
    pack_histories(unpacked.storage)
    before = unpacked.everything()
    assert pack_histories(unpacked.storage).files == 0
    assert unpacked.everything() == before


def test_what_is_more_than_a_night_packs_is_packed_in_the_next(unpacked):
    packed = [pack_histories(unpacked.storage, most_files=1).files for _ in range(4)]
    assert packed == [3, 2, 1, 0]
    assert stores_read_from_packs(unpacked.storage) == {"1", "2", "3"}


def test_a_store_that_is_too_large_to_be_read_at_once(unpacked, monkeypatch):
    """Its items are in several ranges, and it is counted once."""
    monkeypatch.setattr(packing, "_LARGE_ROWS", 3)
    monkeypatch.setattr(packing, "PackWriter", partial(PackWriter, range_rows=1))
    report = pack_histories(unpacked.storage)
    assert (report.files, report.rows) == (6, 36)
    assert sum(pack.stores for pack in read_index(unpacked.storage).packs) > 6
    assert stores_read_from_packs(unpacked.storage) == {"1", "2", "3"}


def test_files_of_other_writers_are_left_to_their_partitions(unpacked):
    files = open_snapshot(unpacked.storage, keys.BATCH_DATA).files
    others = pa.array([f"store_id=1/part-{n}.parquet" for n in range(6)])
    files = files.set_column(files.column_names.index("path"), "path", others)
    assert packing._commits_without_packs(unpacked.storage, files) == []


def test_a_damaged_file_is_told_and_what_is_packed_stays(unpacked):
    files = open_snapshot(unpacked.storage, keys.BATCH_DATA).files.to_pylist()
    names = [row["path"].rpartition("/")[2] for row in files]
    [key] = [
        f"{keys.BATCH_DATA}/{row['path']}"
        for row, name in zip(files, names, strict=True)
        if names.count(name) == 1
    ]
    info = unpacked.storage.stat(key)
    unpacked.storage.replace(key, b"PAR1 no more", info.generation)
    report = pack_histories(unpacked.storage)
    assert key in report.failure
    assert report.files == 5
    assert {pack.stores for pack in read_index(unpacked.storage).packs} == {2, 3}


def test_a_bucket_where_packs_may_not_be_written(unpacked, monkeypatch):
    def refuse(*_):
        raise StorageError("packs/: 403")

    monkeypatch.setattr(type(unpacked.storage), "write_unseen", refuse)
    assert pack_histories(unpacked.storage).failure == "packs/: 403"
    assert read_index(unpacked.storage).packs == ()


def test_a_bucket_without_histories(bucket):
    assert pack_histories(bucket.storage) == packing.PackingReport()
