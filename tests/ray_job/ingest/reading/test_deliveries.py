"""Raw files: which are new, how they are fetched, uploaded, and checked for changes."""

from dataclasses import replace

import pytest

from ray_job.bucket.errors import ConflictError, InputError, NotFoundError
from ray_job.ingest.reading.deliveries import (
    Upload,
    check_unchanged,
    fetch_files,
    files_to_upload,
    list_new_objects,
    upload,
)
from ray_job.progress import SilentProgress

GOOD = "store_id,date,sales\n1,2026-01-01,5\n"


def fetched(bucket, folder, objects):
    folder.mkdir(exist_ok=True)
    with SilentProgress().stage("fetch") as stage:
        return fetch_files(bucket.storage, objects, {}, folder, stage)


def test_a_file_that_is_gone_since_it_was_listed_is_left_out(bucket, tmp_path):
    bucket.drop("a.csv", GOOD)
    objects = list_new_objects(bucket.storage, {})
    bucket.storage.delete(objects[0].key, objects[0].generation)
    assert fetched(bucket, tmp_path / "work", objects) == []


def test_a_file_of_a_directory_that_is_still_written_is_refused(bucket, tmp_path):
    if bucket.is_gcs:
        return
    bucket.drop("a.csv", GOOD)
    files = fetched(bucket, tmp_path / "work", list_new_objects(bucket.storage, {}))
    check_unchanged(bucket.storage, files)
    bucket.drop("a.csv", GOOD + "2,2026-01-01,5\n")
    with pytest.raises(InputError, match=r"^raw_data/a\.csv: the file was changed while"):
        check_unchanged(bucket.storage, files)


def test_a_file_is_delivered_once_and_never_over_another(bucket):
    path = bucket.file("a.csv", GOOD)
    command = Upload([path], "sales", replaces=False)
    [file] = files_to_upload(bucket.storage, command, {}, bucket.folder)
    check_unchanged(bucket.storage, [file])
    with pytest.raises(NotFoundError, match="not in the bucket yet"):
        _ = file.stored
    assert upload(bucket.storage, file).stored == upload(bucket.storage, file).stored
    other = replace(file, path=bucket.file("b.csv", GOOD * 2))
    with pytest.raises(ConflictError, match=r"^raw_data/a\.csv"):
        upload(bucket.storage, other)


def test_the_oldest_comes_first(bucket):
    for minute, name in enumerate("cab"):
        bucket.drop(f"{name}.csv", GOOD, minute=minute)
    names = [info.key[9] for info in list_new_objects(bucket.storage, {})]
    assert names == list("cab")


def test_names_that_are_ignored(bucket):
    for name in ("_SUCCESS", ".DS_Store", "x/.gitkeep"):
        bucket.drop(name, "x")
    assert list_new_objects(bucket.storage, {}) == []
    bucket.drop("readme.txt", "x")
    with pytest.raises(InputError, match=r"^raw_data/readme\.txt: a raw file's name must end in"):
        list_new_objects(bucket.storage, {})
