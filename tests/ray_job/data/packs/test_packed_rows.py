"""Whatever is in packs, and however it was delivered: what is read is what partitions give."""

import itertools
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_job import plan
from ray_job.bucket.storage import open_bucket
from ray_job.data.delta import parquet_writer
from ray_job.data.packs.folding import PackedFile, PackSource
from ray_job.data.packs.index import read_index
from ray_job.data.packs.merging import join_small_packs, leave_out_unused_packs
from ray_job.data.packs.values import pack_numbers, unpack_numbers
from ray_job.data.packs.writing import PackWriter
from ray_job.data.partition import Constants
from tests.support.packed import basis, both_ways, chunk_of, chunks_of

FIRST = date(2026, 3, 1)
DATES = basis(FIRST, FIRST + timedelta(days=9))
EPOCH = date(1970, 1, 1)
SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("date", pa.date32()),
        ("sales", pa.float64()),
        ("delivered_at", pa.timestamp("us", "UTC")),
        ("op", pa.string()),
        ("open", pa.float64()),
        ("weather", pa.string()),
    ]
)

wide_rows = st.tuples(
    st.sampled_from(["", "a", "b"]),
    st.integers(-3, 14),
    st.sampled_from([None, 0.0, -0.0, 1.0, 2.5, 17.25, 0.1, 1e9, -3.0, 123456.789]),
    st.sampled_from([None, 0.0, 1.0]),
    st.sampled_from([None, "dry", "wet", "fog"]),
)
range_rows = st.sampled_from([1, 2, 10**6])
"""Small numbers give each store entries of ranges of its items."""
colliding_rows = st.tuples(
    st.just(""),
    st.integers(0, 1),
    st.sampled_from([None, 0.0, 1.0, 2.5]),
    st.sampled_from([None, 0.0, 1.0]),
    st.sampled_from([None, "dry"]),
)
"""Most of them are corrections of each other."""


@st.composite
def deliveries(draw):
    """Files of a store: each one delivery, or several that were compacted into it."""
    rows = draw(st.sampled_from([wide_rows, colliding_rows, colliding_rows]))
    operations = draw(st.sampled_from([("set",), ("set", "add")]))
    files = []
    for _ in range(draw(st.integers(1, 4))):
        parts = []
        for _ in range(draw(st.integers(1, 2))):
            minute = draw(st.integers(0, 6))
            op = draw(st.sampled_from(operations))
            unique = draw(
                st.lists(rows, min_size=1, max_size=6, unique_by=lambda row: (row[0], row[1]))
            )
            parts += [(*row, minute, op) for row in unique]
        ordered = draw(st.sampled_from([True, True, True, False]))
        files.append(sorted(parts, key=lambda row: (row[0], row[1], row[5])) if ordered else parts)
    return files


def table(file):
    moment = datetime(2026, 3, 20, tzinfo=UTC)
    return pa.table(
        [
            [row[0] for row in file],
            [FIRST + timedelta(days=row[1]) for row in file],
            [row[2] for row in file],
            [moment + timedelta(minutes=row[5]) for row in file],
            [row[6] for row in file],
            [row[3] for row in file],
            [row[4] for row in file],
        ],
        schema=SCHEMA,
    )


def write(storage, store, number, delivered):
    """A file of the histories; its line in the list of files, and what a pack may have of it."""
    sink = pa.BufferOutputStream()
    with parquet_writer(sink, SCHEMA) as writer:
        writer.write_table(delivered)
        constants = Constants()
        for batch in delivered.to_batches():
            constants.add(batch)
        writer.add_key_value_metadata(constants.footer())
    data = sink.getvalue().to_pybytes()
    key = f"batch_data/store_id={store}/{number}.parquet"
    storage.create(key, data)
    dates = delivered["date"].to_pylist()
    line = {
        "store_id": store,
        "path": key,
        "bytes": len(data),
        "rows": len(dates),
        "first_date": min(dates),
        "last_date": max(dates),
    }
    extent = ((min(dates) - EPOCH).days, (max(dates) - EPOCH).days)
    return line, PackSource(store, [PackedFile(key, len(data), *extent)], delivered)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_packs_change_no_bit_of_what_is_read(data):
    stores = data.draw(st.lists(deliveries(), min_size=1, max_size=3))
    with tempfile.TemporaryDirectory() as folder:
        storage = open_bucket(folder)
        lines, sources = [], []
        for store, files in enumerate(stores):
            for number, file in enumerate(files):
                line, source = write(storage, f"s{store}", number, table(file))
                sources.append(source)
                if data.draw(st.sampled_from([True, True, True, False]), label="is live"):
                    lines.append(line)
        packs = data.draw(
            st.lists(st.lists(st.sampled_from(sources), max_size=4), max_size=4), label="packs"
        )
        for pack in packs:
            Path(folder, "packs/v1").mkdir(parents=True, exist_ok=True)
            writer = PackWriter(storage, range_rows=data.draw(range_rows, label="range rows"))
            for source in pack:
                writer.add(source)
            writer.finish()
            writer.publish()
            assert writer.failure is None
        if packs:
            join_small_packs(storage, most=data.draw(st.integers(1, 4), label="most small packs"))
        bounds = data.draw(st.lists(st.sampled_from(["", "a", "aa", "b"]), max_size=2))
        files = pa.Table.from_pylist(lines, plan.FILES_SCHEMA)
        for chunk in chunks_of(files, DATES, bounds):
            plain, packed, _ = both_ways(storage, chunk, DATES, read_index(storage))
            assert packed == plain


def test_ordinary_deliveries_are_read_from_packs(tmp_path):
    storage = open_bucket(str(tmp_path))
    lines = []
    for number, minute in itertools.product(range(3), range(2)):
        file = [("", day + minute, 2.5, 1.0, "dry", minute, "set") for day in range(5)]
        line, source = write(storage, f"s{number}", minute, table(file))
        lines.append(line)
        writer = PackWriter(storage)
        writer.add(source)
        writer.finish()
        writer.publish()
    chunk = chunk_of(pa.Table.from_pylist(lines, plan.FILES_SCHEMA), DATES)
    plain, read, packed = both_ways(storage, chunk, DATES, read_index(storage))
    assert read == plain
    assert packed == {"s0", "s1", "s2"}


@pytest.mark.parametrize("items", ["abab", "abba", "baba", "bcda"])
def test_a_large_store_in_another_order_has_no_part_in_a_pack(tmp_path, items):
    storage = open_bucket(str(tmp_path))
    file = [(item, day, 1.0, 1.0, "dry", 0, "set") for day, item in enumerate(items)]
    _, source = write(storage, "s0", 0, table(file))
    writer = PackWriter(storage, range_rows=1)
    writer.add(source)
    writer.add_large("s0", source.files[0], lambda: [table([row]) for row in file])
    writer.finish()
    writer.publish()
    assert writer.failure is None
    assert not read_index(storage).packs


@pytest.mark.parametrize("range_rows", [1, 10**6])
def test_a_text_that_the_model_does_not_know_replaces_one_in_a_pack(tmp_path, range_rows):
    storage = open_bucket(str(tmp_path))
    texts = [(item, minute, text) for item in "ab" for minute, text in enumerate(["dry", "fog"])]
    file = [(item, 0, 1.0, 1.0, text, minute, "set") for item, minute, text in texts]
    line, source = write(storage, "s0", 0, table(file))
    writer = PackWriter(storage, range_rows=range_rows)
    writer.add(source)
    writer.finish()
    writer.publish()
    chunk = chunk_of(pa.Table.from_pylist([line], plan.FILES_SCHEMA), DATES)
    plain, read, packed = both_ways(storage, chunk, DATES, read_index(storage))
    assert read == plain
    assert packed == {"s0"}


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([0.0, 1.0, np.nan, 1.0], "int8"),
        ([13.5, -12.0], "int16"),
        ([3870.77, 0.0, np.nan], "int32"),
        ([0.1234567], "double"),
        ([-0.0], "double"),
        ([np.inf], "double"),
        ([1e300, 5e-324], "double"),
        ([np.nan], "int8"),
        ([-128.0], "int16"),
        ([], "int8"),
    ],
)
def test_numbers_have_the_smallest_type_that_keeps_every_bit(numbers, kind):
    given_numbers = np.array(numbers, np.float64)
    field, packed = pack_numbers("n", given_numbers)
    assert str(packed.type) == kind
    assert unpack_numbers(field, packed).tobytes() == given_numbers.tobytes()


@given(st.lists(st.floats() | st.decimals(-(10**6), 10**6, places=2).map(float), max_size=200))
def test_any_numbers_come_back(numbers):
    given_numbers = np.array(numbers, np.float64)
    given_numbers[np.isnan(given_numbers)] = np.nan
    field, packed = pack_numbers("n", given_numbers)
    back = unpack_numbers(field, packed)
    assert back.tobytes() == given_numbers.tobytes()


@pytest.mark.parametrize(
    ("minutes", "is_packed"),
    [
        ([(0, 4), (2,)], False),
        ([(0, 2), (2,)], False),
        ([(0, 2), (3,)], True),
        ([(3,), (0, 2)], True),
    ],
)
def test_deliveries_that_lie_between_each_other_are_read_from_the_partition(
    tmp_path, minutes, is_packed
):
    storage = open_bucket(str(tmp_path))
    lines = []
    for number, times in enumerate(minutes):
        rows = [("", 1, float(time), None, None, time, "set") for time in times]
        line, source = write(storage, "s0", number, table(rows))
        lines.append(line)
        writer = PackWriter(storage)
        writer.add(source)
        writer.finish()
        writer.publish()
    chunk = chunk_of(pa.Table.from_pylist(lines, plan.FILES_SCHEMA), DATES)
    plain, read, packed = both_ways(storage, chunk, DATES, read_index(storage))
    assert read == plain
    assert packed == ({"s0"} if is_packed else set())


def pack_of(storage, *sources, **options):
    writer = PackWriter(storage, **options)
    for source in sources:
        writer.add(source)
    writer.finish()
    writer.publish()


def test_many_small_packs_become_one_and_unused_ones_are_left_out(tmp_path):
    storage = open_bucket(str(tmp_path))
    lines = []
    for minute in range(12):
        for number in range(3):
            rows = [("", minute % 9, 2.0 + minute, 1.0, None, minute, "set")]
            line, source = write(storage, f"s{number}", minute, table(rows))
            lines.append(line)
            pack_of(storage, source)
    index = read_index(storage)
    assert len(index.packs) <= 8
    chunk = chunk_of(pa.Table.from_pylist(lines, plan.FILES_SCHEMA), DATES)
    plain, read, packed = both_ways(storage, chunk, DATES, index)
    assert read == plain
    assert packed == {"s0", "s1", "s2"}
    leave_out_unused_packs(storage, index, [line["path"] for line in lines[3:]])
    assert read_index(storage) == index
    leave_out_unused_packs(storage, index, ["batch_data/store_id=s0/other.parquet"])
    assert read_index(storage).packs == ()


def test_a_bucket_in_which_packs_may_not_be_written_says_so(tmp_path):
    storage = open_bucket(str(tmp_path))
    _, source = write(storage, "s0", 0, table([("", 1, 2.0, None, None, 0, "set")]))
    (tmp_path / "packs").write_text("in the way")
    writer = PackWriter(storage)
    writer.add(source)
    writer.finish()
    writer.publish()
    assert writer.failure is not None
    assert "packs/v1" in writer.failure


def many_items(storage, store, items, minute=0):
    rows = [
        (f"i{item:02d}", day, 2.5 + item, 1.0, None, minute, "set")
        for item in range(items)
        for day in range(4)
    ]
    return write(storage, store, minute, table(rows))


def test_a_cut_store_is_read_from_the_entries_of_its_ranges(tmp_path):
    storage = open_bucket(str(tmp_path))
    line, source = many_items(storage, "s0", 20)
    pack_of(storage, source, range_rows=16)
    (pack,) = read_index(storage).packs
    assert [section.items for section in pack.sections] == [
        (None, "i04"),
        ("i04", "i08"),
        ("i08", "i12"),
        ("i12", "i16"),
        ("i16", None),
    ]
    files = pa.Table.from_pylist([line], plan.FILES_SCHEMA)
    for chunk in chunks_of(files, DATES, ["i05", "i09"]):
        plain, read, packed = both_ways(storage, chunk, DATES, read_index(storage))
        assert read == plain
        assert packed == {"s0"}


def test_a_range_that_is_missing_makes_only_its_own_chunk_read_the_partition(tmp_path):
    storage = open_bucket(str(tmp_path))
    line, source = many_items(storage, "s0", 20)
    pack_of(storage, source, range_rows=16)
    (pack,) = read_index(storage).packs
    damaged = pack.sections[1]
    path = tmp_path / pack.key
    data = bytearray(path.read_bytes())
    data[damaged.offset + damaged.length // 2] ^= 1
    path.write_bytes(data)
    files = pa.Table.from_pylist([line], plan.FILES_SCHEMA)
    from_packs = []
    for chunk in chunks_of(files, DATES, ["i08", "i14"]):
        plain, read, packed = both_ways(storage, chunk, DATES, read_index(storage))
        assert read == plain
        from_packs.append((chunk.items, packed))
    assert [bool(packed) for _, packed in from_packs] == [False, False, True, True]


def test_a_store_that_is_too_large_for_memory_is_packed_from_its_local_file(tmp_path):
    storage = open_bucket(str(tmp_path))
    line, source = many_items(storage, "s0", 20)
    writer = PackWriter(storage, range_rows=16)
    pieces = [source.rows.slice(begin, 7) for begin in range(0, source.rows.num_rows, 7)]
    writer.add_large("s0", source.files[0], lambda: iter(pieces))
    writer.finish()
    writer.publish()
    assert writer.failure is None
    files = pa.Table.from_pylist([line], plan.FILES_SCHEMA)
    for chunk in chunks_of(files, DATES, ["i05"]):
        plain, read, packed = both_ways(storage, chunk, DATES, read_index(storage))
        assert read == plain
        assert packed == {"s0"}


def test_rows_in_another_order_leave_the_packs_of_other_stores(tmp_path):
    storage = open_bucket(str(tmp_path))
    unsorted_line, unsorted = many_items(storage, "s0", 20)
    line, source = many_items(storage, "s1", 20)
    half = unsorted.rows.num_rows // 2
    pieces = [unsorted.rows.slice(half), unsorted.rows.slice(0, half)]
    writer = PackWriter(storage, range_rows=16)
    writer.add_large("s0", unsorted.files[0], lambda: iter(pieces))
    writer.add(source)
    writer.finish()
    writer.publish()
    assert writer.failure is None
    files = pa.Table.from_pylist([unsorted_line, line], plan.FILES_SCHEMA)
    for chunk in chunks_of(files, DATES, []):
        plain, read, packed = both_ways(storage, chunk, DATES, read_index(storage))
        assert read == plain
        assert "s0" not in packed
    assert packed == {"s1"}
