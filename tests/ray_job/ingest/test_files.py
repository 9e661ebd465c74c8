"""Raw files that change or vanish while somebody looks."""

from dataclasses import replace

import pytest

from ray_job.bucket.errors import ConflictError, InputError, NotFoundError
from ray_job.ingest.files import check_unchanged, deliver, fetch, given, new_objects
from ray_job.progress import SilentProgress

GOOD = "store_id,date,sales\n1,2026-01-01,5\n"


def fetched(desk, folder, objects):
    folder.mkdir(exist_ok=True)
    with SilentProgress().stage("fetch") as stage:
        return fetch(desk.storage, objects, {}, folder, stage)


def test_a_file_that_is_gone_since_it_was_listed_is_left_out(desk, tmp_path):
    desk.drop("a.csv", GOOD)
    objects = new_objects(desk.storage, {})
    desk.storage.delete(objects[0].key, objects[0].generation)
    assert fetched(desk, tmp_path / "work", objects) == []


def test_a_file_of_a_directory_that_is_still_written_is_refused(desk, tmp_path):
    if desk.is_gcs:
        return
    desk.drop("a.csv", GOOD)
    sources = fetched(desk, tmp_path / "work", new_objects(desk.storage, {}))
    check_unchanged(desk.storage, sources)
    desk.drop("a.csv", GOOD + "2,2026-01-01,5\n")
    with pytest.raises(InputError, match=r"^raw_data/a\.csv: the file was changed while"):
        check_unchanged(desk.storage, sources)


def test_a_file_is_delivered_once_and_never_over_another(desk):
    path = desk.file("a.csv", GOOD)
    [source] = given(desk.storage, [path], "sales", replace_rows=False)
    check_unchanged(desk.storage, [source])
    with pytest.raises(NotFoundError, match="not in the bucket yet"):
        _ = source.lying
    assert deliver(desk.storage, source).lying == deliver(desk.storage, source).lying
    other = replace(source, path=desk.file("b.csv", GOOD * 2))
    with pytest.raises(ConflictError, match=r"^raw_data/a\.csv"):
        deliver(desk.storage, other)


def test_the_oldest_comes_first(desk):
    for minute, name in enumerate("cab"):
        desk.drop(f"{name}.csv", GOOD, minute=minute)
    names = [info.key[9] for info in new_objects(desk.storage, {})]
    assert names == list("cab")


def test_names_that_are_nobodys_delivery(desk):
    for name in ("_SUCCESS", ".DS_Store", "x/.gitkeep"):
        desk.drop(name, "x")
    assert new_objects(desk.storage, {}) == []
    desk.drop("readme.txt", "x")
    with pytest.raises(InputError, match=r"^raw_data/readme\.txt: a delivered file ends in"):
        new_objects(desk.storage, {})
