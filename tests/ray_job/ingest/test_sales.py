"""The rows of raw files in the histories."""

import gzip
import io
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_job.bucket.storage import open_bucket
from ray_job.ingest.reading.duplicates import repeated_values
from ray_job.settings import Ingest, Sales, Settings
from tests.support.delivery_bucket import DeliveryBucket


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_rows_are_stored_by_store_with_text_ids(bucket):
    report = bucket.ingest(
        bucket.file(
            "a.csv",
            "store_id,item_id,date,sales\n"
            "7,=1+1,2026-01-02,5\n007,é,2026-01-01,-3.5\n7,,2026-01-01,0\n7,=1+1,2026-01-01,\n",
        )
    )
    assert (report.files, report.rows, report.stores) == (1, 4, 2)
    assert bucket.rows("store_id", "item_id", "date", "sales", "op") == [
        ("007", "é", "2026-01-01", -3.5, "set"),
        ("7", "", "2026-01-01", 0.0, "set"),
        ("7", "=1+1", "2026-01-01", None, "set"),
        ("7", "=1+1", "2026-01-02", 5.0, "set"),
    ]


def test_headers_are_mapped_ignored_and_typed_by_the_settings(bucket):
    bucket = bucket.with_settings(
        sales=Sales(
            columns={"store_id": "Store", "date": "Date", "sales": "Sales", "holiday": "State"},
            ignore=("DayOfWeek",),
            types={"holiday": "text"},
        )
    )
    bucket.ingest(
        bucket.file("a.csv", "Store,DayOfWeek,Date,Sales,State,Customers\n1,5,2026-01-02,5,0,12\n")
    )
    bucket.ingest(bucket.file("b.csv", "store_id,date,sales\n2,2026-01-02,6\n"))
    assert bucket.rows("store_id", "sales", "holiday", "Customers") == [
        ("1", 5.0, "0", 12.0),
        ("2", 6.0, None, None),
    ]


def test_types_of_further_columns_follow_from_the_whole_file(bucket):
    bucket.ingest(
        bucket.file(
            "a.csv",
            "store_id,date,sales,open,promo,name,empty\n"
            "1,2026-01-01,5,true,1,0,\n1,2026-01-02,6,false,,x,\n",
        )
    )
    assert bucket.rows("open", "promo", "name") == [(1.0, 1.0, "0"), (0.0, None, "x")]
    assert "empty" not in bucket.history().schema.names


def test_a_later_file_reads_as_the_table_has_it_and_may_bring_columns(bucket):
    bucket.ingest(bucket.file("a.csv", "store_id,date,sales,name\n1,2026-01-01,5,x\n"))
    bucket.ingest(bucket.file("b.csv", "store_id,date,sales,name,price\n1,2026-01-02,6,12,2.5\n"))
    assert bucket.rows("date", "name", "price") == [
        ("2026-01-01", "x", None),
        ("2026-01-02", "12", 2.5),
    ]


def test_known_ahead_columns_come_without_sales(bucket):
    bucket.ingest(bucket.file("plan.csv", "store_id,date,promo\n1,2026-01-03,1\n"))
    assert bucket.rows("date", "sales", "promo") == [("2026-01-03", None, 1.0)]


def test_all_three_formats_and_delimiters(bucket):
    bucket.ingest(
        bucket.file("a.csv", "store_id;date;sales\n1;2026-01-01;1\n"),
        bucket.file("b.CSV", "\ufeffstore_id\tdate\tsales\r\n1\t2026-01-02\t2\r\n"),
        bucket.file("c.csv.gz", gzip.compress(b"store_id,date,sales\n1,2026-01-03,3\n")),
        bucket.file(
            "d.parquet",
            parquet(
                store_id=pa.array([1], pa.int16()),
                date=pa.array([date(2026, 1, 4)]),
                sales=pa.array([4], pa.int32()),
                open=pa.array([True]),
            ),
        ),
    )
    assert bucket.rows("store_id", "date", "sales") == [
        ("1", f"2026-01-0{day}", float(day)) for day in range(1, 5)
    ]
    assert bucket.rows("open")[3] == (1.0,)


def test_parquet_columns_of_all_kinds(bucket):
    bucket.ingest(
        bucket.file(
            "a.parquet",
            parquet(
                store_id=pa.array(["1"]).dictionary_encode(),
                date=pa.array([1767272400], pa.timestamp("s")),
                sales=pa.array([Decimal("1.25")]),
                opened=pa.array([date(2020, 5, 1)]),
                nothing=pa.nulls(1),
                note=pa.array([""]),
            ),
        )
    )
    assert bucket.rows("store_id", "date", "sales", "opened") == [
        ("1", "2026-01-01", 1.25, "2020-05-01")
    ]
    assert {"nothing", "note"}.isdisjoint(bucket.history().schema.names)


def test_exact_duplicates_within_a_file_are_dropped(bucket):
    bucket.ingest(
        bucket.file(
            "a.csv",
            "store_id,date,sales,x\n1,2026-01-01,5,\n1,2026-01-01,5,\n1,2026-01-02,5,1\n"
            "1,2026-01-01,5,\n1,2026-01-02,5.0,1.0\n",
        )
    )
    assert bucket.rows("date", "sales") == [("2026-01-01", 5.0), ("2026-01-02", 5.0)]


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([], []),
        ([[]], []),
        ([[], [1], []], []),
        ([[1, 2, 3]], []),
        ([[1, 1, 2], [3]], [1]),
        ([[1, 2], [2, 3]], [2]),
        ([[1, 2], [], [2], [2, 3, 3]], [2, 2, 3]),
        ([[2**64 - 1], [2**64 - 1]], [2**64 - 1]),
    ],
)
def test_repeated_values_also_across_batches(batches, expected):
    repeated = repeated_values(pa.array(batch, pa.uint64()) for batch in batches)
    assert [value for array in repeated for value in array.to_pylist()] == expected


def test_more_rows_than_the_memory_limit_holds_are_checked_and_sorted(bucket):
    """On disk: 2 million rows of 80 bytes in memory, within 120 MB."""
    bucket = bucket.with_settings(ingest=Ingest(memory_limit="120MB"))
    stores, days = 50, 40_000
    numbers = np.arange(stores * days)
    delivered = parquet(
        store_id=pa.array((numbers % stores).astype(str)),
        item_id=pa.array(np.full(stores * days, "an item with a long name")),
        date=pa.array((numbers // stores - 25_000).astype("datetime64[D]")),
        sales=pa.array(numbers.astype(float)),
    )
    report = bucket.ingest(bucket.file("a.parquet", delivered))
    assert (report.rows, report.stores) == (stores * days, stores)


def test_more_rows_than_the_memory_limit_holds_of_files_with_other_columns(bucket):
    """Seven formats in one ingest, the smallest one first."""
    bucket = bucket.with_settings(ingest=Ingest(memory_limit="120MB"))
    stores = 50
    sizes = [20, *[7_000] * 6]
    for number, (days, end) in enumerate(zip(sizes, np.cumsum(sizes), strict=True)):
        numbers = np.arange(stores * days)
        delivered = parquet(
            store_id=pa.array((numbers % stores).astype(str)),
            item_id=pa.array(np.full(stores * days, "an item with a long name")),
            date=pa.array((numbers // stores + 20_000 - int(end)).astype("datetime64[D]")),
            sales=pa.array(numbers.astype(float)),
            **{f"column_{number}": pa.array(numbers.astype(float))},
        )
        bucket.drop(f"{number}.parquet", delivered)
    report = bucket.ingest()
    assert (report.rows, report.stores) == (stores * sum(sizes), stores)
    assert bucket.history().num_rows == report.rows


def test_a_correction_is_stored_beside_what_it_corrects_in_order_of_delivery(bucket):
    bucket.drop("b.csv", "store_id,date,sales\n1,2026-01-01,5\n", minute=1)
    bucket.ingest()
    bucket.drop("a.csv", "store_id,date,sales\n1,2026-01-01,6\n", minute=2)
    bucket.ingest()
    assert bucket.rows("date", "sales") == [("2026-01-01", 5.0), ("2026-01-01", 6.0)]


def test_deliveries_of_the_same_moment_are_ordered_by_key(bucket):
    for name, promo in (("b.csv", 2), ("a.csv", 1), ("c.csv", 3)):
        bucket.drop(name, f"store_id,date,promo\n1,2026-01-01,{promo}\n", minute=0)
    bucket.ingest()
    bucket.drop("d.csv", "store_id,date,promo\n1,2026-01-01,4\n", minute=0)
    bucket.ingest()
    moments = [moment for (moment,) in bucket.rows("delivered_at")]
    assert len(set(moments)) == 4
    if not bucket.is_gcs:
        assert bucket.rows("promo") == [(1.0,), (2.0,), (3.0,), (4.0,)]


def test_transactions_add_up_to_days_and_later_files_add(bucket):
    bucket = bucket.with_settings(sales=Sales(rows="transactions"))
    bucket.drop(
        "a.csv",
        "store_id,item_id,date,sales,promo\n"
        "1,x,2026-01-01 09:30:00,0.1,1\n1,x,2026-01-01 10:00:00,0.2,0\n1,x,2026-01-01,0.3,\n"
        "1,x,2026-01-02,,1\n",
        minute=1,
    )
    bucket.drop("b.csv", "store_id,item_id,date,sales\n1,x,2026-01-01,1\n", minute=2)
    bucket.ingest()
    assert bucket.rows("item_id", "date", "sales", "promo", "op") == [
        ("x", "2026-01-01", 0.1 + 0.2 + 0.3, 0.0, "add"),
        ("x", "2026-01-01", 1.0, None, "add"),
        ("x", "2026-01-02", None, 1.0, "add"),
    ]


def test_files_at_the_root_and_in_other_folders_are_sales(bucket):
    bucket.drop("2026/berlin/a.csv", "store_id,date,sales\n1,2026-01-01,5\n")
    bucket.drop("_SUCCESS", "")
    bucket.drop("2026/.hidden.csv", "x")
    assert bucket.ingest().files == 1
    assert bucket.rows("store_id") == [("1",)]


def test_many_files_of_one_shape_make_one_commit_with_one_file_per_store(bucket):
    for number in range(60):
        bucket.drop(
            f"s{number}.csv", f"store_id,date,sales\ns{number % 20},2026-01-0{number % 3 + 1},1\n"
        )
    report = bucket.ingest()
    assert (report.files, report.rows, report.stores) == (60, 60, 20)
    assert all(len(bucket.files_of(f"s{number}")) == 1 for number in range(20))


def test_names_of_files_and_columns_may_be_anything(bucket):
    header = 'store_id,date,sales,"Max ""T"", °C",it\'s\n'
    bucket.drop("a [1]*?'#%20é.csv", f"{header}1,2026-01-01,5,2.5,x\n")
    bucket.drop("A.CSV.GZ", gzip.compress(f"{header}1,2026-01-02,6,,\n".encode()))
    assert bucket.ingest(bucket.file("[b].csv", f"{header}1,2026-01-03,7,1,y\n")).files == 3
    assert bucket.rows("sales", 'Max "T", °C', "it's") == [
        (5.0, 2.5, "x"),
        (6.0, None, None),
        (7.0, 1.0, "y"),
    ]


def test_a_bucket_may_lie_anywhere(tmp_path):
    root = tmp_path / "my [shop] 100% é"
    root.mkdir()
    bucket = DeliveryBucket(open_bucket(str(root)), Settings(), tmp_path / "local")
    for day in (1, 2):
        bucket.ingest(bucket.file("a.csv", f"store_id,date,sales\n1,2026-01-0{day},5\n"))
    assert len(bucket.rows("sales")) == 2
