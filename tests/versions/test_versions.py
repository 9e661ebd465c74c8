"""What version 0.1 wrote is read by this version, and what this version writes is read by 0.1."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.store.snapshot import load as load_snapshot
from ray_job.bucket import compatibility, keys, parts, pointer, receipts, releases, scores
from ray_job.bucket.errors import CorruptError, UnknownFormatError
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import open_bucket
from ray_job.data.histories import open_histories
from ray_job.data.manifest import Manifest
from ray_job.model import registry
from ray_job.operations.clean_up import clean_up
from ray_job.operations.explain import explain
from ray_job.operations.release_list import list_releases
from ray_job.operations.rollback import rollback
from tests.support.archives import extract
from tests.support.shop import DAY, LAST, SETTINGS, STORES, Shop, midnight, sales_row

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMMIT = "5b72904"
"""The last commit of version 0.1 whose bucket the fixture is."""


@pytest.fixture
def old_shop(tmp_path: Path) -> Shop:
    """A bucket as version 0.1 left it after the nights up to the day before LAST."""
    folder = tmp_path / "old-bucket"
    extract((HERE / "bucket-0.1.tar.gz").read_bytes(), folder)
    return Shop(open_bucket(str(folder)))


@pytest.fixture(scope="module")
def old_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of version 0.1, from git's history."""
    folder = tmp_path_factory.mktemp("version-0.1")
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", COMMIT, "ray_job", "api", "tests"],
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"commit {COMMIT} is not in the history here: {archive.stderr.decode()[:80]}")
    extract(archive.stdout, folder)
    return folder


def test_a_bucket_of_version_0_1_is_read(old_shop):
    storage, current = old_shop.storage, old_shop.pointer
    assert sorted(current.dates) == [LAST - 3 * DAY, LAST - 2 * DAY, LAST - DAY]
    for entry in current.history:
        release = releases.load(storage, entry.release, entry.sha256)
        assert release.stores.schema == releases.RELEASE_SCHEMA
        assert release.stores["store_id"].to_pylist() == list(STORES)
        assert receipts.read(storage, entry.as_of, entry.run_id).status == "published"
        assert load_snapshot(storage, entry).store("s002") is not None
    for key in current.accuracy.values():
        assert scores.decode(storage.read(key), key).schema == scores.SCORES_SCHEMA
    old_shop.check()
    assert old_shop.all_rows().schema == parts.PART_SCHEMA
    assert len(open_histories(storage).store_ids) == len(STORES)
    assert registry.load(storage).version == "tiny"
    assert len(list_releases(storage, 9).releases) == 3
    assert explain(storage, SETTINGS, "s002", None, midnight(LAST - DAY))["outcome"] == "ok"


def test_a_night_goes_on_where_version_0_1_stopped(old_shop):
    """Ingest, run, score, roll back and clean up: each of them reads what the old program wrote."""
    old_shop.deliver([sales_row("s002", LAST, 4321.0)], now=midnight(LAST))
    receipt = old_shop.run(LAST)
    assert receipt.status == "published"
    assert LAST in old_shop.pointer.accuracy
    assert old_shop.stores()["s002"]["as_of"] == LAST
    assert rollback(old_shop.storage).as_of == LAST - DAY
    clean_up(old_shop.storage, midnight(LAST) + 400 * DAY)
    old_shop.check()


def test_version_0_1_reads_what_this_version_writes(old_shop, old_program):
    """This version runs a night on the old bucket; then the old API answers, and an old night runs.

    The old night merges with a release that this version wrote, and scores on top of its scores.
    """
    old_shop.deliver([sales_row("s002", LAST - DAY, 1234.0)], now=midnight(LAST))
    own = old_shop.run(LAST - DAY, now=midnight(LAST))
    assert own.status == "published"
    process = subprocess.run(
        [sys.executable, str(HERE / "read_as_0_1.py"), old_shop.storage.url],
        env={**os.environ, "PYTHONPATH": str(old_program), "PYTHONWARNINGS": "ignore"},
        cwd=old_program,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    answer = json.loads(process.stdout.splitlines()[-1])
    assert set(answer["statuses"].values()) == {200}, answer["statuses"]
    assert answer["receipt"] == "published"
    assert answer["night"] == "published"
    assert answer["stores"] == len(STORES)
    assert answer["scores"]
    old_shop.check()


def with_added_column(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field("holiday_names", pa.list_(pa.string())))


def test_a_later_column_is_hidden_from_version_0_1_and_found_by_later_ones(shop, monkeypatch):
    """The Parquet columns stay those of version 0.1; a version that knows the new one gets it."""
    shop.run(LAST)
    release = shop.release()
    names = pa.array([[f"{n}", None] for n in range(len(STORES))], pa.list_(pa.string()))
    later = releases.Release(release.header, release.stores.append_column("holiday_names", names))
    schema = with_added_column(releases.RELEASE_SCHEMA)
    with monkeypatch.context() as of_a_later_version:
        of_a_later_version.setattr(releases, "RELEASE_SCHEMA", schema)
        data = releases.encode(later)
        assert releases.decode(data, "k").stores.equals(later.stores)
        storage, key = shop.storage, keys.release("later")
        storage.create(key, data)
        digest = parts.sha256(data)
        loaded = releases.load_columns(storage, "later", digest, ["holiday_names", "store_id"])
        assert loaded.equals(later.stores.select(["holiday_names", "store_id"]))
        # A release of this version lacks the column.
        old = releases.decode(releases.encode(release), "k").stores
        assert old["holiday_names"].null_count == len(STORES)
    assert releases.decode(data, "k").stores.equals(release.stores)
    in_file = pq.read_schema(pa.BufferReader(data)).names
    assert in_file == list(releases._FIRST_COLUMNS)


def test_a_later_column_of_scores(monkeypatch):
    table = pa.table(
        {
            field.name: pa.array([None], field.type)
            for field in with_added_column(scores.SCORES_SCHEMA)
        },
        schema=with_added_column(scores.SCORES_SCHEMA),
    ).replace_schema_metadata({"storecast.seen": "{}"})
    with monkeypatch.context() as of_a_later_version:
        of_a_later_version.setattr(scores, "SCORES_SCHEMA", table.schema.remove_metadata())
        data = scores.encode(table)
        assert scores.decode(data, "k").num_columns == table.num_columns
    assert scores.decode(data, "k").schema == scores.SCORES_SCHEMA
    assert pq.read_schema(pa.BufferReader(data)).names == list(scores._FIRST_COLUMNS)
    metadata = pq.read_metadata(pa.BufferReader(data)).metadata
    assert metadata[b"storecast.seen"] == b"{}"


def test_unknown_columns_of_a_part_are_ignored_and_missing_ones_are_null():
    rows = parts.PART_SCHEMA.empty_table()
    outcomes = parts.OUTCOME_SCHEMA.empty_table()
    data = parts.encode(rows, outcomes, "digest", run_id="r")
    table = pq.read_table(pa.BufferReader(data)).drop_columns(["method"])
    sink = pa.BufferOutputStream()
    pq.write_table(table.append_column("new", pa.array([], pa.int8())), sink)
    assert parts.read_rows(sink.getvalue().to_pybytes(), "k").schema == parts.PART_SCHEMA


def later(document: bytes) -> bytes:
    return json.dumps({**json.loads(document), "format": 7}).encode()


def test_a_later_format_is_refused_by_its_number(old_shop):
    """The sentence names the object, both numbers, and what to do."""
    storage, entry = old_shop.storage, old_shop.pointer.current_entry
    receipt_key = keys.receipt(entry.as_of, entry.run_id)
    manifest_key = keys.manifest(1)
    release = old_shop.release()
    header = json.loads(release.header.to_bytes()) | {"format": 7}
    table = release.stores.replace_schema_metadata({b"storecast": json.dumps(header)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    part_key = old_shop.part_keys(LAST - DAY)[0]
    part = parts.decode(storage.read(part_key), part_key)
    part_data = parts.encode(
        parts.read_rows(storage.read(part_key), part_key), part.outcomes, "d", format=7
    )
    score_sink = pa.BufferOutputStream()
    pq.write_table(
        scores.SCORES_SCHEMA.empty_table().replace_schema_metadata({"storecast.format": "7"}),
        score_sink,
    )
    readers = [
        lambda: Pointer.from_bytes(later(storage.read(keys.POINTER)), "the/key"),
        lambda: Receipt.from_bytes(later(storage.read(receipt_key)), "the/key"),
        lambda: Manifest.from_json("the/key", later(storage.read(manifest_key))),
        lambda: releases.decode(sink.getvalue().to_pybytes(), "the/key"),
        lambda: parts.decode(part_data, "the/key"),
        lambda: parts.read_rows(part_data, "the/key"),
        lambda: scores.decode(score_sink.getvalue().to_pybytes(), "the/key"),
    ]
    for read in readers:
        with pytest.raises(UnknownFormatError) as caught:
            read()
        assert str(caught.value) == (
            "the/key: the object is of format 7, and this version reads formats up to 1: use the"
            " version of storecast that wrote it, or a newer one"
        )


def test_a_later_pointer_is_not_overwritten(old_shop):
    """Neither a run nor a rollback of this version changes what it cannot read."""
    old_shop.tamper(keys.POINTER, later)
    before = old_shop.storage.read(keys.POINTER)
    for command in (
        lambda: old_shop.run(LAST),
        lambda: rollback(old_shop.storage),
        lambda: clean_up(old_shop.storage, midnight(LAST) + 400 * DAY),
    ):
        with pytest.raises(CorruptError, match="format 7"):
            command()
    assert old_shop.storage.read(keys.POINTER) == before


def test_unknown_fields_of_the_pointer_stay_when_it_is_moved(old_shop):
    def with_new_fields(data: bytes) -> bytes:
        document = json.loads(data) | {"pinned": "yes"}
        document["history"][0]["signed_by"] = "somebody"
        return json.dumps(document).encode()

    old_shop.tamper(keys.POINTER, with_new_fields)
    old_shop.run(LAST)
    document = json.loads(old_shop.storage.read(keys.POINTER))
    assert document["pinned"] == "yes"
    assert document["history"][1]["signed_by"] == "somebody"
    assert "signed_by" not in document["history"][0]
    assert pointer.read(old_shop.storage)[0].current_entry.as_of == LAST


def test_a_format_without_a_number_is_the_first_one():
    compatibility.check_format(None, "k")
    compatibility.check_format(1, "k")
    for number in (2, "1b", True + 1, 1.5, []):
        with pytest.raises(UnknownFormatError):
            compatibility.check_format(number, "k")
