"""The replayed log equals what delta-rs reads, for tables with random commits."""

from datetime import UTC, date, datetime, timedelta
from random import Random

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError
from ray_job.data import delta
from ray_job.data.delta import SALES_SCHEMA, STORE, DataFile
from ray_job.data.delta_log import log_replay

NOW = datetime(2026, 11, 23, tzinfo=UTC)
DAY = date(2026, 1, 1)
ROOT = keys.BATCH_DATA
LOG = f"{ROOT}/_delta_log"


def create(local_storage, **configuration):
    address, _ = local_storage.delta(ROOT)
    schema = Schema.from_arrow(SALES_SCHEMA)
    DeltaTable.create(address, schema, partition_by=[STORE], configuration=configuration or None)
    return delta.open_table(local_storage, ROOT)


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


def grow(local_storage, seed):
    """A table after random commits, like those of ingests, compactions, and repeated ingests."""
    random = Random(seed)
    table = create(local_storage, **{"delta.checkpointInterval": random.choice(["2", "3", "100"])})
    live_files, dead_files = [], []
    number = 0
    for step in range(random.randrange(1, 12)):
        added = []
        for _ in range(random.randrange(5)):
            number += 1
            added.append(new_file(random, number))
        removed = [file for file in live_files if random.random() < 0.2]
        added_again = [file for file in dead_files if random.random() < 0.1]
        repeated = [file for file in live_files if file not in removed and random.random() < 0.1]
        delta.commit(
            table,
            [*added, *added_again, *repeated],
            removed,
            transaction=("ingest", step + 1) if random.random() < 0.7 else None,
            changes_data=random.random() < 0.7,
            now=NOW,
        )
        live_files = [file for file in live_files if file not in removed] + added + added_again
        dead_files = [file for file in dead_files if file not in added_again] + removed
        table = delta.open_table(local_storage, ROOT)
        if random.random() < 0.2:
            delta.add_columns(table, [pa.field(f"further_{step}", pa.float64())])
        if random.random() < 0.2:
            table.create_checkpoint()
    return delta.open_table(local_storage, ROOT)


@pytest.mark.parametrize("seed", range(40))
def test_it_reads_what_delta_rs_reads(local_storage, seed):
    table = grow(local_storage, seed)
    snapshot = log_replay.read(local_storage, ROOT)
    assert snapshot.version == table.version()
    assert snapshot.columns == delta.arrow_schema(table)
    assert snapshot.transactions.get("ingest", 0) == delta.transaction_version(table, "ingest")
    assert snapshot.files.equals(delta.list_files(table))


def test_no_table(local_storage):
    assert log_replay.read(local_storage, ROOT) is None
    assert delta.open_snapshot(local_storage, ROOT) is None


def test_a_checkpoint_spares_the_commits_before_it(local_storage):
    table = delta.open_or_create(local_storage, ROOT, SALES_SCHEMA, [STORE])
    random = Random(1)
    for number in range(11):
        delta.commit(table, [new_file(random, number)], now=NOW)
        table = delta.open_table(local_storage, ROOT)
    for version in range(10):
        path = f"{LOG}/{version:020d}.json"
        local_storage.delete(path, local_storage.stat(path).generation)
    snapshot = log_replay.read(local_storage, ROOT)
    assert (snapshot.version, snapshot.files.num_rows) == (11, 11)
    assert snapshot.files.equals(delta.list_files(delta.open_table(local_storage, ROOT)))


def test_features_that_no_file_uses_are_read(local_storage):
    create(local_storage, **{"delta.enableDeletionVectors": "true"})
    snapshot = log_replay.read(local_storage, ROOT)
    assert snapshot.columns == SALES_SCHEMA
    assert "deletionVectors" in snapshot.features.reader_features


def test_what_is_not_replayed_is_left_to_delta_rs(local_storage):
    table = create(local_storage)
    for number in range(2):
        delta.commit(table, [new_file(Random(1), number)], now=NOW)
        table = delta.open_table(local_storage, ROOT)
    # A checkpoint of the second version has such a name. Delta-rs ignores this one.
    local_storage.create(f"{LOG}/{1:020d}.checkpoint.{'0' * 8}-aaaa.json", b"{}")
    with pytest.raises(log_replay.UnsupportedLogError, match="a checkpoint of another kind"):
        log_replay.read(local_storage, ROOT)


def test_missing_commit_is_not_passed_over(local_storage):
    table = create(local_storage)
    for number in range(3):
        delta.commit(table, [new_file(Random(1), number)], now=NOW)
        table = delta.open_table(local_storage, ROOT)
    path = f"{LOG}/{1:020d}.json"
    local_storage.delete(path, local_storage.stat(path).generation)
    with pytest.raises(log_replay.UnsupportedLogError, match="a commit from 0 on is missing"):
        log_replay.read(local_storage, ROOT)


def test_broken_log_is_named(local_storage):
    create(local_storage)
    local_storage.write_unseen(f"{LOG}/{1:020d}.json", b'{"add": {"path"')
    with pytest.raises(CorruptError, match=f"{LOG}/0+1.json: "):
        log_replay.read(local_storage, ROOT)
