"""The column in_stock: what it may hold, and rows that seem to mean the opposite."""

import pytest

from ray_job.bucket.errors import InputError
from ray_job.settings import Sales

HEADER = "store_id,date,sales,in_stock\n"


def rows(stock_of_day, days=28):
    return HEADER + "".join(
        f"7,2026-03-{day:02d},{sales},{stock}\n"
        for day in range(1, days + 1)
        for sales, stock in [stock_of_day(day)]
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("0", 0.0), ("yes", 1.0), ("sold out", 0.0), ("144", 144.0), ("-3", -3.0)],
)
def test_flags_words_and_quantities_are_numbers(directory, text, value):
    directory.ingest(directory.file("a.csv", f"{HEADER}7,2026-03-01,5,{text}\n"))
    assert directory.rows("in_stock") == [(value,)]


def test_anything_else_is_refused_with_its_row(directory):
    with pytest.raises(InputError, match=r"row 2: the column in_stock has the value \"maybe\""):
        directory.ingest(directory.file("a.csv", f"{HEADER}7,2026-03-01,5,maybe\n"))


def test_the_settings_map_its_header(directory):
    bucket = directory.with_settings(sales=Sales(columns={"in_stock": "on_hand"}))
    bucket.ingest(bucket.file("a.csv", "store_id,date,sales,on_hand\n7,2026-03-01,5,3\n"))
    assert bucket.rows("in_stock") == [(3.0,)]


def test_a_file_of_stock_alone_is_accepted(directory):
    directory.ingest(directory.file("a.csv", "store_id,date,in_stock\n7,2026-03-01,0\n"))
    assert directory.rows("in_stock", "sales") == [(0.0, None)]


def test_a_column_that_means_the_opposite_is_warned_of(directory):
    report = directory.ingest(directory.file("a.csv", rows(lambda _: (9, 0))))
    assert (
        "28 of 28 rows without stock (in_stock is 0) have sales (store 7: 2026-03-01)"
        in (report.warnings[-1])
    )


@pytest.mark.parametrize(
    "stock_of_day",
    [lambda _: (9, 1), lambda day: (0, 0) if day > 4 else (9, 1), lambda day: (9, day % 2)],
    ids=["always in stock", "no sales without stock", "empty in the evening, half of the days"],
)
def test_what_may_be_is_not_warned_of(directory, stock_of_day):
    assert directory.ingest(directory.file("a.csv", rows(stock_of_day))).warnings == ()
