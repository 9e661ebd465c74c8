"""Pipes, sockets, folders and links where files should be: an error that names them, at once.

A plain open of a pipe waits for ever, and what is in no listing is taken for nothing.
"""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from ray_job import ingest
from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, InputError, StorecastError
from ray_job.bucket.storage import open_bucket
from ray_job.data.context.tables import open_context
from ray_job.data.histories import open_histories
from ray_job.ingest import CompactScope
from ray_job.ingest.reading.deliveries import list_new_objects, named_paths
from ray_job.ingest.reading.raw_files import BadFilesError
from ray_job.operations.clean_up import clean_up
from tests.ray_job.bucket.test_storage import as_nobody
from tests.support.shop import DAY, LAST, SETTINGS, generations, midnight

NOW = midnight(LAST)
LATE = f"store_id,date,sales\ns003,{LAST},55\n"


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(path.parent, os.O_RDONLY)  # the name of a socket is short
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


KINDS = {
    "a pipe": os.mkfifo,
    "a socket": make_socket,
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def put(shop, key, kind):
    path = shop.storage.root / key
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](path)


@kinds
def test_no_call_of_the_storage_takes_it_for_nothing_or_waits(local_storage, tmp_path, kind):
    key = "results/current.json"
    path = local_storage.root / key
    path.parent.mkdir()
    KINDS[kind](path)
    if kind != "a folder":
        [info] = local_storage.list("results/")
        assert info.key == key
    (tmp_path / "x").write_bytes(b"")
    calls = {
        "read": lambda: local_storage.read(key),
        "range": lambda: local_storage.read_range(key, 0, 1),
        "versioned": lambda: local_storage.read_versioned(key),
        "create": lambda: local_storage.create(key, b"x"),
        "replace": lambda: local_storage.replace(key, b"x", None),
        "upload": lambda: local_storage.upload(tmp_path / "x", key),
        "download": lambda: local_storage.download(key, tmp_path / "y"),
    }
    for name, call in calls.items():
        with pytest.raises(StorecastError, match=rf"^{key}: (this is {kind}|.*other content)"):
            call()
        assert os.path.lexists(path), name


@kinds
@pytest.mark.parametrize("table", [keys.BATCH_DATA, keys.context("stores")])
def test_in_the_place_of_a_newest_commit_it_is_not_the_commit_before(shop, kind, table):
    rows = [{"store_id": f"s{n:03d}", "region": "BE"} for n in range(1, 11)]
    shop.deliver(rows, name="again", kind="stores")
    shop.deliver(LATE)
    newest = max(
        info.key for info in shop.storage.list(f"{table}/_delta_log/") if ".json" in info.key
    )
    put(shop, newest, kind)
    with pytest.raises(CorruptError, match=f"^{newest}: this is {kind}"):
        (open_histories if table == keys.BATCH_DATA else open_context)(shop.storage)
    (shop.storage.root / "raw_data/new.csv").write_text(LATE.replace("55", "56"))
    with pytest.raises(CorruptError, match=f"^{newest}: this is {kind}"):
        ingest.ingest(shop.storage, SETTINGS, now=NOW)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a folder"])
def test_in_raw_data_it_is_that_deliverys_fault(shop, kind):
    put(shop, "raw_data/odd.csv", kind)
    put(shop, "raw_data/odd", kind)
    (shop.storage.root / "raw_data/new.csv").write_text(LATE)
    report = ingest.ingest(
        shop.storage, SETTINGS, now=NOW, leave_out_bad=True, compact=CompactScope(LAST)
    )
    assert (report.files, {bad.key for bad in report.bad}) == (
        1,
        {"raw_data/odd", "raw_data/odd.csv"},
    )
    assert all(f"{bad.key}: this is {kind}" in bad.reason for bad in report.bad)
    assert shop.run().exit_code == 0


@pytest.mark.parametrize("where", ["..", ".", "../batch_data", "../.."])
def test_a_link_to_what_the_bucket_uses_is_not_read_as_deliveries(shop, where):
    """Through it the histories would come in once more. What it is followed to is read once."""
    rows = open_histories(shop.storage).files
    (shop.storage.root / "raw_data/up").symlink_to(where)
    (shop.storage.root / "batch_data/up").symlink_to(where)
    report = ingest.ingest(shop.storage, SETTINGS, now=NOW, leave_out_bad=True)
    assert report.files == 0
    named = [bad.reason for bad in report.bad if bad.key == "raw_data/up"]
    assert len(named) == (where != ".")
    assert all("raw_data/up: this is a link to the folder " in reason for reason in named)
    assert open_histories(shop.storage).files.equals(rows)
    before = generations(shop.storage, keys.RAW_DATA)
    clean_up(shop.storage, NOW + 4000 * DAY)
    assert generations(shop.storage, keys.RAW_DATA) == before
    assert open_histories(shop.storage).files.equals(rows)


@pytest.mark.parametrize("folder", ["raw_data", "batch_data", "context", "results", "models"])
@pytest.mark.parametrize("is_link", [True, False])
def test_a_file_or_a_link_to_nothing_in_the_place_of_a_folder_is_not_empty(shop, folder, is_link):
    """Such as the mount of a disk that is away."""
    shop.run(LAST - DAY)
    away, place = shop.storage.root / "away", shop.storage.root / folder
    place.rename(away)
    if is_link:
        place.symlink_to("nowhere")
    else:
        place.write_bytes(b"x")

    def ingest_and_run():
        ingest.ingest(shop.storage, SETTINGS, now=NOW)
        shop.run()

    problem = "(this is a link to nothing|a part of this path is a file|Path does not exist)"
    with pytest.raises(StorecastError, match=rf"^{folder}\b.*{problem}"):
        ingest_and_run()
    place.unlink()
    away.rename(place)
    ingest_and_run()
    assert shop.pointer.current_entry.as_of == LAST


def test_a_folder_without_permission_is_a_delivery_that_cannot_be_read():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        locked = Path(name, "raw_data/locked")
        locked.mkdir(parents=True)
        (locked / "a.csv").write_text(LATE)
        locked.chmod(0)
        try:
            with (
                as_nobody(),
                pytest.raises(BadFilesError, match="raw_data/locked: Permission denied"),
            ):
                list_new_objects(open_bucket(name), {})
        finally:
            locked.chmod(0o755)


def test_a_directory_of_a_command_is_read_whole_or_refused(tmp_path):
    folder, elsewhere = tmp_path / "march", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "b.csv").write_text(LATE)
    (folder / "a.csv").write_text(LATE)
    (folder / "linked").symlink_to(elsewhere)
    names = [name for _, name in named_paths([folder], "sales")]
    assert names == ["march/a.csv", "march/linked/b.csv"]
    for name, kind in {
        "up": lambda path: path.symlink_to(".."),
        "pipe.csv": os.mkfifo,
        "gone.csv": lambda path: path.symlink_to("nowhere"),
    }.items():
        kind(folder / name)
        with pytest.raises(InputError, match=f"march/{name}: the file cannot be read: this is a "):
            named_paths([folder], "sales")
        (folder / name).unlink()
