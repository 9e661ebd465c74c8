"""The replayed log against delta-rs's own answer, over random histories of a table."""

from datetime import UTC, date, datetime, timedelta
from random import Random

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.storage import open_bucket
from ray_job.data import delta, log_replay
from ray_job.data.delta import SALES_SCHEMA, STORE, DataFile

NOW = datetime(2026, 11, 23, tzinfo=UTC)
DAY = date(2026, 1, 1)
ROOT = keys.BATCH_DATA
LOG = f"{ROOT}/_delta_log"


@pytest.fixture
def storage(tmp_path):
    return open_bucket(str(tmp_path))


def create(storage, **configuration):
    address, _ = storage.delta(ROOT)
    schema = Schema.from_arrow(SALES_SCHEMA)
    DeltaTable.create(address, schema, partition_by=[STORE], configuration=configuration or None)
    return delta.open_table(storage, ROOT)


def new_file(random, number):
    store = random.choice(["1", "10", "1-a", "2", "zz_9"])
    first = DAY + timedelta(days=random.randrange(500))
    last = first + timedelta(days=random.randrange(3))
    if random.random() < 0.1:
        return DataFile(f"store_id={store}/{number:03d}.parquet", store, 10, random.randrange(9))
    item = random.choice(["", "a", 'é"\n\\'])
    return DataFile(
        f"store_id={store}/{number:03d}.parquet",
        store,
        random.randrange(2**40),
        random.randrange(1, 9),
        first,
        last,
        item,
        item + "z",
    )


def grow(storage, seed):
    """A table after some commits, as ingests, compactions, failed and repeated ones make them."""
    random = Random(seed)
    table = create(storage, **{"delta.checkpointInterval": random.choice(["2", "3", "100"])})
    live, dead = [], []
    number = 0
    for step in range(random.randrange(1, 12)):
        added = []
        for _ in range(random.randrange(5)):
            number += 1
            added.append(new_file(random, number))
        gone = [one for one in live if random.random() < 0.2]
        back = [one for one in dead if random.random() < 0.1]
        twice = [one for one in live if one not in gone and random.random() < 0.1]
        delta.commit(
            table,
            [*added, *back, *twice],
            gone,
            transaction=("ingest", step + 1) if random.random() < 0.7 else None,
            changes_data=random.random() < 0.7,
            now=NOW,
        )
        live = [one for one in live if one not in gone] + added + back
        dead = [one for one in dead if one not in back] + gone
        table = delta.open_table(storage, ROOT)
        if random.random() < 0.2:
            delta.add_columns(table, [pa.field(f"further_{step}", pa.float64())])
        if random.random() < 0.2:
            table.create_checkpoint()
    return delta.open_table(storage, ROOT)


@pytest.mark.parametrize("seed", range(40))
def test_it_says_what_delta_rs_says(storage, seed):
    table = grow(storage, seed)
    found = log_replay.read(storage, ROOT)
    assert found.version == table.version()
    assert found.columns == delta.arrow_schema(table)
    assert found.transactions.get("ingest", 0) == delta.transaction_version(table, "ingest")
    assert found.files.equals(delta.list_files(table))


def test_no_table(storage):
    assert log_replay.read(storage, ROOT) is None
    assert delta.open_snapshot(storage, ROOT) is None


def test_a_checkpoint_spares_the_commits_before_it(storage):
    table = delta.open_or_create(storage, ROOT, SALES_SCHEMA, [STORE])
    random = Random(1)
    for number in range(11):
        delta.commit(table, [new_file(random, number)], now=NOW)
        table = delta.open_table(storage, ROOT)
    for version in range(10):
        path = f"{LOG}/{version:020d}.json"
        storage.delete(path, storage.stat(path).generation)
    found = log_replay.read(storage, ROOT)
    assert (found.version, found.files.num_rows) == (11, 11)
    assert found.files.equals(delta.list_files(delta.open_table(storage, ROOT)))


def test_what_is_not_replayed_is_left_to_delta_rs(storage):
    create(storage, **{"delta.enableDeletionVectors": "true"})
    with pytest.raises(log_replay.UnsupportedLogError, match="reader version 3"):
        log_replay.read(storage, ROOT)
    assert delta.open_snapshot(storage, ROOT).columns == SALES_SCHEMA


def test_missing_commit_is_not_passed_over(storage):
    table = create(storage)
    for number in range(3):
        delta.commit(table, [new_file(Random(1), number)], now=NOW)
        table = delta.open_table(storage, ROOT)
    path = f"{LOG}/{1:020d}.json"
    storage.delete(path, storage.stat(path).generation)
    with pytest.raises(log_replay.UnsupportedLogError, match="a commit from 0 on is missing"):
        log_replay.read(storage, ROOT)


def test_broken_log_is_named(storage):
    create(storage)
    storage.write_unseen(f"{LOG}/{1:020d}.json", b'{"add": {"path"')
    with pytest.raises(CorruptError, match=f"{LOG}/0+1.json: "):
        log_replay.read(storage, ROOT)
