"""Each delivered file goes in once, whatever happens to it and to other ingests."""

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


def test_a_second_ingest_writes_nothing(desk):
    desk.ingest(desk.file("a.csv", sales(1, 5)))
    before = desk.everything()
    assert desk.ingest().files == 0
    assert desk.ingest(desk.file("a.csv", sales(1, 5))).files == 0
    assert desk.everything() == before


def test_a_file_whose_name_is_taken_gets_another_one(desk):
    desk.ingest(desk.file("a.csv.parquet.csv", sales(1, 5)))
    report = desk.ingest(desk.file("a.csv.parquet.csv", sales(1, 6)))
    assert report.files == 1
    taken, other = desk.objects(keys.RAW_DATA)[::-1]
    assert taken == "raw_data/a.csv.parquet.csv"
    assert other.startswith("raw_data/a.csv.parquet-")
    assert other.endswith(".csv")
    assert desk.rows("sales") == [(5.0,), (6.0,)]
    before = desk.everything()
    assert desk.ingest(desk.file("a.csv.parquet.csv", sales(1, 6))).files == 0
    assert desk.everything() == before


def test_two_files_of_one_name_in_one_command(desk):
    report = desk.ingest(
        desk.file("berlin/a.csv", sales(1, 5)),
        desk.file("bonn/a.csv", sales(2, 6)),
        desk.file("copy/a.csv", sales(1, 5)),
    )
    assert report.files == 2
    assert desk.rows("store_id", "sales") == [("1", 5.0), ("2", 6.0)]


def test_content_counts_not_the_time_of_the_file(desk):
    desk.drop("a.csv", sales(1, 5), minute=0)
    desk.ingest()
    desk.drop("a.csv", sales(1, 5), minute=3)
    assert desk.ingest().files == 0
    desk.drop("a.csv", sales(1, 7), minute=4)
    assert desk.ingest().files == 1
    desk.drop("a.csv", sales(1, 5), minute=5)
    assert desk.ingest().files == 0


def test_a_deleted_raw_file_stays_in_and_stays_known(desk):
    key = desk.drop("a.csv", sales(1, 5))
    desk.ingest()
    for number in range(5):
        info = desk.storage.stat(key)
        if info is not None:
            desk.storage.delete(key, info.generation)
        assert desk.ingest(desk.file(f"{number}.csv", sales(number + 2, 1))).files == 1
    assert len(desk.rows("sales")) == 6
    desk.drop("a.csv", sales(1, 5))
    assert desk.ingest().files == 0


def test_the_manifest_says_what_came_in(desk):
    desk.ingest(
        desk.file("a.csv", sales(1, 5) + "2,2026-01-02,6\n"), desk.file("b.csv", sales(2, 6))
    )
    manifest = json.loads(desk.storage.read(keys.manifest(1)))
    assert (manifest["rows"], manifest["stores"], manifest["bytes"]) == (3, 2, 85)
    assert [(file["key"], file["rows"]) for file in manifest["files"]] == [
        ("raw_data/a.csv", 2),
        ("raw_data/b.csv", 1),
    ]
    info = desk.storage.stat("raw_data/a.csv")
    assert manifest["files"][0]["checksum"] == desk.storage.checksum(info)
    first, last = manifest["delivered"]
    assert first < last


def test_what_is_known_takes_few_reads(desk):
    for number in range(13):
        desk.ingest(desk.file(f"{number}.csv", sales(number, 1)))
    past = read_past(desk.storage, 13)
    assert [manifest.position for manifest in past.chain] == [13, 12, 8]
    assert set(past.files) == {f"raw_data/{number}.csv" for number in range(13)}


def test_a_manifest_without_its_commit_does_not_count(desk):
    desk.ingest(desk.file("a.csv", sales(1, 5)))
    desk.drop("b.csv", sales(2, 6))
    past = read_past(desk.storage, 1)
    dead = write_manifest(desk.storage, past, "dead", past.chain[0].files, 1, past.chain[0].made_at)
    assert dead.number == 2
    assert desk.ingest().files == 1
    table = open_table(desk.storage, keys.BATCH_DATA)
    assert transaction_version(table, APP_ID) == 3
    assert [manifest.number for manifest in read_past(desk.storage, 3).chain] == [3]
    assert set(read_past(desk.storage, 3).files) == {"raw_data/a.csv", "raw_data/b.csv"}
    assert desk.ingest().files == 0
    assert desk.rows("store_id", "sales") == [("1", 5.0), ("2", 6.0)]


def test_a_missing_or_damaged_manifest_is_not_taken_for_an_empty_one(desk):
    desk.ingest(desk.file("a.csv", sales(1, 5)))
    key = keys.manifest(1)
    stored = desk.storage.read_versioned(key)
    for damage in (b"{}", b"[]", b"no JSON", stored.data[:-5]):
        generation = desk.storage.read_versioned(key).generation
        desk.storage.replace(key, damage, generation)
        with pytest.raises(CorruptError, match=key):
            desk.ingest()
    desk.storage.delete(key, desk.storage.read_versioned(key).generation)
    with pytest.raises(
        CorruptError, match=f"^{key}: the manifest of a committed ingest is missing"
    ):
        desk.ingest()


def test_racing_ingests_bring_every_file_in_once(desk):
    desk = desk.with_settings(sales=Sales(rows="transactions"))
    dropped = {f"x{number}.csv": sales(number % 3, 1) for number in range(8)}
    for name, content in dropped.items():
        desk.drop(name, content)
    paths = [
        desk.file(f"{number}.csv", sales(number % 3, 1) + f"9,2026-01-02,{number}\n")
        for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(desk.ingest, paths))
    assert sum(report.files for report in reports) == 12
    assert sum(row for (row,) in desk.rows("sales")) == 12 + sum(range(4))
    assert len(desk.rows("sales")) == 16
    assert desk.ingest().files == 0


def test_racing_ingests_with_new_columns(desk):
    paths = [
        desk.file(f"{number}.csv", f"store_id,date,sales,c{number % 2}\n{number},2026-01-01,5,1\n")
        for number in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(desk.ingest, paths))
    assert desk.rows("store_id", "c0", "c1") == [
        ("0", 1.0, None),
        ("1", None, 1.0),
        ("2", 1.0, None),
        ("3", None, 1.0),
    ]
