"""--replace removes earlier rows of the same stores and dates, in the same commit."""

import pytest

from ray_job.bucket import keys
from ray_job.data.delta import open_table

HEADER = "store_id,item_id,date,sales\n"


@pytest.fixture
def filled(bucket):
    rows = [
        f"{store},{item},2026-01-0{day},{day}"
        for store in (1, 2)
        for item in "xy"
        for day in range(1, 5)
    ]
    bucket.ingest(bucket.file("a.csv", HEADER + "\n".join(rows) + "\n"))
    bucket.ingest(bucket.file("b.csv", HEADER + "1,x,2026-01-05,5\n"))
    return bucket


def test_all_items_of_the_store_and_date_go(filled):
    [first, second] = filled.files_of("1")
    version = open_table(filled.storage, keys.BATCH_DATA).version()
    filled.ingest(
        filled.file("c.csv", HEADER + "1,x,2026-01-02,20\n1,z,2026-01-04,40\n"), replace=True
    )
    assert [
        row for row in filled.rows("store_id", "item_id", "date", "sales") if row[0] == "1"
    ] == [
        ("1", "x", "2026-01-01", 1.0),
        ("1", "x", "2026-01-02", 20.0),
        ("1", "x", "2026-01-03", 3.0),
        ("1", "x", "2026-01-05", 5.0),
        ("1", "y", "2026-01-01", 1.0),
        ("1", "y", "2026-01-03", 3.0),
        ("1", "z", "2026-01-04", 40.0),
    ]
    assert len([row for row in filled.rows("store_id") if row[0] == "2"]) == 8
    assert open_table(filled.storage, keys.BATCH_DATA).version() == version + 1
    untouched = {first, second} & set(filled.files_of("1"))
    assert len(untouched) == 1
    assert filled.objects("raw_data/replace/") == ["raw_data/replace/c.csv"]


def test_a_file_that_holds_nothing_else_is_removed(filled):
    filled.ingest(filled.file("c.csv", HEADER + "1,x,2026-01-05,50\n"), replace=True)
    assert len(filled.files_of("1")) == 2
    assert filled.rows("item_id", "date", "sales")[4] == ("x", "2026-01-05", 50.0)


def test_new_columns_and_replacement_in_one_commit(filled):
    filled.ingest(
        filled.file("c.csv", "store_id,date,sales,open\n2,2026-01-01,9,1\n"), replace=True
    )
    rows = [
        row for row in filled.rows("store_id", "item_id", "date", "sales", "open") if row[0] == "2"
    ]
    assert rows[0] == ("2", "", "2026-01-01", 9.0, 1.0)
    assert rows[1] == ("2", "x", "2026-01-02", 2.0, None)
    assert len(rows) == 7


def test_earlier_files_of_the_same_ingest_are_replaced_too_and_later_ones_are_not(bucket):
    def content(item):
        return f"{HEADER}1,{item},2026-01-01,1\n1,{item},2026-01-02,1\n"

    bucket.drop("a.csv", content("w"), minute=1)
    bucket.drop("replace/b.csv", f"{HEADER}1,y,2026-01-01,2\n", minute=2)
    bucket.drop("c.csv", content("x"), minute=3)
    bucket.ingest()
    rows = bucket.rows("item_id", "date", "sales")
    if not bucket.is_gcs:
        assert rows == [
            ("w", "2026-01-02", 1.0),
            ("x", "2026-01-01", 1.0),
            ("x", "2026-01-02", 1.0),
            ("y", "2026-01-01", 2.0),
        ]


def test_two_replacements_of_one_day_leave_the_later_one(bucket):
    for number in (1, 2):
        bucket.drop(f"replace/{number}.csv", f"{HEADER}1,x,2026-01-01,{number}\n", minute=number)
    bucket.ingest()
    assert bucket.rows("sales") == [(2.0,)]
