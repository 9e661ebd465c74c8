"""Compaction: fewer files with the same rows."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, NotFoundError
from ray_job.data.delta import list_files, open_table, partition_key
from ray_job.ingest import CompactScope, compact
from ray_job.settings import Ingest
from tests.support.delivery_bucket import NOW

NIGHTS = [CompactScope((NOW + timedelta(days=day)).date()) for day in range(16)]


def night_of(store_id):
    [night] = [night for night in NIGHTS if night.includes(store_id)]
    return night


@pytest.fixture
def crowded(bucket):
    """Stores 1 and 2 have three files each, store 3 has a single one. The last has a new column."""
    bucket = bucket.with_settings(ingest=Ingest(compact_above_files=2))
    for day in range(1, 4):
        stores = (1, 2, 3) if day == 1 else (1, 2)
        open_ = ",open" if day == 3 else ""
        rows = [
            f"{store},{item},2026-01-0{date},{date}" + (",1" if day == 3 else "")
            for store in stores
            for item in "ba"
            for date in (4 - day, 5)
        ]
        content = f"store_id,item_id,date,sales{open_}\n" + "\n".join(rows) + "\n"
        bucket.ingest(bucket.file(f"{day}.csv", content))
    return bucket


def test_every_store_has_its_turn_in_a_single_night_of_sixteen():
    stores = [f"s{number}" for number in range(2_000)]
    counts = [sum(night.includes(store) for store in stores) for night in NIGHTS]
    assert sum(counts) == 2_000
    assert min(counts) > 80


def test_the_files_of_a_store_become_one_and_its_rows_stay(crowded):
    before = crowded.history()
    other = crowded.files_of("2")
    assert compact(crowded.storage, crowded.settings, night_of("1"), now=NOW) in {1, 2}
    assert len(crowded.files_of("1")) == 1
    assert len(crowded.files_of("3")) == 1
    if not night_of("1").includes("2"):
        assert crowded.files_of("2") == other
    assert crowded.history().equals(before)
    table = open_table(crowded.storage, keys.BATCH_DATA)
    [file] = [file for file in list_files(table).to_pylist() if file["store_id"] == "1"]
    assert (file["rows"], file["first_item"], file["last_item"]) == (12, "a", "b")
    assert (file["first_date"].day, file["last_date"].day) == (1, 5)


def test_compacted_stores_are_not_compacted_again(crowded):
    for night in NIGHTS:
        compact(crowded.storage, crowded.settings, night, now=NOW)
    before = crowded.everything()
    assert [compact(crowded.storage, crowded.settings, night, now=NOW) for night in NIGHTS] == [
        0
    ] * 16
    assert crowded.everything() == before


def test_the_nightly_ingest_compacts_after_it_brought_in(crowded):
    report = crowded.ingest(
        crowded.file("4.csv", "store_id,item_id,date,sales\n1,a,2026-01-06,6\n"),
        compact=night_of("1"),
    )
    assert report.compacted >= 1
    assert len(crowded.files_of("1")) == 1
    assert report.version == open_table(crowded.storage, keys.BATCH_DATA).version()


def test_without_a_table_nothing_is_compacted(bucket):
    assert bucket.ingest(compact=NIGHTS[0]).version is None


def test_a_file_that_is_gone_or_damaged_stops_it(crowded):
    key = partition_key(crowded.files_of("1")[1])
    stored = crowded.storage.read_versioned(key)
    middle = len(stored.data) // 4
    flipped = bytes([stored.data[middle] ^ 255])
    generation = crowded.storage.replace(
        key, stored.data[:middle] + flipped + stored.data[middle + 1 :], stored.generation
    )
    with pytest.raises(CorruptError, match=key):
        compact(crowded.storage, crowded.settings, night_of("1"), now=NOW)
    crowded.storage.delete(key, generation)
    with pytest.raises(NotFoundError, match=key):
        compact(crowded.storage, crowded.settings, night_of("1"), now=NOW)
    assert len(crowded.files_of("1")) == 3


def test_rewriting_at_once_doubles_and_loses_nothing(crowded):
    replacement = crowded.file("r.csv", "store_id,item_id,date,sales\n1,a,2026-01-05,50\n")
    with ThreadPoolExecutor(4) as pool:
        compactions = [
            pool.submit(compact, crowded.storage, crowded.settings, night_of("1"), now=NOW)
            for _ in range(3)
        ]
        replacing = pool.submit(crowded.ingest, replacement, replace=True)
        assert sum(compaction.result() > 0 for compaction in compactions) <= 1
        assert replacing.result().files == 1
    rows = crowded.rows("store_id", "item_id", "date", "sales")
    assert [row[1:] for row in rows if row[0] == "1"] == [
        ("a", "2026-01-01", 1.0),
        ("a", "2026-01-02", 2.0),
        ("a", "2026-01-03", 3.0),
        ("a", "2026-01-05", 50.0),
        ("b", "2026-01-01", 1.0),
        ("b", "2026-01-02", 2.0),
        ("b", "2026-01-03", 3.0),
    ]
