"""Dense panels from deliveries, and what a file's footer says of constant columns."""

import itertools
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_job.bucket.errors import CorruptError, InputError, NotFoundError
from ray_job.data import panel_builder, parquet, partition
from ray_job.data.partition import Columns, Constants
from ray_job.plan import ItemRange

FIRST = date(2026, 3, 1)
AS_OF = date(2026, 3, 10)
LAST = date(2026, 3, 12)
COLUMNS = Columns(("open", "promo"))
NAN = float("nan")


def rows(*values, delivered=1):
    """A table of rows (item, day of March, sales[, open[, promo[, op]]])."""
    full = [(*row, *(None, None, "set")[len(row) - 3 :]) for row in values]
    return pa.table(
        {
            "item_id": pa.array([row[0] for row in full], pa.string()),
            "date": pa.array([FIRST + timedelta(days=row[1] - 1) for row in full], pa.date32()),
            "sales": pa.array([row[2] for row in full], pa.float64()),
            "delivered_at": pa.array(
                [datetime(2026, 3, 11, 0, delivered, tzinfo=UTC)] * len(full),
                pa.timestamp("us", "UTC"),
            ),
            "op": pa.array([row[5] for row in full], pa.string()),
            "open": pa.array([row[3] for row in full], pa.float64()),
            "promo": pa.array([row[4] for row in full], pa.float64()),
        }
    )


@pytest.fixture(params=["footers with constants", "footers without"], autouse=True)
def constants_in_footer(request):
    """Whether the footers of files name their constant columns, as those of ingest do."""
    return request.param == "footers with constants"


@pytest.fixture
def put(storage, constants_in_footer):
    def put(key, table, row_group_size=None):
        sink = pa.BufferOutputStream()
        options = {"write_page_checksum": True, "store_schema": False}
        with pq.ParquetWriter(sink, table.schema, **options) as writer:
            writer.write_table(table, row_group_size=row_group_size)
            if constants_in_footer and "op" in table.column_names:
                constants = Constants()
                for batch in table.to_batches():
                    constants.add(batch)
                writer.add_key_value_metadata(constants.footer())
        storage.create(key, sink.getvalue().to_pybytes())
        return key

    return put


@pytest.fixture
def panel(storage, put):
    def panel(*tables, columns=COLUMNS):
        keys = [put(f"f{number}", table) for number, table in enumerate(tables)]
        read = partition.read_store(storage, keys, columns)
        (dense,) = panel_builder.panels([("s", read)], columns, FIRST, AS_OF, LAST)
        return dense

    return panel


def test_a_panel(panel):
    dense = panel(rows(("b", 1, 5.0), ("a", 2, 7.0), ("a", 10, 8.0), ("a", 12, None, 1, 1)))
    assert dense.item_ids.tolist() == ["a", "b"]
    assert dense.sales.shape == (2, 10)
    assert dense.sales.flags.c_contiguous
    assert (dense.sales[0, 1], dense.sales[0, 9], dense.sales[1, 0]) == (7.0, 8.0, 5.0)
    assert np.isnan(dense.sales).sum() == 17
    assert dense.known_ahead["promo"].shape == (2, 12)
    assert dense.known_ahead["promo"][0, 11] == 1


@pytest.mark.parametrize("swapped", [False, True])
def test_later_deliveries_win_column_by_column(panel, swapped):
    """The order of the files does not matter."""
    tables = [
        rows(("", 1, 5.0, 1, 0), ("", 2, 6.0, 1, 0), delivered=1),
        rows(("", 1, None, None, 1), ("", 2, 9.0), delivered=2),
    ]
    dense = panel(*(reversed(tables) if swapped else tables))
    assert dense.sales[0, :2].tolist() == [5.0, 9.0]
    assert dense.known_ahead["promo"][0, :2].tolist() == [1.0, 0.0]


def test_transactions_add_up_and_a_set_replaces(panel):
    add = ("", 1, 2.0, 1, 0, "add")
    dense = panel(
        rows(add, delivered=1),
        rows(add, delivered=2),
        rows(("", 1, 10.0), ("", 2, 3.0), delivered=3),
        rows(add, ("", 2, 1.0, 1, 0, "add"), delivered=4),
    )
    assert dense.sales[0, :2].tolist() == [12.0, 4.0]


def test_sales_after_the_as_of_are_not_in_it(panel):
    dense = panel(rows(("", 10, 1.0), ("", 11, 99.0, 1, 1), ("", 12, 99.0, 1, 0)))
    assert dense.sales.shape == (1, 10)
    assert 99.0 not in dense.sales
    assert dense.known_ahead["promo"][0, 10:].tolist() == [1.0, 0.0]


def test_days_before_the_panel_are_left_out(panel):
    early = rows(("old", 1, 5.0)).set_column(
        1, "date", pa.array([FIRST - timedelta(days=1)], pa.date32())
    )
    dense = panel(early, rows(("", 1, 1.0), delivered=2))
    assert dense.item_ids.tolist() == [""]


def test_days_declared_closed_are_known_after_a_known_day(panel):
    values = [("", 1, 5.0, 1), ("", 2, None, 0), ("", 3, None, 0), ("", 5, None, 0), ("", 8, 4.0)]
    dense = panel(rows(*values, ("", 9, None, 1), ("", 10, None, 0)))
    assert np.nan_to_num(dense.sales[0], nan=-1).tolist() == [
        5.0, 0.0, 0.0, -1.0, -1.0, -1.0, -1.0, 4.0, -1.0, -1.0,
    ]  # fmt: skip


def test_texts_become_codes(panel):
    table = rows(("", 1, 5.0), ("", 2, 5.0), ("", 3, 5.0))
    table = table.set_column(6, "promo", pa.array(["tv", "unheard", None]))
    columns = Columns(("promo",), {"promo": ["radio", "tv"]})
    dense = panel(table, columns=columns)
    assert np.isnan(dense.known_ahead["promo"][0, 1:]).all()
    assert dense.known_ahead["promo"][0, 0] == 1


@pytest.mark.parametrize(
    ("earlier", "later", "code"),
    [
        ("radio", "tv", 1.0),
        ("radio", None, 0.0),
        ("radio", "unheard", NAN),
        ("unheard", "radio", 0.0),
        ("unheard", None, NAN),
    ],
)
def test_a_text_that_the_model_does_not_know_replaces_an_older_one(panel, earlier, later, code):
    tables = [
        rows(("", 1, 5.0), delivered=minute).set_column(6, "promo", pa.array([value], pa.string()))
        for minute, value in enumerate([earlier, later], 1)
    ]
    dense = panel(*tables, columns=Columns(("promo",), {"promo": ["radio", "tv"]}))
    assert dense.known_ahead["promo"][0, 0] == pytest.approx(code, nan_ok=True)


def test_a_column_that_a_file_lacks_is_unknown(panel):
    dense = panel(rows(("", 1, 5.0, 1, 1)).drop_columns(["promo"]))
    assert np.isnan(dense.known_ahead["promo"]).all()


def test_ranges_of_items(put, storage):
    items = [f"i{number:03d}" for number in range(100)]
    table = rows(*((item, 1, float(k)) for k, item in enumerate(items)))
    key = put("big", table, row_group_size=10)
    groups = parquet.row_groups(storage, key)
    assert [group.first_item for group in groups] == items[::10]
    assert [group.rows for group in groups] == [10] * 10
    bounds = [None, "i025", "i050", None]
    read_items = []
    for first, end in itertools.pairwise(bounds):
        for part in partition.read_store(storage, [key], COLUMNS, ItemRange(first, end)):
            read_items += part.whole()["item_id"].to_pylist()
    assert read_items == items


def test_blocks_hold_what_one_panel_would(put, storage, monkeypatch):
    table = rows(*((f"i{k % 7}", 1 + k % 10, float(k)) for k in range(70)))
    read = partition.read_store(storage, [put("f", table)], COLUMNS)
    (whole,) = panel_builder.panels([("s", read)], COLUMNS, FIRST, AS_OF, LAST)
    monkeypatch.setattr(panel_builder, "_BLOCK_CELLS", 20)
    blocks = list(panel_builder.panels([("s", read)], COLUMNS, FIRST, AS_OF, LAST))
    assert [block.n_series for block in blocks] == [2, 2, 2, 1]
    assert np.array_equal(np.concatenate([b.sales for b in blocks]), whole.sales, equal_nan=True)
    assert np.concatenate([b.item_ids for b in blocks]).tolist() == whole.item_ids.tolist()


def test_nothing_to_read(storage):
    assert list(panel_builder.panels([("s", [])], COLUMNS, FIRST, AS_OF, LAST)) == []


def test_what_cannot_be_read(put, storage):
    with pytest.raises(NotFoundError, match="^gone: "):
        partition.read_store(storage, ["gone"], COLUMNS)
    storage.create("rubbish", b"no parquet")
    for items in (None, ItemRange("a", None)):
        with pytest.raises(CorruptError, match="^rubbish: the file cannot be read"):
            partition.read_store(storage, ["rubbish"], COLUMNS, items)
    with pytest.raises(CorruptError, match="^rubbish: "):
        parquet.row_groups(storage, "rubbish")
    key = put("short", rows(("", 1, 1.0)).drop_columns(["sales"]))
    with pytest.raises(InputError, match="^short: the column 'sales' is missing"):
        partition.read_store(storage, [key], COLUMNS)


def test_what_is_the_same_in_all_rows_need_not_be_decoded(put, storage, constants_in_footer):
    key = put("f", rows(("a", 1, 5.0), ("a", 2, 6.0), delivered=7))
    (rows_of_file,) = partition.read_store(storage, [key], COLUMNS)
    at = datetime(2026, 3, 11, 0, 7, tzinfo=UTC)
    constant = {"item_id": "a", "delivered_at": int(at.timestamp()) * 1_000_000, "op": "set"}
    assert rows_of_file.constant == (constant if constants_in_footer else {})
    assert ("op" in rows_of_file.table.column_names) == (not constants_in_footer)
    whole = rows_of_file.whole().select(["item_id", "delivered_at", "op"]).to_pylist()
    assert whole == [{"item_id": "a", "delivered_at": at, "op": "set"}] * 2


def test_the_footer_names_only_constant_columns(put, storage, constants_in_footer):
    key = put("f", rows(("a", 1, 5.0), ("b", 1, 6.0)))
    (rows_of_file,) = partition.read_store(storage, [key], COLUMNS)
    assert set(rows_of_file.constant) == ({"delivered_at", "op"} if constants_in_footer else set())


@pytest.mark.parametrize(("first", "end", "files"), [("a", "b", 1), ("b", None, 0), (None, "a", 0)])
def test_a_range_of_a_file_of_one_item(put, storage, first, end, files):
    key = put("f", rows(("a", 1, 5.0), ("a", 2, 6.0)))
    assert len(partition.read_store(storage, [key], COLUMNS, ItemRange(first, end))) == files


def test_footers_with_and_without_constants_give_the_same_panel(panel, put, storage):
    """Files of several items and of one item, with other constants in each."""
    tables = [
        rows(("a", 1, 1.0), ("b", 1, 2.0), ("b", 2, 3.0), delivered=1),
        rows(("b", 3, 4.0, None, None, "add"), delivered=2),
        rows(("a", 2, 5.0), ("c", 2, 6.0, None, None, "add"), delivered=3),
    ]
    together = panel(*tables)
    assert together.item_ids.tolist() == ["a", "b", "c"]
    assert np.nan_to_num(together.sales[:, :3]).tolist() == [[1, 5, 0], [2, 3, 4], [0, 6, 0]]


def test_a_footer_that_was_copied_along_is_not_believed(storage, put, constants_in_footer):
    """Arrow keeps the first footer's entries when it writes two tables as one file."""
    keys = [put(f"f{k}", rows((item, 1, 5.0), delivered=k)) for k, item in enumerate("ab")]
    files = [pq.read_table(pa.BufferReader(storage.read(key))) for key in keys]
    assert (b"storecast.constant" in (files[0].schema.metadata or {})) == constants_in_footer
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(files), sink)
    storage.create("both", sink.getvalue().to_pybytes())
    (rows_of_file,) = partition.read_store(storage, ["both"], COLUMNS)
    assert rows_of_file.constant == {}
    assert rows_of_file.whole()["item_id"].to_pylist() == ["a", "b"]


def test_a_footer_that_was_damaged_is_noticed(storage):
    constants = Constants()
    for batch in rows(("abc", 1, 5.0)).to_batches():
        constants.add(batch)
    damaged = {key: value.replace(b"abc", b"abd") for key, value in constants.footer().items()}
    sink = pa.BufferOutputStream()
    table = rows(("abc", 1, 5.0))
    with pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(damaged)
    storage.create("f", sink.getvalue().to_pybytes())
    with pytest.raises(CorruptError, match="^f: .* footer"):
        partition.read_store(storage, ["f"], COLUMNS)
