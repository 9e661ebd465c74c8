"""Totals among the rows of sales, and items of which most days are missing."""

import random
from datetime import date, timedelta

import pytest

from ray_job.bucket.errors import InputError
from ray_job.settings import Sales

FIRST = date(2026, 1, 1)


def day(number):
    return FIRST + timedelta(days=number)


def chain(stores, days, *, seed=1, cents=True, total=None, share=1.0, regions=0):
    """Rows of sales of a chain, with a store `total` on this share of the days."""
    random_ = random.Random(seed)
    rows = []
    for number in range(days):
        sales = [random_.uniform(50, 5000) for _ in range(stores)]
        sales = [round(each, 2) if cents else float(round(each)) for each in sales]
        rows += [(f"s{store}", day(number), each) for store, each in enumerate(sales)]
        for region in range(regions):
            rows.append((f"region-{region}", day(number), round(sum(sales[region::regions]), 2)))
        if total is not None:
            is_sum = random_.random() < share
            rows.append((total, day(number), round(sum(sales) * (1 if is_sum else 1.1), 2)))
    return rows


def content(rows):
    return "store_id,date,sales\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows)


TOTALS = {
    "most of a year of cents": chain(12, 320, total="Total"),
    "whole numbers": chain(5, 30, cents=False, total="ALL"),
    "one day of large numbers": chain(20, 1, total="999"),
    "two others": chain(2, 60, total="Gesamt"),
    "on most days": chain(8, 100, total="Summe", share=0.9),
    "beside regions": chain(9, 50, total="Group", regions=3),
}


@pytest.mark.parametrize("rows", TOTALS.values(), ids=TOTALS)
def test_a_store_that_is_the_sum_of_the_others_is_refused_and_named(directory, rows):
    store = rows[-1][0]
    with pytest.raises(InputError, match=rf'the store {store} is the sum .*\["{store}"\]'):
        directory.ingest(directory.file("a.csv", content(rows)))
    bucket = directory.with_settings(sales=Sales(leave_out_stores=(store, "other")))
    bucket.ingest(bucket.file("a.csv", content(rows)))
    assert store not in {each for (each,) in bucket.rows("store_id")}


NO_TOTALS = {
    "a chain": chain(12, 200),
    "three stores": chain(3, 200, cents=False),
    "a store as large as the others on a few days": chain(6, 100, total="x", share=0.3),
    "three equal stores": [(s, day(n), 5) for n in range(50) for s in "abc"],
    "small numbers": [
        (s, day(n), v) for n in range(3) for s, v in zip("abc", (1, 2, 3), strict=True)
    ],
    "two stores": [(s, day(n), n + 1) for n in range(90) for s in "ab"],
    "zeros": [(s, day(n), 0) for n in range(90) for s in "abcd"],
}


@pytest.mark.parametrize("rows", NO_TOTALS.values(), ids=NO_TOTALS)
def test_stores_that_are_no_sums_are_brought_in(directory, rows):
    assert directory.ingest(directory.file("a.csv", content(rows))).rows == len(rows)


@pytest.mark.parametrize("seed", range(5))
def test_random_chains_have_no_totals(directory, seed):
    rows = chain(random.Random(seed).randrange(3, 8), 40, seed=seed, cents=seed % 2 == 0)
    assert directory.ingest(directory.file("a.csv", content(rows))).rows == len(rows)


def test_a_total_in_a_file_of_its_own(directory):
    rows = chain(10, 30, total="Total")
    directory.drop("stores.csv", content([row for row in rows if row[0] != "Total"]))
    directory.drop("total.csv", content([row for row in rows if row[0] == "Total"]))
    report = directory.ingest(leave_out_bad=True)
    assert [bad.key for bad in report.bad] == ["raw_data/total.csv"]
    assert report.stores == 10


def items(stores, days, names, *, share=1.0, seed=3):
    """Rows of items, and on this share of the days rows without an item that are their sum."""
    random_ = random.Random(seed)
    text = "store_id,item_id,date,sales\n"
    for number in range(days):
        for store in range(stores):
            sales = [random_.randrange(1, 90) for _ in names]
            for name, each in zip(names, sales, strict=True):
                text += f"{store},{name},{day(number)},{each}\n"
            other = sum(sales) if random_.random() < share else random_.randrange(1, 90)
            text += f"{store},,{day(number)},{other}\n"
    return text


@pytest.mark.parametrize("names", [("a", "b"), ("milk", "bread", "eggs", "beer")])
def test_rows_without_an_item_that_are_the_sum_of_the_items(directory, names):
    text = items(3, 40, names)
    with pytest.raises(InputError, match=r'without an item are the sum .* totals = "leave_out"'):
        directory.ingest(directory.file("a.csv", text))
    bucket = directory.with_settings(sales=Sales(totals="leave_out"))
    report = bucket.ingest(bucket.file("a.csv", text))
    assert any("120 rows without an item" in warning for warning in report.warnings)
    assert {item for (item,) in bucket.rows("item_id")} == set(names)


def test_totals_may_be_kept(directory):
    bucket = directory.with_settings(sales=Sales(totals="keep"))
    report = bucket.ingest(bucket.file("a.csv", items(2, 20, "ab")))
    assert (report.rows, report.warnings) == (120, ())


def test_rows_without_an_item_that_are_something_else(directory):
    assert directory.ingest(directory.file("a.csv", items(2, 40, "ab", share=0.2))).rows == 240


def test_the_row_of_a_total_is_named(directory):
    rows = [("Total", day(0), 300000.25), ("a", day(0), 100000.0), ("b", day(0), 200000.25)]
    with pytest.raises(InputError, match="row 2: the store Total is the sum .* on 1 of 1"):
        directory.ingest(directory.file("a.csv", content(rows)))


def sparse(every, days=120, stores=1):
    text = "store_id,item_id,date,sales\n"
    for store in range(stores):
        for number in range(days):
            text += f"{store},daily,{day(number)},5\n"
            if number % every == 0:
                text += f"{store},rare,{day(number)},2\n"
    return text


def test_items_of_which_most_days_are_missing(directory):
    report = directory.ingest(directory.file("a.csv", sparse(10, stores=3)))
    [warning] = report.warnings
    assert "3 of 6 items have rows on fewer than half" in warning
    assert "item rare: 12 of 111" in warning
    assert 'missing_items = "zero"' in warning


@pytest.mark.parametrize(
    ("every", "days", "section"),
    [
        (1, 120, {}),
        (10, 12, {}),
        (10, 120, {"missing_items": "zero"}),
        (10, 120, {"rows": "transactions"}),
    ],
)
def test_no_warning(directory, every, days, section):
    bucket = directory.with_settings(sales=Sales(**section))
    assert bucket.ingest(bucket.file("a.csv", sparse(every, days))).warnings == ()
