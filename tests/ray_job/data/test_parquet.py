"""Item ranges of a file that is too big to be fetched whole: few and small requests."""

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import pytest

from ray_job.bucket.errors import CorruptError, NotFoundError
from ray_job.data import parquet, partition
from ray_job.data.delta import SALES_SCHEMA, parquet_writer, stored_schema
from ray_job.data.parquet import WHOLE_BYTES, RangedFile, read_batches
from ray_job.data.partition import Columns
from ray_job.plan import ItemRange
from tests.conftest import BUCKET, directory
from tests.fake_gcs import Fault

KEY = "batch_data/store_id=s1/big.parquet"
ITEMS, DAYS = 50, 30_000
SCHEMA = stored_schema(SALES_SCHEMA)


@pytest.fixture(scope="module")
def big():
    """A file of fifty items with a row group each, larger than what is fetched whole."""
    sink = pa.BufferOutputStream()
    with parquet_writer(sink, SCHEMA) as writer:
        for number in range(ITEMS):
            rows = {
                "item_id": pa.repeat(f"i{number:03d}", DAYS),
                "date": pa.repeat(pa.scalar(date(2026, 1, 1)), DAYS),
                "sales": np.random.default_rng(number).normal(size=DAYS),
                "delivered_at": pa.repeat(pa.scalar(0, SCHEMA.field("delivered_at").type), DAYS),
                "op": pa.repeat("set", DAYS),
            }
            writer.write_table(pa.table(rows).cast(SCHEMA), row_group_size=DAYS)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def ranged_storage(gcs, big):
    """The file on the fake storage."""
    from ray_job.bucket.storage import open_bucket  # noqa: PLC0415 - after the fake is there

    assert len(big) > WHOLE_BYTES / 2
    gcs.put(BUCKET, KEY, big)
    return open_bucket(f"gs://{BUCKET}")


@pytest.fixture(autouse=True)
def _always_ranged(monkeypatch):
    monkeypatch.setattr("ray_job.data.parquet.WHOLE_BYTES", 1000)


def items(rows):
    return sorted(set(rows.whole()["item_id"].to_pylist()))


RANGE = ItemRange("i010", "i013")


def test_a_range_of_items_is_one_request_beside_the_footers(gcs, ranged_storage, big):
    gcs.log.clear()
    (rows,) = partition.read_store(ranged_storage, [KEY], Columns(), RANGE)
    assert items(rows) == ["i010", "i011", "i012"]
    requests = gcs.log.select(op="get", key=KEY)
    assert len(requests) == 2
    assert sum(entry.sent for entry in requests) < len(big) / 10


def test_a_range_has_the_same_rows_as_the_whole_file(ranged_storage, big, tmp_path):
    local = directory(tmp_path)
    local.write_unseen(KEY, big)
    whole = pa.concat_tables(list(map(pa.table, (b for b in batches(local, big)))))
    for storage in (ranged_storage, local):
        for item_range in (RANGE, ItemRange(None, "i001"), ItemRange("i049", None), ItemRange()):
            (rows,) = partition.read_store(storage, [KEY], Columns(), item_range)
            ids = whole["item_id"]
            first, end = item_range.first or "", item_range.end or "j"
            expected = whole.filter(pa.compute.greater_equal(ids, first))
            expected = expected.filter(pa.compute.less(expected["item_id"], end))
            assert rows.whole().select(SCHEMA.names).equals(expected)
        groups = parquet.row_groups(storage, KEY)
        assert [group.first_item for group in groups] == [
            f"i{number:03d}" for number in range(ITEMS)
        ]


def batches(storage, big):
    return read_batches(storage, KEY, len(big), SCHEMA)


def test_rows_of_a_big_file_in_batches(monkeypatch, ranged_storage, big):
    whole = pa.Table.from_batches(batches(ranged_storage, big))
    monkeypatch.setattr(parquet, "WHOLE_BYTES", 1000)
    assert pa.Table.from_batches(batches(ranged_storage, big)).equals(whole)


@pytest.mark.parametrize("fault", [{"kind": "corrupt"}, {"kind": "truncate", "clean": True}])
def test_what_was_damaged_on_its_way_is_asked_for_again(gcs, ranged_storage, fault):
    injected = gcs.faults.add(Fault(**fault, op="get", key=KEY, nth=2))
    (rows,) = partition.read_store(ranged_storage, [KEY], Columns(), RANGE)
    assert injected.fired == 1
    assert items(rows) == ["i010", "i011", "i012"]


def test_damage_that_stays_is_an_error(gcs, ranged_storage):
    gcs.faults.add(Fault("corrupt", op="get", key=KEY, times=None))
    with pytest.raises(CorruptError, match=f"^{KEY}: "):
        partition.read_store(ranged_storage, [KEY], Columns(), RANGE)


def test_a_file_that_goes_while_it_is_read(gcs, ranged_storage, big):
    file = RangedFile(ranged_storage, KEY, len(big))
    gcs.delete(BUCKET, KEY)
    with pytest.raises(NotFoundError, match=f"^{KEY}: "):
        pa.parquet.ParquetFile(file)
