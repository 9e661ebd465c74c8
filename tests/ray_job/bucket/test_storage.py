"""Every kind of bucket: a directory, the fake storage, and a real bucket if one is configured."""

import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ray_job.bucket.errors import (
    AccessRefusedError,
    BucketMissingError,
    ConflictError,
    InputError,
    NotFoundError,
    StorageError,
    StorecastError,
)
from ray_job.bucket.storage import open_bucket
from tests.fake_gcs import Fault


def test_a_created_object_is_read_back(storage):
    storage.create("a/b.bin", b"one")
    assert storage.read("a/b.bin") == b"one"
    versioned = storage.read_versioned("a/b.bin")
    assert versioned.data == b"one"
    info = storage.stat("a/b.bin")
    assert info is not None
    assert (info.key, info.size, info.generation) == ("a/b.bin", 3, versioned.generation)
    assert info.created.tzinfo is not None


def test_an_empty_object(storage):
    storage.create("empty", b"")
    assert storage.read("empty") == b""
    assert storage.stat("empty").size == 0


def test_a_key_without_an_object(storage):
    with pytest.raises(NotFoundError, match="^a/b: "):
        storage.read("a/b")
    with pytest.raises(NotFoundError, match="^a/b: "):
        storage.read_versioned("a/b")
    with pytest.raises(NotFoundError, match="^a/b: "):
        storage.read_if_changed("a/b", "1")
    assert storage.stat("a/b") is None
    assert list(storage.list("a")) == []


def test_create_never_overwrites(storage):
    storage.create("a", b"one")
    storage.create("a", b"one")  # its answer may have been lost
    with pytest.raises(ConflictError, match="^a: "):
        storage.create("a", b"two")
    assert storage.read("a") == b"one"


def test_replace_is_a_compare_and_set(storage):
    first = storage.replace("a", b"one", None)
    assert storage.read_versioned("a").generation == first
    second = storage.replace("a", b"two", first)
    assert second != first
    with pytest.raises(ConflictError, match="^a: "):
        storage.replace("a", b"three", first)
    with pytest.raises(ConflictError, match="^a: "):
        storage.replace("a", b"three", None)
    assert storage.read("a") == b"two"


def test_replace_again_after_a_lost_answer(storage):
    first = storage.replace("a", b"one", None)
    second = storage.replace("a", b"two", first)
    assert storage.replace("a", b"two", first) == second


def test_replace_of_a_deleted_object(storage):
    first = storage.replace("a", b"one", None)
    storage.delete("a", first)
    with pytest.raises(ConflictError):
        storage.replace("a", b"two", first)


def test_read_if_changed(storage):
    first = storage.replace("a", b"one", None)
    assert storage.read_if_changed("a", first) is None
    second = storage.replace("a", b"two", first)
    changed = storage.read_if_changed("a", first)
    assert (changed.data, changed.generation) == (b"two", second)


def test_delete_asks_for_the_generation(storage):
    first = storage.replace("a", b"one", None)
    second = storage.replace("a", b"two", first)
    with pytest.raises(ConflictError):
        storage.delete("a", first)
    storage.delete("a", second)
    storage.delete("a", second)
    assert storage.stat("a") is None


def test_listing_is_sorted_and_by_prefix(storage):
    for key in ("b/2", "a/1", "a/11", "a/b/3", "ab/4"):
        storage.create(key, key.encode())
    assert [info.key for info in storage.list("")] == ["a/1", "a/11", "a/b/3", "ab/4", "b/2"]
    assert [info.key for info in storage.list("a/")] == ["a/1", "a/11", "a/b/3"]
    assert [info.key for info in storage.list("a/1")] == ["a/1", "a/11"]
    assert [info.key for info in storage.list("nothing/")] == []
    listed = {info.key: info for info in storage.list("a/")}
    assert listed["a/11"].generation == storage.stat("a/11").generation


def test_checksums_are_of_the_content(storage):
    storage.create("a", b"same")
    storage.create("b", b"same")
    storage.create("c", b"other")
    checksums = [storage.checksum(storage.stat(key)) for key in "abc"]
    assert checksums[0] == checksums[1] != checksums[2]
    assert checksums[0].startswith("crc32c:")


def test_upload_and_download(storage, tmp_path):
    path = tmp_path / "file.csv"
    path.write_bytes(b"store_id,date\n")
    storage.upload(path, "raw_data/file.csv")
    storage.upload(path, "raw_data/file.csv")
    storage.download("raw_data/file.csv", tmp_path / "copy.csv")
    assert (tmp_path / "copy.csv").read_bytes() == b"store_id,date\n"
    path.write_bytes(b"other\n")
    with pytest.raises(ConflictError, match=r"^raw_data/file\.csv: "):
        storage.upload(path, "raw_data/file.csv")
    with pytest.raises(NotFoundError):
        storage.download("raw_data/none.csv", tmp_path / "none.csv")


def test_an_object_of_write_unseen_is_read_back(storage):
    storage.write_unseen("a/b/c", b"one")
    storage.sync()
    assert storage.read("a/b/c") == b"one"


def test_the_url_opens_the_same_bucket(storage):
    storage.create("a", b"one")
    assert open_bucket(storage.url).read("a") == b"one"


def test_of_racing_creators_a_single_writer_wins(storage):
    errors = _race(12, lambda number: storage.create("a", b"%d" % number))
    assert errors.count(None) == 1
    assert all(isinstance(error, ConflictError) for error in errors if error is not None)


def test_of_racing_replacers_a_single_writer_wins(storage):
    first = storage.replace("a", b"start", None)
    errors = _race(12, lambda number: storage.replace("a", b"%d" % number, first))
    assert sum(isinstance(error, ConflictError) for error in errors) == 11


def test_counting_together_loses_nothing(storage):
    storage.create("n", b"")

    def add(number: int) -> None:
        while True:
            counted = storage.read_versioned("n")
            try:
                storage.replace("n", counted.data + b"%d," % number, counted.generation)
            except ConflictError:
                continue
            return

    _race(12, add)
    assert sorted(storage.read("n").decode().split(",")[:-1], key=int) == [
        str(number) for number in range(12)
    ]


def test_a_bucket_that_does_not_exist(tmp_path, gcs):
    with pytest.raises(BucketMissingError, match="nowhere: there is no such directory"):
        open_bucket(str(tmp_path / "nowhere"))
    with pytest.raises(BucketMissingError, match="gs://nowhere: there is no such bucket"):
        open_bucket("gs://nowhere")
    assert gcs.keys("chain") == []
    with pytest.raises(InputError, match="a bucket is a directory"):
        open_bucket("s3://bucket")


def test_a_prefix_is_a_bucket_of_its_own(gcs):
    first, second = open_bucket("gs://chain/one"), open_bucket("gs://chain/one2")
    first.create("a", b"1")
    second.create("a", b"2")
    assert gcs.keys("chain") == ["one/a", "one2/a"]
    assert [info.key for info in first.list("")] == ["a"]
    assert first.read("a") == b"1"


def test_a_directory_shows_no_unfinished_writes(tmp_path):
    (tmp_path / "bucket").mkdir()
    storage = open_bucket(f"file://{tmp_path / 'bucket'}")
    generation = storage.replace("a", b"one", None)
    (tmp_path / "bucket" / ".storecast-left").write_bytes(b"half")
    storage.replace("a", b"two", generation)
    assert [info.key for info in storage.list("")] == ["a"]


def _race(writers, act):
    """Let all writers begin together, and return the ConflictError of each, None if it has none."""
    barrier = threading.Barrier(writers)

    def attempt(number):
        barrier.wait()
        try:
            act(number)
        except ConflictError as error:
            return error
        return None

    with ThreadPoolExecutor(writers) as pool:
        return list(pool.map(attempt, range(writers)))


def test_deleting_leaves_nothing_behind(tmp_path):
    root = tmp_path / "bucket"
    root.mkdir()
    storage = open_bucket(str(root))
    for number in range(3):
        storage.create(f"a/{number}", b"x")
    for info in list(storage.list("a/")):
        storage.delete(info.key, info.generation)
    assert [path.name for path in root.rglob("*") if path.is_file()] == [".storecast-folder.lock"]


@pytest.mark.parametrize(
    "fault", [Fault("corrupt"), Fault("truncate"), Fault("truncate", clean=True)]
)
@pytest.mark.parametrize("read", ["read", "read_versioned"])
def test_a_body_that_arrives_broken_is_asked_for_again(gcs, fault, read):
    storage = open_bucket("gs://chain")
    storage.create("a", bytes(1000))
    added = gcs.faults.add(replace(fault, op="get", times=2 if fault.kind == "corrupt" else 1))
    stored = getattr(storage, read)("a")
    assert (stored if read == "read" else stored.data) == bytes(1000)
    assert added.fired >= 1


@pytest.mark.parametrize("kind", ["corrupt", "truncate"])
@pytest.mark.parametrize("read", ["read", "read_versioned"])
def test_a_body_that_is_never_whole_is_an_error(gcs, read, kind):
    storage = open_bucket("gs://chain")
    storage.create("a", bytes(1000))
    gcs.faults.add(Fault(kind, op="get", times=None, clean=kind == "truncate"))
    with pytest.raises(StorecastError, match=r"^a: .*(checksum|mismatched hashes)"):
        getattr(storage, read)("a")


@contextmanager
def as_nobody():
    """The rights of a user who owns nothing: tests may run as root, who may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_cannot_be_read_is_not_empty():
    """One below the folder that is listed is an object that cannot be read."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        storage = open_bucket(name)
        storage.create("raw_data/locked/a.csv", b"x")
        locked = Path(name) / "raw_data" / "locked"
        locked.chmod(0)
        try:
            with as_nobody():
                assert [info.key for info in storage.list("raw_data/")] == ["raw_data/locked"]
                with pytest.raises(
                    AccessRefusedError, match=r"^raw_data/locked: Permission denied"
                ):
                    storage.read("raw_data/locked")
                for prefix in ("raw_data/locked/", "raw_data/locked/a"):
                    with pytest.raises(StorageError, match="Permission denied"):
                        list(storage.list(prefix))
                with pytest.raises(StorageError, match="Permission denied"):
                    storage.read("raw_data/locked/a.csv")
                with pytest.raises(StorageError, match="Permission denied"):
                    storage.stat("raw_data/locked/a.csv")
                assert list(storage.list("elsewhere/")) == []
        finally:
            locked.chmod(0o755)


def test_linked_folders_are_followed_once(tmp_path):
    outside, root = tmp_path / "disk", tmp_path / "bucket"
    (outside / "march").mkdir(parents=True)
    root.mkdir()
    (outside / "march" / "a.csv").write_bytes(b"x")
    (root / "raw_data").mkdir()
    (root / "raw_data" / "linked").symlink_to(outside)
    (outside / "march" / "round").symlink_to(outside)
    storage = open_bucket(str(root))
    assert [info.key for info in storage.list("raw_data/")] == ["raw_data/linked/march/a.csv"]
    assert storage.read("raw_data/linked/march/a.csv") == b"x"


@pytest.mark.parametrize("moment", [-(2**40), -1, 0, 2**33, 2**40, 2**60])
def test_a_file_of_any_time_is_listed(moment):
    """Of those that the file system takes; in memory it takes more than on a disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        storage = open_bucket(name)
        storage.create("raw_data/a.csv", b"x")
        os.utime(Path(name, "raw_data/a.csv"), (moment, moment))
        [info] = storage.list("raw_data/")
        assert 1970 <= info.created.year <= 9000


def test_addresses_that_name_no_bucket(tmp_path):
    file = tmp_path / "sales.csv"
    file.write_bytes(b"x")
    with pytest.raises(BucketMissingError, match="this is a file: a bucket is a directory"):
        open_bucket(str(file))
    for url in ("gs://", "gs:///prefix"):
        with pytest.raises(InputError, match=f"^{url}: the bucket has no name"):
            open_bucket(url)
