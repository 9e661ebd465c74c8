"""Files of other programs below batch_data/: told, brought in by a command, never deleted."""

import io
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_job import ingest
from ray_job.bucket import keys
from ray_job.bucket.errors import InputError
from ray_job.bucket.widths import KeptWidths, keep
from ray_job.data.histories import open_histories
from ray_job.data.table_files import new_file_name
from ray_job.nightly.prepare import prepare
from ray_job.nightly.request import RunRequest
from ray_job.operations.clean_up import clean_up
from ray_job.settings import Settings
from tests.support.shop import DAY, LAST, SETTINGS, midnight, snapshot

PLAIN = Settings(time_zone="Europe/Berlin")
MUCH_LATER = datetime.now(UTC) + timedelta(days=400)
HIVE = (
    "store_id=17/part-0.parquet",
    "store_id=18/0123456789abcdef0123456789abcdef.parquet",
    "year=2026/store_id=19/part 1.parquet",
)
"""Names as Spark and pandas give them; one of them could be a name of version 0.1."""


def parquet(*sales: float) -> bytes:
    sink = io.BytesIO()
    days = [LAST - back * DAY for back in range(len(sales))]
    pq.write_table(pa.table({"item_id": ["a"] * len(sales), "date": days, "sales": sales}), sink)
    return sink.getvalue()


def put_hive_files(storage) -> dict[str, bytes]:
    files = {f"{keys.BATCH_DATA}/{name}": parquet(5.0, 6.0, 7.0 + n) for n, name in enumerate(HIVE)}
    files[f"{keys.BATCH_DATA}/_SUCCESS"] = b""
    for key, data in files.items():
        storage.create(key, data)
    return files


def rows(storage) -> int:
    return sum(open_histories(storage).files["rows"].to_pylist())


def bring_in(storage, **options):
    return ingest.ingest(storage, PLAIN, now=midnight(LAST), **options)


def test_plain_hive_partitions_are_told_and_brought_in_by_one_command(storage):
    files = put_hive_files(storage)
    with pytest.raises(InputError, match=r"3 files in batch_data/ .*`storecast ingest --from-ba"):
        prepare(storage, PLAIN, RunRequest(as_of=LAST), midnight(LAST))
    report = bring_in(storage, from_batch_data=True)
    assert (report.files, report.rows, report.stores) == (3, 9, 3)
    assert open_histories(storage).store_ids == ["17", "18", "19"]
    assert bring_in(storage, from_batch_data=True).files == 0
    assert bring_in(storage).files == 0
    histories = open_histories(storage)
    assert histories.foreign_files.count == 0  # all of them are in
    assert histories.newest_sales == LAST
    report = clean_up(storage, MUCH_LATER)
    assert report.foreign_files == 3
    assert report.foreign_examples[0] == f"{keys.BATCH_DATA}/{HIVE[0]}"
    stored = snapshot(storage)
    assert {key: stored.get(key) for key in files} == files
    assert rows(storage) == 9


def test_a_first_ingest_of_other_files_tells_them(storage):
    """A table is made beside them, and they stay."""
    files = put_hive_files(storage)
    storage.create(f"{keys.RAW_DATA}sales.csv", f"store_id,date,sales\n1,{LAST},4\n".encode())
    report = bring_in(storage)
    assert report.rows == 1
    assert "3 files in batch_data/" in report.warnings[0]
    assert open_histories(storage).foreign_files.count == 3
    clean_up(storage, MUCH_LATER)
    stored = snapshot(storage)
    assert {key: stored.get(key) for key in files} == files
    assert bring_in(storage, from_batch_data=True).files == 3
    assert rows(storage) == 10


def test_a_foreign_file_that_was_replaced_is_brought_in_again(storage):
    """The command copies what it does not know yet; daily rows correct the earlier ones."""
    put_hive_files(storage)
    bring_in(storage, from_batch_data=True)
    key = f"{keys.BATCH_DATA}/{HIVE[0]}"
    generation = storage.read_versioned(key).generation
    storage.replace(key, parquet(50.0, 6.0, 7.0), generation)
    assert bring_in(storage, from_batch_data=True).files == 1
    assert bring_in(storage, from_batch_data=True).files == 0


def test_a_run_tells_foreign_files_in_its_receipt(shop):
    key = f"{keys.BATCH_DATA}/store_id=s002/copy-of-2025.parquet"
    shop.storage.create(key, parquet(1.0))
    receipt = shop.run()
    assert receipt.status == "published"
    (sentence,) = receipt.warnings
    assert sentence.startswith(f"1 files in batch_data/ are in no ingest and in no log ({key})")
    assert prepare(shop.storage, SETTINGS, RunRequest(as_of=LAST), midnight(LAST)).warnings == (
        sentence,
    )
    clean_up(shop.storage, MUCH_LATER)
    assert shop.storage.stat(key)


def test_nothing_foreign_below_context_and_results_is_deleted(shop):
    shop.run()
    foreign = [
        "context/weather/stations.parquet",
        f"context/weather/{'ab' * 16}.parquet",
        f"{keys.PARTS}as_of={LAST}/notes.parquet",
        f"{keys.RELEASES}export-1.parquet",
        f"{keys.RECEIPTS}readme.json",
        f"{keys.ACCURACY}summary.parquet",
        f"{keys.WIDTHS}as_of={LAST}/notes.json",
    ]
    orphan = KeptWidths(as_of=LAST, model_version="gone")
    keep(shop.storage, orphan)
    copy = f"{keys.WIDTHS}as_of={LAST}/copy.json"
    shop.storage.create(copy, orphan.to_bytes())
    for key in foreign:
        shop.storage.create(key, b"x")
    report = clean_up(shop.storage, MUCH_LATER)
    assert report.foreign_files == len(foreign) + 1
    assert shop.storage.stat(copy)
    assert shop.storage.stat(keys.widths(LAST, "gone")) is None
    assert all(shop.storage.stat(key) for key in foreign)
    shop.check()


def test_orphans_of_dead_ingests_go(shop):
    """Files under our names, of this version and of the one before, that no commit ever named."""
    old = shop.storage.read(shop.partition_files("s002")[0])
    orphans = {
        f"{keys.BATCH_DATA}/store_id=s002/{new_file_name()}.parquet": b"half a file",
        f"{keys.BATCH_DATA}/store_id=s003/{new_file_name()}-3.parquet": b"",
        f"{keys.BATCH_DATA}/store_id=s002/{'0a' * 16}.parquet": old,
        f"context/stores/{new_file_name()}.parquet": b"x",
    }
    for key, data in orphans.items():
        shop.storage.create(key, data)
    assert shop.run().warnings == ()
    assert clean_up(shop.storage, datetime.now(UTC) + timedelta(days=6.9)).table_files == 0
    assert clean_up(shop.storage, MUCH_LATER).table_files == len(orphans)
    assert not any(shop.storage.stat(key) for key in orphans)
    assert shop.run(force=True).exit_code == 0
    shop.check()


def test_a_removed_file_stays_for_readers_of_older_snapshots(shop):
    """What a commit took out a moment ago may be in use, however old the file is."""
    old = shop.partition_files("s002")
    rows = [{"store_id": "s002", "date": LAST, "sales": 5.0, "open": 1, "promo": 0}]
    shop.deliver(rows, replace=True)
    removed = set(old) - set(shop.partition_files("s002"))
    assert removed
    soon = datetime.now(UTC) + timedelta(days=6.9)
    assert clean_up(shop.storage, soon).table_files == 0
    assert clean_up(shop.storage, MUCH_LATER).table_files == len(removed)


def test_copies_of_our_files_in_other_folders_stay(shop):
    """Somebody's backup below batch_data/ or context/ has our names."""
    shop.deliver([{"store_id": "s001", "region": "BE"}], name="stores", kind="stores")
    history = open_histories(shop.storage).files["path"][0].as_py()
    context = next(
        info.key for info in shop.storage.list("context/stores/") if info.key.endswith(".parquet")
    )
    name, store = history.rpartition("/")[2], history.split("/")[1]
    copies = {
        f"{keys.BATCH_DATA}/backup/{store}/{name}": history,
        f"{keys.BATCH_DATA}/{store} (Kopie)/{name}": history,
        f"{keys.BATCH_DATA}/{store}/old/{name}": history,
        f"{keys.BATCH_DATA}/{name}": history,
        f"context/stores/backup/{context.rpartition('/')[2]}": context,
    }
    content = {copy: shop.storage.read(key) for copy, key in copies.items()}
    for copy, data in content.items():
        shop.storage.create(copy, data)
    before = rows(shop.storage)
    report = clean_up(shop.storage, MUCH_LATER)
    assert report.foreign_files >= len(copies)
    assert {copy: shop.storage.read(copy) for copy in copies} == content
    # They are no deliveries either: their rows are in the histories.
    assert open_histories(shop.storage).foreign_files.count == 0
    assert bring_in(shop.storage, from_batch_data=True).files == 0
    assert rows(shop.storage) == before
