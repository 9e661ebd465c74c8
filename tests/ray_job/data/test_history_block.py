"""Histories as one Arrow table: what was encoded comes back, whatever the files look like."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_job.bucket.errors import CorruptError
from ray_job.data.history_block import ChunkHistories, UnreadStore, decode, encode
from ray_job.data.partition import ROW_COLUMNS, FileRows

VALUES = {"item_id": "x", "delivered_at": 5, "op": "set"}


@st.composite
def file_rows(draw):
    count = draw(st.integers(0, 4))
    constant = draw(st.sets(st.sampled_from(sorted(VALUES))))
    table = pa.table(
        {
            "date": pa.array(range(count), pa.int32()).cast(pa.date32()),
            "sales": pa.array([float(row) for row in range(count)], pa.float64()),
            **{
                name: pa.repeat(pa.scalar(VALUES[name]), count).cast(ROW_COLUMNS[name])
                for name in sorted(set(VALUES) - constant)
            },
        }
    )
    return FileRows(table, {name: VALUES[name] for name in sorted(constant)})


@st.composite
def chunk_histories(draw):
    stores = sorted(draw(st.sets(st.sampled_from("abcdef"))))
    return ChunkHistories(
        digest=draw(st.sampled_from(["one", "two"])),
        histories=[
            (store, draw(st.lists(file_rows(), min_size=1, max_size=3))) for store in stores
        ],
        unread=[UnreadStore("z", "gone", "the file is gone")] * draw(st.integers(0, 1)),
        seconds=draw(st.floats(0, 9)),
        error=draw(st.sampled_from([None, "no memory"])),
    )


def whole(rows):
    """All columns of a file, in one order."""
    names = [name for name in rows.table.column_names if name not in rows.constant]
    bare = FileRows(rows.table.select(names), rows.constant)
    return bare.whole().select(["date", "sales", "item_id", "delivered_at", "op"])


@given(st.lists(chunk_histories(), max_size=3), st.integers(1, 5))
def test_what_was_encoded_comes_back(chunks, most_rows):
    """Whatever pieces Ray Data makes of the columns meanwhile."""
    table = encode(chunks)
    assert table.num_rows > 0, "Ray Data drops empty blocks"
    batches = table.combine_chunks().to_batches(max_chunksize=most_rows)
    table = pa.Table.from_batches(batches) if most_rows < 5 else table
    decoded = list(decode(table))
    assert [chunk.digest for chunk in decoded] == [chunk.digest for chunk in chunks]
    for before, after in zip(chunks, decoded, strict=True):
        assert (after.unread, after.seconds, after.error) == (
            before.unread,
            before.seconds,
            before.error,
        )
        assert [store for store, _ in after.histories] == [store for store, _ in before.histories]
        for (_, files), (_, files_after) in zip(before.histories, after.histories, strict=True):
            for rows, rows_after in zip(files, files_after, strict=True):
                assert whole(rows_after).equals(whole(rows))


def test_a_table_of_something_else_is_refused():
    with pytest.raises(CorruptError, match="no metadata of histories"):
        list(decode(pa.table({"date": [1]})))
