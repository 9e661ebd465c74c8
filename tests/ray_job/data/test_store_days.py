"""A store's days: read for a chunk with some of its items, and what missing rows mean."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_job.bucket.errors import CorruptError, NotFoundError
from ray_job.data import panel_builder, store_days
from ray_job.data.partition import Columns, FileRows
from ray_job.data.store_days import RowMeaning, StoreDays, read_store_days

FIRST = date(2026, 3, 1)
AS_OF = date(2026, 3, 10)
LAST = date(2026, 3, 12)
COLUMNS = Columns(("open",))
NAN = float("nan")
EPOCH = date(1970, 1, 1)


def table(*rows):
    """(item, day of March, sales[, open]) each."""
    return pa.table(
        {
            "item_id": pa.array([row[0] for row in rows], pa.string()),
            "date": pa.array([FIRST + timedelta(days=row[1] - 1) for row in rows], pa.date32()),
            "sales": pa.array([row[2] for row in rows], pa.float64()),
            "delivered_at": pa.array(
                [datetime(2026, 3, 11, tzinfo=UTC)] * len(rows), pa.timestamp("us", "UTC")
            ),
            "op": pa.array(["set"] * len(rows), pa.string()),
            "open": pa.array([row[3] if len(row) > 3 else None for row in rows], pa.float64()),
        }
    )


def panel(rows, reading=store_days.READING, days=None):
    files = [FileRows(table(*rows))]
    named = None if days is None else {"s": days}
    (built,) = panel_builder.panels([("s", files)], COLUMNS, FIRST, AS_OF, LAST, reading, named)
    return built


def known(sales):
    return ["-" if np.isnan(value) else int(value) for value in sales]


def march(numbers):
    """Days since 1970 as days of March."""
    return [(EPOCH + timedelta(days=int(number)) - FIRST).days + 1 for number in numbers]


DELIVERED = [("a", 2, 5.0), ("a", 3, 0.0), ("b", 5, 4.0), ("b", 6, None, 0), ("a", 12, 9.0)]


@pytest.mark.parametrize("per_group", [1, 2, 100])
def test_the_days_of_a_store(storage, monkeypatch, per_group):
    monkeypatch.setattr(store_days, "WHOLE_BYTES", 100)
    for name, rows in (("f", DELIVERED[:3]), ("g", DELIVERED[3:])):
        sink = pa.BufferOutputStream()
        pq.write_table(table(*rows), sink, row_group_size=per_group, write_page_checksum=True)
        storage.create(name, sink.getvalue().to_pybytes())
    days = read_store_days(storage, ["f", "g"])
    assert march(days.delivered) == [2, 3, 5, 12]
    assert march(days.sold) == [2, 5, 12]
    assert march(days.closed) == [6]


def test_a_file_that_is_gone_or_damaged(storage):
    storage.create("rubbish", b"no parquet")
    with pytest.raises(CorruptError, match="^rubbish: "):
        read_store_days(storage, ["rubbish"])
    with pytest.raises(NotFoundError):
        read_store_days(storage, ["gone"])


def test_missing_rows_are_unknown_by_default():
    built = panel(DELIVERED)
    assert known(built.sales[0]) == ["-", 5, 0, *"-------"]
    assert known(built.sales[1]) == ["-", "-", "-", "-", 4, 0, *"----"]


def test_missing_rows_are_0_where_the_store_delivered():
    """From the item's first day on; a day without any row of the store stays unknown."""
    built = panel(DELIVERED, RowMeaning(missing_is_zero=True))
    assert known(built.sales[0]) == ["-", 5, 0, "-", 0, *"-----"]
    assert known(built.sales[1]) == ["-", "-", "-", "-", 4, 0, *"----"]
    assert built.delivered.tolist() == [5, 5]


def test_a_day_after_the_as_of_fills_nothing():
    rows = [("a", 9, 5.0), ("b", 11, 4.0), ("b", 8, 1.0)]
    built = panel(rows, RowMeaning(missing_is_zero=True))
    assert known(built.sales[0]) == [*"--------", 5, "-"]
    assert built.store_sold().sold.sum() == 2


def test_zeros_filled_in_ahead_are_unknown():
    """Of a store that sold nothing on the day; a day that is declared closed stays 0."""
    rows = [("a", 8, 5.0), ("a", 9, 0.0), ("a", 10, 0.0, 0)]
    filled = RowMeaning(undelivered=(AS_OF - timedelta(days=1), AS_OF))
    built = panel(rows, filled)
    assert known(built.sales[0]) == [*"-------", 5, "-", 0]
    assert built.delivered.tolist() == [10]
    other = panel([*rows, ("b", 9, 1.0)], filled)
    assert known(other.sales[0]) == [*"-------", 5, 0, 0]


ROWS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.integers(1, 12),
        st.sampled_from([None, 0.0, 3.0]),
        st.sampled_from([None, 0.0, 1.0]),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row[:2],
)


@settings(deadline=None)
@given(ROWS, st.sets(st.sampled_from("abcd"), min_size=1), st.booleans(), st.booleans())
def test_a_chunk_with_some_items_has_what_the_whole_has(rows, chosen, missing_is_zero, filled):
    ordered = sorted(rows)
    part = [row for row in ordered if row[0] in chosen]
    if not part:
        return
    reading = RowMeaning(missing_is_zero, (AS_OF,) if filled else ())
    numbers = {row: (FIRST - EPOCH).days + row[1] - 1 for row in ordered}
    days = StoreDays(
        np.unique([numbers[row] for row in ordered if row[2] is not None]).astype(np.int64),
        np.unique([numbers[row] for row in ordered if row[2]]).astype(np.int64),
        np.array([], dtype=np.int64),
    )
    whole, cut = panel(ordered, reading), panel(part, reading, days)
    places = [place for place, item in enumerate(whole.item_ids) if item in chosen]
    assert cut.item_ids.tolist() == whole.item_ids[places].tolist()
    assert cut.sales.tobytes() == whole.sales[places].tobytes()
    assert cut.delivered.tolist() == whole.delivered[places].tolist()
    assert cut.store_sold().sold.tolist() == whole.store_sold().sold.tolist()
