"""Each raw file is ingested once, whatever happens to it and to other ingests."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError
from ray_job.data.delta import APP_ID, open_table, transaction_version
from ray_job.data.manifest import read_past, write_manifest
from ray_job.settings import Sales

HEADER = "store_id,date,sales\n"


def sales(store: object, amount: object, day: str = "2026-01-01") -> str:
    return f"{HEADER}{store},{day},{amount}\n"


def test_a_second_ingest_writes_nothing(bucket):
    bucket.ingest(bucket.file("a.csv", sales(1, 5)))
    before = bucket.everything()
    assert bucket.ingest().files == 0
    assert bucket.ingest(bucket.file("a.csv", sales(1, 5))).files == 0
    assert bucket.everything() == before


def test_a_file_whose_name_is_taken_gets_another_one(bucket):
    bucket.ingest(bucket.file("a.csv.parquet.csv", sales(1, 5)))
    report = bucket.ingest(bucket.file("a.csv.parquet.csv", sales(1, 6)))
    assert report.files == 1
    taken, other = bucket.objects(keys.RAW_DATA)[::-1]
    assert taken == "raw_data/a.csv.parquet.csv"
    assert other.startswith("raw_data/a.csv.parquet-")
    assert other.endswith(".csv")
    assert bucket.rows("sales") == [(5.0,), (6.0,)]
    before = bucket.everything()
    assert bucket.ingest(bucket.file("a.csv.parquet.csv", sales(1, 6))).files == 0
    assert bucket.everything() == before


def test_two_files_of_one_name_in_one_command(bucket):
    report = bucket.ingest(
        bucket.file("berlin/a.csv", sales(1, 5)),
        bucket.file("bonn/a.csv", sales(2, 6)),
        bucket.file("copy/a.csv", sales(1, 5)),
    )
    assert report.files == 2
    assert bucket.rows("store_id", "sales") == [("1", 5.0), ("2", 6.0)]


def test_content_counts_not_the_time_of_the_file(bucket):
    bucket.drop("a.csv", sales(1, 5), minute=0)
    bucket.ingest()
    bucket.drop("a.csv", sales(1, 5), minute=3)
    assert bucket.ingest().files == 0
    bucket.drop("a.csv", sales(1, 7), minute=4)
    assert bucket.ingest().files == 1
    bucket.drop("a.csv", sales(1, 5), minute=5)
    assert bucket.ingest().files == 0


def test_a_deleted_raw_file_stays_in_and_stays_known(bucket):
    key = bucket.drop("a.csv", sales(1, 5))
    bucket.ingest()
    for number in range(5):
        info = bucket.storage.stat(key)
        if info is not None:
            bucket.storage.delete(key, info.generation)
        assert bucket.ingest(bucket.file(f"{number}.csv", sales(number + 2, 1))).files == 1
    assert len(bucket.rows("sales")) == 6
    bucket.drop("a.csv", sales(1, 5))
    assert bucket.ingest().files == 0


def test_the_manifest_says_what_came_in(bucket):
    bucket.ingest(
        bucket.file("a.csv", sales(1, 5) + "2,2026-01-02,6\n"), bucket.file("b.csv", sales(2, 6))
    )
    manifest = json.loads(bucket.storage.read(keys.manifest(1)))
    assert (manifest["rows"], manifest["stores"], manifest["bytes"]) == (3, 2, 85)
    assert [(file["key"], file["rows"]) for file in manifest["files"]] == [
        ("raw_data/a.csv", 2),
        ("raw_data/b.csv", 1),
    ]
    info = bucket.storage.stat("raw_data/a.csv")
    assert manifest["files"][0]["checksum"] == bucket.storage.checksum(info)
    first, last = (manifest["delivered"][name] for name in ("first", "last"))
    assert first < last


def test_what_is_known_takes_few_reads(bucket):
    for number in range(13):
        bucket.ingest(bucket.file(f"{number}.csv", sales(number, 1)))
    past = read_past(bucket.storage, 13)
    assert [manifest.position for manifest in past.chain] == [13, 12, 8]
    assert set(past.files) == {f"raw_data/{number}.csv" for number in range(13)}


def test_a_manifest_without_its_commit_does_not_count(bucket):
    bucket.ingest(bucket.file("a.csv", sales(1, 5)))
    bucket.drop("b.csv", sales(2, 6))
    past = read_past(bucket.storage, 1)
    dead = write_manifest(
        bucket.storage, past, "dead", past.chain[0].files, 1, past.chain[0].made_at
    )
    assert dead.number == 2
    assert bucket.ingest().files == 1
    table = open_table(bucket.storage, keys.BATCH_DATA)
    assert transaction_version(table, APP_ID) == 3
    assert [manifest.number for manifest in read_past(bucket.storage, 3).chain] == [3]
    assert set(read_past(bucket.storage, 3).files) == {"raw_data/a.csv", "raw_data/b.csv"}
    assert bucket.ingest().files == 0
    assert bucket.rows("store_id", "sales") == [("1", 5.0), ("2", 6.0)]


def test_a_missing_or_damaged_manifest_is_not_taken_for_an_empty_one(bucket):
    bucket.ingest(bucket.file("a.csv", sales(1, 5)))
    key = keys.manifest(1)
    stored = bucket.storage.read_versioned(key)
    for damage in (b"{}", b"[]", b"no JSON", stored.data[:-5]):
        generation = bucket.storage.read_versioned(key).generation
        bucket.storage.replace(key, damage, generation)
        with pytest.raises(CorruptError, match=key):
            bucket.ingest()
    bucket.storage.delete(key, bucket.storage.read_versioned(key).generation)
    with pytest.raises(
        CorruptError, match=f"^{key}: the manifest of a committed ingest is missing"
    ):
        bucket.ingest()


def test_racing_ingests_bring_every_file_in_once(bucket):
    bucket = bucket.with_settings(sales=Sales(rows="transactions"))
    dropped = {f"x{number}.csv": sales(number, 1) for number in range(8)}
    for name, content in dropped.items():
        bucket.drop(name, content)
    paths = [
        bucket.file(f"{number}.csv", sales(number % 3, 1) + f"9,2026-01-02,{number}\n")
        for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(bucket.ingest, paths))
    assert sum(report.files for report in reports) == 12
    assert sum(row for (row,) in bucket.rows("sales")) == 12 + sum(range(4))
    assert len(bucket.rows("sales")) == 16
    assert bucket.ingest().files == 0


def test_racing_ingests_with_new_columns(bucket):
    paths = [
        bucket.file(
            f"{number}.csv", f"store_id,date,sales,c{number % 2}\n{number},2026-01-01,5,1\n"
        )
        for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bucket.ingest, paths))
    assert bucket.rows("store_id", "c0", "c1") == [
        ("0", 1.0, None),
        ("1", None, 1.0),
        ("2", 1.0, None),
        ("3", None, 1.0),
    ]
