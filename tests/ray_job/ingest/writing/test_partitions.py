"""A sorted stream becomes an object per store."""

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_job.bucket.storage import open_bucket
from ray_job.data.delta import SALES_SCHEMA, partition_key, stored_schema
from ray_job.data.parquet import open_parquet
from ray_job.data.partition import ROW_COLUMNS, Columns, read_store
from ray_job.ingest.writing.partitions import PartitionWriter
from ray_job.ingest.writing.pieces import cut_by_store
from ray_job.progress import SilentProgress


def rows(stores, days, items=None):
    n = len(stores)
    return pa.record_batch(
        [
            pa.array(stores, pa.string()),
            pa.array(items or [""] * n, pa.string()),
            pa.array(days, pa.int32()).cast(pa.date32()),
            pa.array(np.arange(n, dtype=float)),
            pa.array([0] * n, pa.timestamp("us", "UTC")),
            pa.array(["set"] * n),
        ],
        schema=SALES_SCHEMA,
    )


@given(
    st.lists(st.integers(0, 6), max_size=40).map(sorted),
    st.lists(st.integers(0, 39), max_size=5),
    st.randoms(use_true_random=False),
)
def test_cutting_keeps_every_row_with_its_store(stores, cuts, random):
    names = [f"s{store}" for store in stores]
    days = [random.randrange(100) for _ in names]
    whole = rows(names, days, [random.choice(["", "a"]) for _ in names])
    bounds = sorted({0, len(names), *(cut for cut in cuts if cut < len(names))})
    batches = [whole.slice(start, end - start) for start, end in pairwise(bounds)]
    pieces = list(cut_by_store([*batches, whole.slice(0, 0)]))
    assert [piece.store_id for piece in pieces for _ in range(piece.rows.num_rows)] == names
    assert [sale for piece in pieces for sale in piece.rows["sales"].to_pylist()] == list(
        range(len(names))
    )
    start = 0
    for piece in pieces:
        piece_days = days[start : start + piece.rows.num_rows]
        assert (piece.first_day, piece.last_day) == (min(piece_days), max(piece_days))
        columns = {name: piece.rows[name] for name in ROW_COLUMNS}
        assert piece.varying == {name for name in columns if len(columns[name].unique()) > 1}
        start += piece.rows.num_rows


def test_a_batch_with_nulls_leaves_open_what_varies():
    """Another writer's rows may have no value; nobody may take them for constant."""
    whole = rows(["1", "1", "2"], [1, 2, 1], ["a", None, "a"])
    assert [piece.varying for piece in cut_by_store([whole])] == [None, None]


@pytest.fixture
def writer(tmp_path):
    (tmp_path / "bucket").mkdir()
    (tmp_path / "work").mkdir()
    storage = open_bucket(str(tmp_path / "bucket"))
    return PartitionWriter(storage, stored_schema(SALES_SCHEMA), 1000, tmp_path / "work")


def write(writer, batches):
    with SilentProgress().stage("write") as stage:
        return writer.write(batches, "f", stage)


def test_objects_are_made_for_reading(writer):
    [file] = write(writer, [rows(["1"] * 2500, list(range(2500)), sorted(map(str, range(2500))))])
    assert (file.path, file.rows, file.first_item, file.last_item) == (
        "store_id=1/f.parquet",
        2500,
        "0",
        "999",
    )
    assert file.first_date == date(1970, 1, 1)
    assert file.last_date == date(1970, 1, 1) + timedelta(days=2499)
    data = writer.storage.read(partition_key(file.path))
    assert file.size == len(data)
    footer = pq.ParquetFile(pa.BufferReader(data)).metadata
    assert [footer.row_group(n).num_rows for n in range(footer.num_row_groups)] == [1000, 1000, 500]
    item, day, sales = (footer.row_group(0).column(n) for n in range(3))
    assert item.compression == "LZ4"
    assert not item.has_dictionary_page
    assert (item.statistics.min, day.statistics.has_min_max, sales.statistics) == ("0", True, None)
    assert "store_id" not in footer.schema.names
    assert constant_columns(writer, file) == {"delivered_at", "op"}


def constant_columns(writer, file):
    """The columns of which the footer names the only value."""
    [rows_of_file] = read_store(writer.storage, [partition_key(file.path)], Columns())
    return set(rows_of_file.constant)


def test_a_store_that_is_too_big_for_memory_becomes_one_file_too(writer):
    def batches():
        for number in range(12):
            n = 100_000
            items = np.char.add(
                "i", np.char.zfill(np.arange(number * n, number * n + n).astype(str), 8)
            )
            yield rows(["big"] * n, [number] * n, items.tolist())
        yield rows(["small"], [3])

    big, small = write(writer, batches())
    assert (big.store_id, big.rows, small.rows) == ("big", 1_200_000, 1)
    assert (big.first_item, big.last_item) == ("i00000000", "i01199999")
    assert (big.last_date - big.first_date).days == 11
    file = open_parquet(writer.storage, partition_key(big.path), big.size)
    items = file.read(["item_id"])["item_id"]
    assert items.to_pylist() == [f"i{number:08d}" for number in range(1_200_000)]
    assert file.metadata.row_group(5).num_rows == 1000
    assert list(writer.folder.iterdir()) == []
    assert constant_columns(writer, big) == {"delivered_at", "op"}
    assert constant_columns(writer, small) == {"item_id", "delivered_at", "op"}
