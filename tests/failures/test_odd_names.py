"""Names that programs read differently: the same place for every client, or refused beforehand."""

import json
import os
import tempfile

import pytest

from ray_job import ingest
from ray_job.bucket import keys
from ray_job.bucket.errors import BucketMissingError, InputError, StorageError
from ray_job.bucket.storage import make_directory, open_bucket
from ray_job.data.histories import open_histories
from ray_job.data.parquet import read_table
from ray_job.model import registry
from ray_job.nightly.demo import MARK, empty_directory
from ray_job.settings import Settings
from tests.support.shop import LAST, midnight

NOW = midnight(LAST)
SALES = b"store_id,date,sales\n7,2026-03-01,5\n"
DIFFERENT = ["a%20b", "a%2Fb", "a%41", "a\\b", "a\nb", "a\tb", "a\x7fb"]
"""Names below which clients find other places."""
CUT = ["a#b", "a?b", "a//b", "a/../b", "./a", "..", "a\u2028b"]
"""The same in a URL only."""
ODD = [
    "a b+c&d=e*f;g'h",
    'a"b:c~d%e{f}$g',
    "%zz@,`<>😀a[1]b|^",
    "ü",
    "e\u0301",
    ".a",
    "-a.",
    "gs:",
    " ~ ",
]
ODD_IN_DIRECTORIES = ["a#b?c", "?"]


def _whole_way(storage):
    """Ingest, with a table by delta-rs, and read by Arrow's and Google's clients."""
    storage.create(f"{keys.RAW_DATA}a.csv", SALES)
    ingest.ingest(storage, Settings(), now=NOW)
    again = open_bucket(storage.url)
    [file] = open_histories(again).files.to_pylist()
    assert read_table(again, file["path"], file["bytes"])["sales"].to_pylist() == [5.0]
    assert ingest.ingest(again, Settings(), now=NOW).files == 0
    return {info.key for info in again.list("")}


@pytest.mark.parametrize("name", ODD + ODD_IN_DIRECTORIES)
def test_a_directory_of_an_odd_name_is_the_same_place_for_all(tmp_path, name):
    make_directory(str(tmp_path / name))
    listed = _whole_way(open_bucket(str(tmp_path / name)))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    below = {path.relative_to(tmp_path / name).as_posix() for path in files}
    assert {key for key in below if "/.storecast-" not in f"/{key}"} == listed


@pytest.mark.parametrize("name", [*ODD, "a/", "/a", "a b/ü"])
def test_a_prefix_of_an_odd_name_is_the_same_place_for_all(gcs, name):
    listed = _whole_way(open_bucket(f"gs://chain/{name}"))
    assert set(gcs.keys("chain")) == {f"{name.strip('/')}/{key}" for key in listed}


@pytest.mark.parametrize("name", [*DIFFERENT, "a\0b", "\udcff"])
def test_a_directory_that_clients_read_differently_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="choose another name") as raised:
        make_directory(str(tmp_path / name))
    assert str(raised.value).isprintable()
    with pytest.raises(InputError):
        open_bucket(str(tmp_path / name / "below"))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_below_a_link_counts_where_it_is(tmp_path):
    (tmp_path / "a%20b" / "bucket").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a%20b")
    with pytest.raises(InputError, match=r"link/bucket \(.*a%20b/bucket\): .*'%20'"):
        open_bucket(str(tmp_path / "link" / "bucket"))


@pytest.mark.parametrize("name", [*DIFFERENT, *CUT])
def test_a_prefix_that_clients_read_differently_is_refused(gcs, name):
    with pytest.raises(InputError, match="differently"):
        open_bucket(f"gs://chain/{name}")
    assert gcs.log.entries == []


URLS = ["gs://Chain", "gs://chain:80", "gs://user@chain", "gs://chain?x", "gs://chain#x"]
URLS += ["gs://c%61", "gs://chain\n", "gs:/chain", "GS://chain", "s3://chain", "file://host/a"]
URLS += ["file:/a", "file:///a#b", "file:///a?b", "file:///a%5Cb", "file:///a%0Ab", " gs://chain"]


@pytest.mark.parametrize("url", URLS)
def test_an_address_of_another_kind_is_refused(tmp_path, monkeypatch, gcs, url):
    monkeypatch.chdir(tmp_path)
    for use in (open_bucket, make_directory, empty_directory):
        if use is open_bucket or not url.startswith("gs://"):
            with pytest.raises(InputError) as raised:
                use(url)
            assert str(raised.value).isprintable()
    assert list(tmp_path.iterdir()) == []
    assert gcs.log.entries == []


def test_an_address_of_a_file_is_decoded(tmp_path):
    (tmp_path / "a b#c").mkdir()
    for url in (f"file://{tmp_path}/a%20b%23c", f"file://localhost{tmp_path}/a b%23c"):
        open_bucket(url).create("key", b"one")
    assert (tmp_path / "a b#c" / "key").read_bytes() == b"one"


def test_a_bucket_below_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for name in ("file", "file/below"):
        url = str(tmp_path / name)
        with pytest.raises(BucketMissingError, match=r"(this is a file|Not a directory|no such)"):
            open_bucket(url)
        with pytest.raises(InputError):
            empty_directory(url)
    with pytest.raises(BucketMissingError, match="cannot be made: Not a directory"):
        make_directory(str(tmp_path / "file" / "below"))
    with pytest.raises(BucketMissingError, match="File name too long"):
        open_bucket(str(tmp_path / ("x" * 300)))


def test_a_demo_that_was_killed_while_it_emptied_its_directory(tmp_path):
    (tmp_path / MARK).touch()
    (tmp_path / "raw_data").mkdir()
    (tmp_path / "raw_data" / "a.csv").touch()
    assert [path.name for path in empty_directory(str(tmp_path)).iterdir()] == [MARK]


KEYS = ["", "/a", "a/", "a//b", "../a", "a/..", "a/./b", "a\nb", "a\rb", "a\0b", "\x85", "\udcff"]


@pytest.mark.parametrize("key", KEYS)
def test_no_object_is_written_under_a_key_that_is_read_differently(storage, tmp_path, key):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for write in (
        lambda: storage.create(key, b"x"),
        lambda: storage.replace(key, b"x", None),
        lambda: storage.write_unseen(key, b"x"),
        lambda: storage.upload(file, key),
    ):
        with pytest.raises(InputError, match="programs would read it differently"):
            write()
    assert list(storage.list("")) == []


NAMES = ["a b.csv", "a#b.csv", "a?.csv", "a%20b.csv", "a%2Fb.csv", "a[1].csv", "*.csv", "a\\b.csv"]
NAMES += ["'.csv", '".csv', "ü.csv", "e\u0301.csv", "a;b,c.CSV", "a:b.csv", "a..b.csv"]
NAMES += [
    "{a,b}.csv",
    "$HOME.csv",
    "~.csv",
    f"{'x' * 180}.csv",
    f"a.{'y' * 180}.csv",
    "day=1/a.csv",
]


def test_raw_files_of_any_name_are_each_in_once(storage):
    for number, name in enumerate(NAMES):
        row = f"store_id,date,sales\n{number},2026-03-01,{number}\n"
        storage.create(f"{keys.RAW_DATA}{name}", row.encode())
    assert ingest.ingest(storage, Settings(), now=NOW).files == len(NAMES)
    files = open_histories(storage).files.to_pylist()
    sales = {
        file["store_id"]: read_table(storage, file["path"], file["bytes"])["sales"].to_pylist()
        for file in files
    }
    assert sales == {str(number): [float(number)] for number in range(len(NAMES))}
    assert ingest.ingest(storage, Settings(), now=NOW).files == 0


def test_files_of_a_command_may_have_any_name(storage, tmp_path):
    paths = [tmp_path / name for name in NAMES if "/" not in name]
    for number, path in enumerate(paths):
        path.write_text(f"store_id,date,sales\n{number},2026-03-01,{number}\n")
    assert ingest.ingest(storage, Settings(), paths, now=NOW).files == len(paths)
    assert {info.key for info in storage.list(keys.RAW_DATA)} == {
        f"{keys.RAW_DATA}{path.name}" for path in paths
    }
    before = list(storage.list(""))
    for name in ("a\nb.csv", "a\tb.csv", os.fsdecode(b"a\xffb.csv")):
        (tmp_path / name).write_bytes(SALES)
        good = tmp_path / "good.csv"
        good.write_bytes(SALES)
        with pytest.raises(InputError, match=r"^raw_data/a\\.*b\.csv: .*: rename it"):
            ingest.ingest(storage, Settings(), [good, tmp_path / name], now=NOW)
    assert list(storage.list("")) == before


def test_a_raw_file_whose_name_cannot_be_written_down_is_left_out_by_name(local_storage, tmp_path):
    folder = local_storage.root / "raw_data"
    folder.mkdir()
    (folder / "good.csv").write_bytes(SALES)
    for name in ("a\nb.csv", os.fsdecode(b"\xff.csv")):
        (folder / name).write_bytes(SALES.replace(b"7", b"8"))
    report = ingest.ingest(local_storage, Settings(), now=NOW, leave_out_bad=True)
    assert report.files == 1
    assert [delivery.reason for delivery in report.bad] == [
        "raw_data/a\\nb.csv: the name has the character \\n: rename the file",
        "raw_data/\\udcff.csv: the name has the character \\udcff: rename the file",
    ]
    assert all(json.loads(delivery.model_dump_json()) for delivery in report.bad)


def test_a_temporary_directory_of_any_name(storage, tmp_path, monkeypatch):
    folder = tmp_path / "a [1]*#%20'\"b"
    folder.mkdir()
    (tmp_path / "a 1").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    storage.create(f"{keys.RAW_DATA}a.csv", "\ufeffstore_id;date;sales\r7;2026-03-01;5\n".encode())
    assert ingest.ingest(storage, Settings(), now=NOW).rows == 1
    assert list(folder.iterdir()) == []
    (tmp_path / "a?b").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a?b"))
    storage.create(f"{keys.RAW_DATA}b.csv", SALES)
    with pytest.raises(StorageError, match="set TMPDIR to another path"):
        ingest.ingest(storage, Settings(), now=NOW)


@pytest.mark.parametrize("version", ["", "..", ".", "a/b", "../models/a", "a\nb"])
def test_a_models_version_is_the_name_of_a_folder(storage, version):
    for use in (
        lambda: registry.register(storage, version, b"model", b"{}"),
        lambda: registry.promote(storage, version, NOW),
        lambda: registry.load(storage, version),
    ):
        with pytest.raises(InputError, match="cannot be the name of a model's version"):
            use()
    assert list(storage.list("")) == []


@pytest.mark.parametrize("path", ["gs://other/a.parquet", "/etc/a.parquet", "store_id=7/../../a"])
def test_a_table_that_names_files_outside_of_it_is_refused(storage, path):
    storage.create(f"{keys.RAW_DATA}a.csv", SALES)
    ingest.ingest(storage, Settings(), now=NOW)
    add = {
        "path": path,
        "partitionValues": {"store_id": "7"},
        "size": 1,
        "modificationTime": 0,
        "dataChange": True,
    }
    key = f"{keys.BATCH_DATA}/_delta_log/{2:020d}.json"
    storage.create(key, json.dumps({"add": add}).encode() + b"\n")
    with pytest.raises(InputError, match=r"^batch_data: .*outside of the table"):
        open_histories(storage)
