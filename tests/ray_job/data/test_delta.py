"""Delta tables as snapshots: their files, commits, and commits that are refused."""

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, CorruptError
from ray_job.data.delta import (
    SALES_SCHEMA,
    STORE,
    DataFile,
    add_columns,
    arrow_schema,
    commit,
    list_files,
    open_or_create,
    open_table,
    transaction_version,
)
from ray_job.data.parquet import open_parquet

NOW = datetime(2026, 11, 23, tzinfo=UTC)
DAY = date(2026, 1, 1)


@pytest.fixture
def table(local_storage):
    return open_or_create(local_storage, keys.BATCH_DATA, SALES_SCHEMA, [STORE])


def reopened(local_storage):
    return open_table(local_storage, keys.BATCH_DATA)


def file(store, name, item="a"):
    return DataFile(f"store_id={store}/{name}.parquet", store, 10, 2, DAY, DAY, item, item)


def paths(table):
    return list_files(table)["path"].to_pylist()


def test_no_table(local_storage):
    assert reopened(local_storage) is None


def test_a_new_table_is_empty_and_is_made_once(local_storage, table):
    assert list_files(table).num_rows == 0
    assert arrow_schema(table) == SALES_SCHEMA
    assert open_or_create(local_storage, keys.BATCH_DATA, SALES_SCHEMA, [STORE]).version() == 0


def test_files_are_listed_with_their_statistics_by_store(local_storage, table):
    commit(table, [file("2", "x"), file("10", "z", 'é"'), file("10", "y")], now=NOW)
    assert paths(table) == []
    assert list_files(reopened(local_storage)).to_pylist()[1] == {
        "path": "store_id=10/z.parquet",
        "store_id": "10",
        "size": 10,
        "rows": 2,
        "first_date": DAY,
        "last_date": DAY,
        "first_item": 'é"',
        "last_item": 'é"',
        "modified": NOW.timestamp() * 1000,
    }
    assert paths(reopened(local_storage)) == [
        f"store_id={name}.parquet" for name in ("10/y", "10/z", "2/x")
    ]


def test_one_commit_adds_and_removes_single_files(local_storage, table):
    old, kept, new = file("1", "old"), file("1", "kept"), file("1", "new")
    commit(table, [old, kept], now=NOW)
    commit(reopened(local_storage), [new], [old], changes_data=False, now=NOW)
    assert paths(reopened(local_storage)) == [kept.path, new.path]


def test_a_transaction_is_refused_after_another_one_of_the_same_app(local_storage, table):
    older_snapshot = reopened(local_storage)
    commit(table, [file("1", "x")], transaction=("ingest", 1), now=NOW)
    for number in (1, 2):
        with pytest.raises(ConflictError):
            commit(older_snapshot, [file("1", "y")], transaction=("ingest", number), now=NOW)
    assert transaction_version(reopened(local_storage), "ingest") == 1
    assert transaction_version(table, "ingest") == 0
    commit(older_snapshot, [file("1", "z")], now=NOW)
    assert len(paths(reopened(local_storage))) == 2


@pytest.mark.parametrize("changes_data", [True, False])
def test_a_file_is_removed_once(local_storage, table, changes_data):
    old = file("1", "old")
    commit(table, [old], now=NOW)
    first, second = reopened(local_storage), reopened(local_storage)
    commit(first, [file("1", "new")], [old], changes_data=changes_data, now=NOW)
    with pytest.raises(ConflictError):
        commit(second, [file("1", "newer")], [old], transaction=("ingest", 1), now=NOW)
    assert paths(reopened(local_storage)) == ["store_id=1/new.parquet"]


def test_an_append_and_a_compaction_do_not_disturb_each_other(local_storage, table):
    old = file("1", "old")
    commit(table, [old], now=NOW)
    compacting, appending, compacting_later = (reopened(local_storage) for _ in range(3))
    commit(compacting, [file("1", "new")], [old], changes_data=False, now=NOW)
    commit(appending, [file("1", "late")], transaction=("ingest", 1), now=NOW)
    assert paths(reopened(local_storage)) == ["store_id=1/late.parquet", "store_id=1/new.parquet"]
    with pytest.raises(ConflictError):
        commit(compacting_later, [file("1", "newer")], [old], changes_data=False, now=NOW)


def test_a_commit_may_add_nothing(local_storage, table):
    commit(table, [], transaction=("ingest", 1), now=NOW)
    assert transaction_version(reopened(local_storage), "ingest") == 1


def test_columns_are_added_to_the_newest_snapshot(local_storage, table):
    commit(reopened(local_storage), [], transaction=("ingest", 1), now=NOW)
    add_columns(table, [pa.field("Max Temp °C", pa.float64()), pa.field("name", pa.string())])
    assert arrow_schema(table).names[-2:] == ["Max Temp °C", "name"]
    assert transaction_version(table, "ingest") == 1


def test_what_is_no_table_or_no_parquet_is_an_error(local_storage):
    local_storage.create(f"{keys.BATCH_DATA}/_delta_log/{0:020d}.json", b"rubbish")
    with pytest.raises(CorruptError, match=keys.BATCH_DATA):
        reopened(local_storage)
    local_storage.create("x.parquet", b"rubbish")
    with pytest.raises(CorruptError, match=r"^x\.parquet"):
        open_parquet(local_storage, "x.parquet", 7)
