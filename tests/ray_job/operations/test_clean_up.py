"""Clean-up: old orphans are deleted; reachable objects and young orphans stay."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, InputError
from ray_job.data.table_files import new_file_name
from ray_job.model import registry
from ray_job.operations.clean_up import CleanUp, clean_up
from ray_job.operations.rollback import rollback
from tests.support.drafts import DAY, FAILED, OK, A, run_name
from tests.support.shop import LAST, STORES, generations, midnight, sales_row

SOON = datetime.now(UTC) + timedelta(days=6.9)
LATER = datetime.now(UTC) + timedelta(days=8)


def test_orphans_are_deleted(publisher):
    publisher.publish({"a": OK, "b": OK}, A - DAY)
    publisher.publish({"a": OK, "b": FAILED})
    storage = publisher.storage
    orphans = {
        keys.part(A, "feed" * 8, 0),
        keys.release(f"{run_name(90)}-0"),
        keys.receipt(A, run_name(91)),
        keys.accuracy(A, run_name(92)),
    }
    for key in orphans:
        storage.create(key, b"x")
    for key in ("results/elsewhere", "models/m/model.json", "access/grants.json", "raw_data/a"):
        storage.create(key, b"x")
    before, views = generations(storage), publisher.views()
    report = clean_up(storage, LATER)
    assert (report.objects, report.bytes, report.table_files) == (4, 4, 0)
    assert {key for key in before if key not in generations(storage)} == orphans
    assert publisher.views() == views


def test_young_orphans_stay(publisher):
    publisher.storage.create(keys.part(A, "feed" * 8, 0), b"x")
    assert clean_up(publisher.storage, datetime.now(UTC) + timedelta(days=6.9)).objects == 0
    assert clean_up(publisher.storage, LATER, timedelta(days=9)).objects == 0


@pytest.mark.parametrize("days", [0, 1, 6.99])
def test_seven_days_are_the_floor(publisher, days):
    publisher.storage.create(keys.part(A, "feed" * 8, 0), b"x")
    with pytest.raises(InputError, match="--older-than: 7 days is the least"):
        clean_up(publisher.storage, LATER, timedelta(days=days))
    assert publisher.storage.stat(keys.part(A, "feed" * 8, 0))


def test_a_carried_forecast_keeps_its_part(publisher):
    publisher.publish({"a": OK, "b": OK}, A - 3 * DAY)
    for back in (2, 1, 0):
        publisher.publish({"a": OK, "b": FAILED}, A - back * DAY)
    (part,) = publisher.rows()["b"]["parts"]
    clean_up(publisher.storage, LATER)
    assert publisher.storage.stat(part["part"])


def test_there_is_something_to_go_back_to(publisher):
    publisher.publish({"a": OK}, A - DAY)
    publisher.publish({"a": OK}, version=1)
    publisher.publish({"a": OK}, version=2)
    clean_up(publisher.storage, LATER)
    oldest = publisher.pointer.history[-1].release
    rollback(publisher.storage)
    rollback(publisher.storage, oldest)
    publisher.views()


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_an_earlier_release_that_is_lost_keeps_only_what_it_may_name(publisher, how):
    """Otherwise nothing would be deleted for as long as the pointer remembers it."""
    storage = publisher.storage
    lost = publisher.publish({"a": OK, "b": OK}, A - DAY)
    named = {info.key for info in storage.list(keys.PARTS)}
    publisher.publish({"a": OK, "b": OK})
    before_it, after_it = (keys.part(A - 2 * DAY, "feed" * 8, 0), keys.part(A, "feed" * 8, 0))
    for key in (before_it, after_it, keys.receipt(A - DAY, run_name(91))):
        storage.create(key, b"x")
    key = keys.release(lost.release)
    stored = storage.read_versioned(key)
    if how == "gone":
        storage.delete(key, stored.generation)
    else:
        storage.replace(key, stored.data[:-1], stored.generation)
    report = clean_up(storage, LATER)
    assert report.unread_releases == (lost.release,)
    assert report.objects == 2
    left = {info.key for info in storage.list(keys.PARTS)}
    assert named | {before_it} <= left
    assert after_it not in left


def test_nothing_is_deleted_while_a_release_is_damaged(publisher):
    publication = publisher.publish({"a": OK})
    publisher.storage.create(keys.part(A, "feed" * 8, 0), b"x")
    key = keys.release(publication.release)
    damaged = publisher.storage.read_versioned(key)
    publisher.storage.replace(key, damaged.data[:-1], damaged.generation)
    before = generations(publisher.storage)
    with pytest.raises(CorruptError):
        clean_up(publisher.storage, LATER)
    assert generations(publisher.storage) == before


def test_an_empty_bucket(storage):
    report = clean_up(storage, LATER)
    assert dataclasses.replace(report, leftovers=0) == CleanUp(0, 0, 0)


OF_DELTA = (
    "00000000000000000009.json#1",
    "00000000000000000009.checkpoint.parquet#12",
    "00000000000000000009.checkpoint.0000000001.0000000002.parquet#1",
    "_last_checkpoint#1",
    "_commit_0b2d1b0e-7a5c-4b6e-9d53-7d3b5f0a1c11.json.tmp",
)
"""What delta-rs links or renames, under the names that its versions gave it."""
FOREIGN = (
    ".00000000000000000009.json.9c1f.tmp",
    "notes#1",
    "_commit_notes.json.tmp",
    "9.json#1",
    "00000000000000000009.json.bak",
)


def test_temporary_files_of_killed_commands_go_once_they_are_old(shop, tmp_path, monkeypatch):
    """In the bucket, in delta-rs' logs, and in the system's temporary directory."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = Path(shop.storage.url)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [
        root / "raw_data" / ".storecast-abcd_123",
        root / "results" / ".storecast-defg_456",
        *(root / "batch_data" / "_delta_log" / name for name in OF_DELTA),
        root / "context" / "weather" / "_delta_log" / OF_DELTA[0],
        tmp_path / f"storecast-work-x-{ended.pid}" / "rows.duckdb",
    ]
    stay = [
        root / ".storecast-demo",
        root / "results" / ".storecast-folder.lock",
        root / "results" / ".storecast-notes",
        *(root / "batch_data" / "_delta_log" / name for name in FOREIGN),
        root / "raw_data" / "_delta_log" / OF_DELTA[0],
        root / "batch_data" / OF_DELTA[0],
        tmp_path / f"storecast-work-y-{os.getpid()}" / "rows.duckdb",
        tmp_path / "storecast-api" / "cache.arrow",
    ]
    for path in (*left, *stay):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert clean_up(shop.storage, SOON).leftovers == 0
    assert clean_up(shop.storage, LATER).leftovers == len(left)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in stay)


@pytest.mark.skipif(sys.platform != "linux", reason="the beginning of a process is in /proc")
def test_a_working_folder_is_not_kept_by_another_process_of_its_id(shop, tmp_path, monkeypatch):
    """This process began after the folder was last changed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"storecast-work-x-{os.getpid()}"
    folder.mkdir()
    assert clean_up(shop.storage, LATER).leftovers == 0
    old = time.time() - timedelta(days=40).total_seconds()
    os.utime(folder, (old, old))
    assert clean_up(shop.storage, LATER).leftovers == 1
    assert not folder.exists()


def test_the_artifact_of_a_training_that_was_killed_goes_once_it_is_old(shop):
    """No command can load it. What was promoted, or has another name or an object beside, stays."""
    half, promoted, whole = (f"20260301-20260302T00000{second}" for second in (1, 2, 3))
    artifact = shop.storage.read(keys.model_artifact("tiny"))
    description = shop.storage.read(keys.model_description("tiny"))
    for version in (promoted, whole):
        registry.register(shop.storage, version, artifact, description)
    registry.promote(shop.storage, promoted, midnight(LAST))
    registry.promote(shop.storage, "tiny", midnight(LAST))
    shop.delete(keys.model_description(promoted))
    for version in (half, f"{half}-2", "of_my_own"):
        shop.storage.create(keys.model_artifact(version), artifact)
    stay = set(generations(shop.storage, keys.MODELS))
    assert clean_up(shop.storage, SOON).objects == 0
    current = shop.storage.read_versioned(keys.CURRENT_MODEL)
    shop.delete(keys.CURRENT_MODEL)
    assert clean_up(shop.storage, LATER).objects == 0  # what was promoted is not known
    shop.storage.create(keys.CURRENT_MODEL, current.data)
    assert clean_up(shop.storage, LATER).objects == 2
    stay -= {keys.model_artifact(half), keys.model_artifact(f"{half}-2")}
    assert set(generations(shop.storage, keys.MODELS)) == stay


def test_histories_are_vacuumed(shop):
    """Files that a replacement removed from the table are deleted; its files and manifests stay."""
    old = shop.partition_files("s002")
    shop.deliver(
        [{"store_id": "s002", "date": LAST, "sales": 5.0, "open": 1, "promo": 0}], replace=True
    )
    orphan = f"{keys.BATCH_DATA}/store_id=s002/{new_file_name()}.parquet"
    shop.storage.create(orphan, b"x")
    shop.run()
    before = set(generations(shop.storage, keys.BATCH_DATA))
    replaced = set(old) - set(shop.partition_files("s002"))
    assert replaced
    assert clean_up(shop.storage, SOON).table_files == 0
    assert clean_up(shop.storage, LATER).table_files == len(replaced) + 1
    assert before - set(generations(shop.storage, keys.BATCH_DATA)) == replaced | {orphan}
    shop.run(force=True)
    assert sorted(shop.stores()) == list(STORES)


KILLED_COMMIT = """
import resource, signal, sys
from deltalake import DeltaTable

table = DeltaTable(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
table.create_write_transaction([], "append", table.schema(), ["store_id"])
"""
"""The system ends the process where it writes more than 100 bytes of the commit."""


def test_a_commit_that_was_killed_leaves_a_file_that_goes(shop):
    log = Path(shop.storage.url, keys.BATCH_DATA, "_delta_log")
    before = {path.name for path in log.iterdir()}
    killed = subprocess.run([sys.executable, "-c", KILLED_COMMIT, str(log.parent)], check=False)
    assert killed.returncode == -signal.SIGXFSZ
    left = {path.name for path in log.iterdir()} - before
    assert len(left) == 1
    shop.deliver([sales_row("s002", LAST, 12000.0)])
    assert clean_up(shop.storage, SOON).leftovers == 0
    assert clean_up(shop.storage, LATER).leftovers == 1
    assert not left & {path.name for path in log.iterdir()}
    assert shop.run().failures == ()
