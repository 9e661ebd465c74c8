"""Taking rows gives what Arrow's take gives, whichever way it goes."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ray_job.publishing.row_order import by_store, take_rows

places = st.lists(st.integers(0, 9), max_size=12)


def table_of(*chunks):
    rows = [
        [{"store_id": store, "days": [1.5] * (number % 3)} for number, store in enumerate(stores)]
        for stores in chunks
    ]
    schema = pa.schema([("store_id", pa.string()), ("days", pa.list_(pa.float64()))])
    return pa.concat_tables(pa.Table.from_pylist(part, schema=schema) for part in rows)


TABLE = table_of(["s3", "s1", "s1"], [], ["s0", "s9"], ["s2", "s4", "s5", "s6", "s7"])


@given(
    places | st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda ends: list(range(*ends)))
)
def test_the_rows_at_places(chosen):
    taken = take_rows(TABLE, np.array(chosen, dtype=np.int64))
    assert taken.to_pylist() == [TABLE.to_pylist()[place] for place in chosen]
    assert taken.schema == TABLE.schema


@given(st.lists(st.lists(st.sampled_from(["s1", "s2", "s3", "s10"]), max_size=4), min_size=1))
def test_sorted_by_store(chunks):
    table = table_of(*chunks)
    rows = table.to_pylist()
    assert by_store(table).to_pylist() == sorted(rows, key=lambda row: row["store_id"])


def test_rows_that_are_in_order_are_not_copied():
    table = table_of(["s1", "s2"], ["s3"])
    assert by_store(table)["store_id"].chunk(0).buffers()[2].address == (
        table["store_id"].chunk(0).buffers()[2].address
    )
