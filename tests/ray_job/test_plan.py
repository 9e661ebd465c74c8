"""The plan as a pure function: its chunks, and what changes their digests."""

from dataclasses import replace
from datetime import date, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_job import plan
from ray_job.plan import FILES_SCHEMA, Basis, ItemRange, RowGroup
from ray_job.settings import Plan

NIGHT = date(2026, 3, 28)
BASIS = Basis(
    as_of=NIGHT, horizon=7, lookback_days=100, model="m", context="c", settings="s", code="x"
)


def files(*rows):
    """A table of files (store, path, bytes[, rows[, first date, last date]])."""
    full = [(*row, *(row[2], None, None)[len(row) - 3 :]) for row in rows]
    columns = list(zip(*full, strict=True))
    return pa.table([pa.array(c) for c in columns], names=FILES_SCHEMA.names).cast(FILES_SCHEMA)


def many(n, size=10):
    return plan.relevant(files(*((f"s{k:03d}", f"p{k}", size) for k in range(n))), BASIS)


def test_nothing_to_do():
    assert plan.make(FILES_SCHEMA.empty_table(), BASIS, Plan(), {}) == []


def test_all_small_stores_in_one_chunk():
    (chunk,) = plan.make(many(5), BASIS, Plan(), {})
    assert chunk.store_ids == [f"s{k:03d}" for k in range(5)]
    assert (chunk.n_stores, chunk.bytes, chunk.rows, chunk.items) == (5, 50, 50, None)
    assert chunk.memory_bytes == 50 * 160 + 50 * 3


def test_each_store_is_in_exactly_one_chunk():
    chunks = plan.make(many(200), BASIS, Plan(chunk_bytes=100), {})
    stores = [store for chunk in chunks for store in chunk.store_ids]
    assert sorted(stores) == [f"s{k:03d}" for k in range(200)]
    assert max(chunk.bytes for chunk in chunks) <= 100
    assert [chunk.bytes for chunk in chunks] == sorted((c.bytes for c in chunks), reverse=True)


def test_the_order_of_files_does_not_matter():
    table = many(50)
    shuffled = table.take(pa.array([(k * 37) % 50 for k in range(50)]))
    made = plan.make(plan.relevant(shuffled, BASIS), BASIS, Plan(chunk_bytes=100), {})
    assert made == plan.make(table, BASIS, Plan(chunk_bytes=100), {})


def test_a_changed_store_changes_its_own_chunk_only():
    before = plan.make(many(200), BASIS, Plan(chunk_bytes=200), {})
    rows = [(f"s{k:03d}", f"p{k}", 10) for k in range(200)]
    rows[7] = ("s007", "other", 10)
    after = plan.make(plan.relevant(files(*rows), BASIS), BASIS, Plan(chunk_bytes=200), {})
    changed = {c.digest for c in after} - {c.digest for c in before}
    assert len(changed) == 1
    (chunk,) = (c for c in after if c.digest in changed)
    assert "s007" in chunk.store_ids


@pytest.mark.parametrize(
    "change",
    [
        {"as_of": NIGHT - timedelta(days=1)},
        {"horizon": 8},
        {"lookback_days": 101},
        {"model": "n"},
        {"context": "d"},
        {"settings": "t"},
        {"code": "y"},
    ],
)
def test_whatever_decides_a_prediction_is_in_the_digest(change):
    (chunk,) = plan.make(many(3), BASIS, Plan(), {})
    (changed,) = plan.make(many(3), replace(BASIS, **change), Plan(), {})
    assert chunk.digest != changed.digest


def test_the_chunk_size_is_not_in_the_digest():
    (chunk,) = plan.make(many(3), BASIS, Plan(chunk_bytes=30), {})
    (of_other_size,) = plan.make(many(3), BASIS, Plan(chunk_bytes=31), {})
    assert chunk.digest == of_other_size.digest


@pytest.mark.parametrize(
    ("first", "last", "counts"),
    [
        (None, None, True),
        (NIGHT - timedelta(days=500), NIGHT - timedelta(days=100), False),
        (NIGHT - timedelta(days=500), NIGHT - timedelta(days=99), True),
        (NIGHT + timedelta(days=7), NIGHT + timedelta(days=20), True),
        (NIGHT + timedelta(days=8), NIGHT + timedelta(days=20), False),
    ],
)
def test_files_that_reach_into_no_day_are_left_out(first, last, counts):
    table = files(("a", "p", 10, 10, first, last), ("b", "q", 10, 10, None, None))
    left = plan.relevant(table, BASIS)["store_id"].to_pylist()
    assert left == (["a", "b"] if counts else ["b"])


def test_files_of_what_is_known_ahead_beyond_the_horizon_count():
    """A model may use days ahead that are beyond the horizon of the run."""
    table = files(
        *(
            (store, store, 10, 10, NIGHT + timedelta(days=k), NIGHT + timedelta(days=20))
            for store, k in (("a", 7), ("b", 8), ("c", 10), ("d", 11))
        )
    )
    further = replace(BASIS, reach=10)
    assert plan.relevant(table, BASIS)["store_id"].to_pylist() == ["a"]
    assert plan.relevant(table, further)["store_id"].to_pylist() == ["a", "b", "c"]
    assert plan.relevant(table, replace(BASIS, reach=3))["store_id"].to_pylist() == ["a"]


def test_only_some_stores():
    assert plan.relevant(many(5), BASIS, ["s001", "s003"])["store_id"].to_pylist() == [
        "s001",
        "s003",
    ]


def test_a_big_store_is_cut_where_items_begin():
    table = plan.relevant(files(("a", "big", 90), ("a", "small", 10), ("b", "x", 5)), BASIS)
    limits = Plan(chunk_bytes=99)
    assert plan.oversized(table, limits) == {"a": "big"}
    groups = [RowGroup(item, 10) for item in ("", "a", "a", "b", "ß", "ü")]
    chunks = plan.make(table, BASIS, limits, {"a": groups})
    ranges = [chunk.items for chunk in chunks if chunk.items is not None]
    assert set(ranges) == {ItemRange(None, "a"), ItemRange("a", "ß"), ItemRange("ß", None)}
    assert sum(chunk.bytes for chunk in chunks if chunk.items) == 99  # a third each, rounded down
    assert all(chunk.files.num_rows == 2 for chunk in chunks if chunk.items)
    assert len({chunk.digest for chunk in chunks}) == 4


def test_one_item_is_never_cut():
    table = plan.relevant(files(("a", "big", 1000)), BASIS)
    groups = [RowGroup("only", 100)] * 10
    (chunk,) = plan.make(table, BASIS, Plan(chunk_bytes=50), {"a": groups})
    assert chunk.items == ItemRange(None, None)


def test_a_big_store_of_which_no_row_group_is_known_is_one_chunk():
    table = plan.relevant(files(("a", "big", 1000)), BASIS)
    (chunk,) = plan.make(table, BASIS, Plan(chunk_bytes=50), {"a": []})
    assert chunk.items == ItemRange(None, None)


def test_halves():
    (chunk,) = plan.make(many(5), BASIS, Plan(), {})
    first_half, second_half = plan.halves(chunk, BASIS)
    assert first_half.store_ids + second_half.store_ids == chunk.store_ids
    assert len({chunk.digest, first_half.digest, second_half.digest}) == 3
    (single,) = plan.make(many(1), BASIS, Plan(), {})
    assert plan.halves(single, BASIS) is None


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=60),
    st.integers(1, 1000),
    st.integers(1, 1000),
)
def test_every_plan_covers_each_store_once(sizes, chunk_bytes, chunk_rows):
    table = plan.relevant(
        files(*((f"s{k}", f"p{k}", size, size, None, None) for k, size in enumerate(sizes))), BASIS
    )
    limits = Plan(chunk_bytes=chunk_bytes, chunk_rows=chunk_rows)
    groups = {store: [RowGroup("", 1)] for store in plan.oversized(table, limits)}
    chunks = plan.make(table, BASIS, limits, groups)
    assert sorted(store for c in chunks for store in c.store_ids) == sorted(
        f"s{k}" for k in range(len(sizes))
    )
    assert plan.make(table, BASIS, limits, groups) == chunks
    assert len({chunk.digest for chunk in chunks}) == len(chunks)
