"""The same content again, objects that grow, and files that contradict each other."""

import gzip
import os
import unicodedata
from datetime import timedelta

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from ray_job.bucket.errors import InputError
from ray_job.ingest import CompactScope, attempt, compact
from ray_job.settings import Ingest, Sales
from tests.support.delivery_bucket import NOW

TILL = "store_id,date,sales\n11,2026-11-01,5\n11,2026-11-01,7\n"


@pytest.fixture
def tills(directory):
    return directory.with_settings(sales=Sales(rows="transactions"))


def days(bucket):
    """The sum of each day's rows."""
    sums = {}
    for day, sales in bucket.rows("date", "sales"):
        sums[day] = sums.get(day, 0) + sales
    return sums


@pytest.mark.parametrize(
    "again",
    [
        ("till (1).csv", TILL),
        ("copy/till.csv", TILL),
        ("till.csv.gz", gzip.compress(TILL.encode())),
        ("other.csv.gz", gzip.compress(TILL.encode(), 1)),
    ],
)
@pytest.mark.parametrize("is_upload", [False, True])
def test_the_same_content_under_another_name_is_nothing_new(tills, again, is_upload):
    tills.ingest(tills.file("till.csv", TILL))
    name, content = again
    if is_upload:
        report = tills.ingest(tills.file(f"again/{name}", content))
    else:
        tills.drop(name, content)
        report = tills.ingest()
    assert report.files == 0
    is_same_key = is_upload and name == "copy/till.csv"
    assert [
        warning for warning in report.warnings if "the same content as raw_data/till" in warning
    ] or is_same_key
    assert days(tills) == {"2026-11-01": 12.0}


def test_a_copy_is_fetched_and_warned_of_once(tills):
    tills.ingest(tills.file("till.csv", TILL))
    tills.drop("copy.csv", TILL)
    assert len(tills.ingest().warnings) == 1
    before = tills.everything()
    report = tills.ingest()
    assert (report.files, report.warnings) == (0, ())
    assert tills.everything() == before
    assert days(tills) == {"2026-11-01": 12.0}


def test_the_same_content_twice_in_one_ingest_counts_once(tills):
    tills.drop("a.csv", TILL, minute=1)
    tills.drop("b.csv.gz", gzip.compress(TILL.encode()), minute=2)
    tills.drop("c.csv", TILL.replace("11,", "12,"), minute=3)
    report = tills.ingest()
    assert (report.files, len(report.warnings)) == (2, 1)
    assert len(tills.rows("sales")) == 2
    before = tills.everything()
    assert tills.ingest().warnings == ()
    assert tills.everything() == before


def test_the_same_content_of_another_folder_column_or_kind_is_new(directory):
    for store in (1, 2):
        directory.drop(f"store_id={store}/part.csv", "date,sales\n2026-11-01,5\n")
    assert directory.ingest().rows == 2
    directory.ingest(
        directory.file("same.csv", "date,sales,store_id\n2026-11-02,5,3\n"), replace=True
    )
    assert (
        directory.ingest(directory.file("same.csv", "date,sales,store_id\n2026-11-02,5,3\n")).files
        == 1
    )


def test_a_day_that_was_corrected_is_not_undone_by_the_old_content(directory):
    old = "store_id,date,sales\n1,2026-11-01,5\n"
    directory.ingest(directory.file("a.csv", old))
    directory.ingest(directory.file("b.csv", old.replace(",5", ",6")))
    directory.ingest(directory.file("c.csv", old))
    assert [sales for (sales,) in directory.rows("sales")] == [5.0, 6.0]


def test_an_object_that_grew_replaces_what_it_gave_before(bucket):
    tills = bucket.with_settings(sales=Sales(rows="transactions"))
    tills.drop("till.csv", TILL, minute=1)
    tills.drop("other.csv", TILL.replace("11,", "12,"), minute=1)
    tills.ingest()
    grown = TILL
    for number in range(3):
        grown += f"11,2026-11-0{number + 1},{number}.5\n13,2026-11-01,1\n"
        tills.drop("till.csv", grown, minute=2 + number)
        tills.ingest()
    assert sorted(tills.rows("store_id", "date", "sales")) == [
        ("11", "2026-11-01", 12.5),
        ("11", "2026-11-02", 1.5),
        ("11", "2026-11-03", 2.5),
        ("12", "2026-11-01", 12.0),
        ("13", "2026-11-01", 3.0),
    ]


def test_an_object_with_other_days_adds_to_them(tills):
    tills.drop("latest.csv", TILL, minute=1)
    tills.ingest()
    tills.drop("latest.csv", TILL.replace("-01,", "-02,"), minute=2)
    tills.ingest()
    assert days(tills) == {"2026-11-01": 12.0, "2026-11-02": 12.0}


def test_a_file_that_grew_is_uploaded_again_and_replaces_the_shorter_one(tills):
    grown = TILL
    for number in range(3):
        tills.ingest(tills.file("till.csv", grown))
        grown += f"11,2026-11-01,{number}\n"
    assert days(tills) == {"2026-11-01": 13.0}
    other_day = "store_id,date,sales\n11,2026-11-01,100\n"
    tills.ingest(tills.file("elsewhere/till.csv", other_day))
    assert days(tills) == {"2026-11-01": 113.0}


def test_an_object_that_grew_after_compaction(tills):
    for number in range(4):
        tills.drop(f"till-{number}.csv", f"{TILL}11,2026-11-02,{number}\n", minute=number)
        tills.ingest()
    settings = tills.settings.model_copy(update={"ingest": Ingest(compact_above_files=1)})
    for back in range(16):
        scope = CompactScope(NOW.date() - timedelta(days=back))
        compact(tills.storage, settings, scope, now=NOW)
    tills.drop("till-2.csv", f"{TILL}11,2026-11-02,2\n11,2026-11-02,10\n", minute=9)
    tills.ingest()
    assert days(tills) == {"2026-11-01": 48.0, "2026-11-02": 16.0}


HEADER = "store_id,item_id,date,sales\n"


def test_files_of_one_ingest_that_contradict_each_other_are_refused_with_both_names(directory):
    directory.drop("food.csv", f"{HEADER}11,,2026-11-01,700\n12,,2026-11-01,1\n")
    directory.drop("good.csv", f"{HEADER}13,,2026-11-01,700\n")
    directory.drop("north/textiles.csv", "date,store_id,sales,note\n2026-11-01,11,300,x\n")
    with pytest.raises(InputError, match=r"row 2 and row 2 of raw_data/north/textiles\.csv"):
        directory.ingest()
    report = directory.ingest(leave_out_bad=True)
    assert [bad.key for bad in report.bad] == ["raw_data/food.csv", "raw_data/north/textiles.csv"]
    assert "raw_data/food.csv have the same store_id, item_id, date" in report.bad[1].reason
    assert directory.rows("store_id") == [("13",)]
    directory.storage.delete(
        "raw_data/north/textiles.csv",
        directory.storage.stat("raw_data/north/textiles.csv").generation,
    )
    assert directory.ingest().files == 1


def test_three_files_of_which_two_agree(directory):
    for number, sales in enumerate((5, 6, 5)):
        directory.drop(
            f"{number}.csv", f"{HEADER}1,x,2026-11-01,{sales}\n1,y{number},2026-11-01,1\n"
        )
    report = directory.ingest(leave_out_bad=True)
    assert len(report.bad) == 3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1,x,2026-11-01,5\n", "1,x,2026-11-01,5\n1,x,2026-11-02,6\n"),
        ("1,x,2026-11-01,5\n", "1,y,2026-11-01,6\n"),
        ("1,x,2026-11-01,5\n", "1,x,2026-11-01,\n"),
        ("1,x,2026-11-01,5\n", "1,x,2026-11-02,6\n"),
    ],
)
def test_files_that_do_not_contradict_each_other(directory, first, second):
    directory.ingest(
        directory.file("a.csv", HEADER + first), directory.file("b.csv", HEADER + second)
    )


def test_plans_that_change_do_not_contradict_each_other(directory):
    directory.ingest(
        directory.file("a.csv", "store_id,date,promo\n1,2026-12-01,0\n"),
        directory.file("b.csv", "store_id,date,promo\n1,2026-12-01,1\n"),
    )
    assert directory.rows("promo") == [(0.0,), (1.0,)]


def test_a_replacement_and_a_later_ingest_correct(directory):
    directory.drop("a.csv", f"{HEADER}1,x,2026-11-01,5\n", minute=1)
    directory.drop("replace/b.csv", f"{HEADER}1,x,2026-11-01,6\n", minute=2)
    directory.ingest()
    directory.ingest(directory.file("c.csv", f"{HEADER}1,x,2026-11-01,7\n"))
    assert directory.rows("sales") == [(6.0,), (7.0,)]


HOURLY = {
    "one hour apart": ("2026-11-01 08:00:00", "2026-11-01 09:00:00"),
    "one second apart": ("2026-11-01T08:00:00", "2026-11-01T08:00:01"),
    "midnight and noon": ("2026-11-01 00:00", "2026-11-01 12:00"),
    "the hour that comes twice": ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
    "parts of a second": ("2026-11-01 08:00:00.25", "2026-11-01 08:00:00.5"),
}


@pytest.mark.parametrize("moments", HOURLY.values(), ids=HOURLY)
@pytest.mark.parametrize("is_one_file", [True, False])
def test_equal_rows_of_several_times_of_a_day_are_transactions(directory, moments, is_one_file):
    bucket = directory.with_settings(time_zone="Europe/Berlin")
    rows = [f"11,,{moment},10\n" for moment in moments]
    if is_one_file:
        files = [bucket.file("a.csv", HEADER + "".join(rows))]
    else:
        files = [bucket.file(f"{k}.csv", HEADER + row) for k, row in enumerate(rows)]
    with pytest.raises(InputError, match=r'of the day: put rows = "transactions" under \[sales\]'):
        bucket.ingest(*files)
    bucket = bucket.with_settings(sales=Sales(rows="transactions"))
    bucket.ingest(*files)
    assert sum(sales for (sales,) in bucket.rows("sales")) == 20


def test_weather_of_several_times_of_a_day_is_refused(directory):
    content = "region,date,rain\nBE,2026-11-01 08:00,1\nBE,2026-11-01 09:00,1\n"
    with pytest.raises(InputError, match="deliver one row a day"):
        directory.ingest(directory.file("w.csv", content), kind="weather")


def test_equal_rows_of_one_moment_are_one_row(directory):
    row = "11,,2026-11-01 23:59:00,10\n"
    directory.ingest(directory.file("a.csv", HEADER + row + row))
    assert directory.rows("date", "sales") == [("2026-11-01", 10.0)]


def test_a_file_that_is_replaced_while_it_is_read(directory, monkeypatch):
    path = directory.file("a.csv", f"{HEADER}1,,2026-11-01,5\n")
    read = attempt.read_batch

    def read_and_replace(*arguments):
        batch = read(*arguments)
        path.write_text(f"{HEADER}1,,2026-11-01,6\n")
        os.utime(path, (1, 1))
        return batch

    monkeypatch.setattr(attempt, "read_batch", read_and_replace)
    with pytest.raises(InputError, match="was changed while it was read"):
        directory.ingest(path)
    assert directory.objects() == []


def rows_of(*times_and_sales):
    return "store_id,date,sales\n" + "".join(
        f"11,2026-11-{moment},{sales}\n" for moment, sales in times_and_sales
    )


FIRST = rows_of(("01 08:00", 5), ("01 08:30", 7), ("02 09:00", 1))
AGAIN = {
    "grown in another order": (
        rows_of(("03 07:00", 4), ("02 09:00", 1), ("01 08:30", 7), ("01 08:00", 5)),
        {"2026-11-01": 12, "2026-11-02": 1, "2026-11-03": 4},
    ),
    "a window that moved on": (
        rows_of(("02 09:00", 1), ("02 10:00", 3), ("03 07:00", 4)),
        {"2026-11-01": 12, "2026-11-02": 4, "2026-11-03": 4},
    ),
    "other days": (
        rows_of(("04 09:00", 8)),
        {"2026-11-01": 12, "2026-11-02": 1, "2026-11-04": 8},
    ),
    "other hours of the same day": (
        rows_of(("02 10:00", 3)),
        {"2026-11-01": 12, "2026-11-02": 4},
    ),
    "a corrected row": (rows_of(("01 08:00", 6), ("01 08:30", 7), ("02 09:00", 1)), None),
    "a corrected row alone": (rows_of(("01 08:00", 6)), None),
    "a part of it": (rows_of(("01 08:00", 5)), None),
}


@pytest.mark.parametrize("how", AGAIN)
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_a_file_that_is_given_again_under_its_name_counts_nothing_twice(tills, how, ending):
    again, expected = AGAIN[how]

    def content(text):
        if ending == "parquet":
            sink = pa.BufferOutputStream()
            pq.write_table(pa.csv.read_csv(pa.py_buffer(text.encode())), sink)
            return sink.getvalue().to_pybytes()
        return gzip.compress(text.encode()) if ending == "csv.gz" else text

    tills.ingest(tills.file(f"till.{ending}", content(FIRST)))
    path = tills.file(f"till.{ending}", content(again))
    if expected is None:
        before = tills.everything()
        with pytest.raises(InputError, match="reads in two ways; give it another name .*--replace"):
            tills.ingest(path)
        assert tills.everything() == before
        tills.ingest(path, replace=True)
        assert sum(days(tills).values()) in (14, 7, 6)
        return
    tills.ingest(path)
    assert days(tills) == expected
    assert tills.ingest().files == tills.ingest(path).files == 0


@pytest.mark.parametrize("first", ["NFC", "NFD"])
def test_two_forms_of_a_letter_are_one_name(tills, first):
    """A Mac writes é as e with an accent, other machines as one character."""
    second = "NFD" if first == "NFC" else "NFC"
    tills.drop(unicodedata.normalize(first, "café.csv"), FIRST)
    tills.ingest()
    again, expected = AGAIN["grown in another order"]
    tills.drop(unicodedata.normalize(second, "café.csv"), again)
    assert tills.ingest().files == 1
    assert days(tills) == expected
    tills.ingest(
        tills.file(unicodedata.normalize(second, "café.csv"), f"{again}11,2026-11-02 11:00,1\n")
    )
    assert days(tills) == expected | {"2026-11-02": 2}
    assert tills.ingest().files == 0


def test_rows_without_a_time_that_differ_are_added_with_a_warning(tills):
    tills.ingest(tills.file("till.csv", TILL))
    report = tills.ingest(tills.file("till.csv", "store_id,date,sales\n11,2026-11-01,100\n"))
    [warning] = report.warnings
    assert "other rows of the same days than raw_data/till.csv" in warning
    assert days(tills) == {"2026-11-01": 112.0}


def test_a_grown_object_replaces_versions_that_were_uploaded_beside_it(tills):
    tills.ingest(tills.file("till.csv", TILL))
    tills.ingest(tills.file("till.csv", f"{TILL}11,2026-11-01,1\n"))
    assert len(tills.objects("raw_data/")) == 2
    tills.drop("till.csv", f"{TILL}11,2026-11-01,1\n11,2026-11-01,2\n")
    tills.ingest()
    assert days(tills) == {"2026-11-01": 15.0}


def test_versions_of_a_file_in_one_ingest_count_once(tills):
    tills.drop("till.csv", TILL)
    grown = tills.file("till.csv", f"{TILL}11,2026-11-01,1\n")
    longest = tills.file("later/till.csv", f"{TILL}11,2026-11-01,1\n11,2026-11-01,2\n")
    assert tills.ingest(grown, longest).rows == 4
    assert days(tills) == {"2026-11-01": 15.0}
    before = tills.everything()
    assert tills.ingest().files == tills.ingest(longest).files == 0
    assert tills.everything() == before
    tills.drop("part.csv", rows_of(("05 08:00", 1), ("06 08:00", 2)))
    with pytest.raises(InputError, match="reads in two ways"):
        tills.ingest(tills.file("part.csv", rows_of(("06 08:00", 2), ("06 09:00", 3))))


def test_names_that_end_like_a_digest_are_files_of_their_own(tills):
    for number, name in enumerate(("", "-202611010800", "-202611010900")):
        tills.ingest(tills.file(f"tills{name}.csv", rows_of(("01 08:00", 5), ("01 09:00", number))))
    assert days(tills) == {"2026-11-01": 18}


def test_an_earlier_version_that_is_gone_from_raw_data_counts_as_replaced(tills):
    tills.ingest(tills.file("till.csv", TILL))
    tills.storage.delete("raw_data/till.csv", tills.storage.stat("raw_data/till.csv").generation)
    tills.ingest(tills.file("till.csv", f"{TILL}11,2026-11-01,1\n"))
    assert days(tills) == {"2026-11-01": 13.0}


@pytest.mark.parametrize("rows", ["daily", "transactions"])
def test_a_correction_counts_by_when_it_was_brought_in(directory, rows):
    """Its file is older than what it corrects, as after `cp -p`, or dated in the future."""
    bucket = directory.with_settings(sales=Sales(rows=rows))
    for sales, minute in ((5, 10), (6, -10_000), (7, 10_000_000), (8, 0)):
        bucket.drop("day.csv", f"store_id,date,sales\n1,2026-11-01,{sales}\n", minute=minute)
        bucket.ingest()
    assert bucket.rows("sales")[-1] == (8.0,)
    assert len(bucket.rows("sales")) == (4 if rows == "daily" else 1)
    (first,), *_ = bucket.rows("delivered_at")
    assert first <= bucket.rows("delivered_at")[-1][0] < (NOW + timedelta(seconds=1)).isoformat()
