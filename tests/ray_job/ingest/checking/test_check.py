"""check: what it says of files, and settings that load and fit."""

import json
import subprocess
import sys
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_job.ingest.checking import check_files
from ray_job.ingest.checking.settings_text import settings_text
from ray_job.progress import SilentProgress
from ray_job.settings import Delivery, Sales, Settings, load
from tests.ray_job.ingest.test_any_file import TEXTS
from tests.ray_job.ingest.test_left_out import GOOD_TOO
from tests.support.delivery_bucket import NOW

FIRST = date(2026, 8, 3)


def checked(bucket, *paths, **options):
    options = {"kind": None, "now": NOW, "progress": SilentProgress(), **options}
    return check_files(bucket.settings, paths, **options)


def with_suggestion(bucket, report):
    return load(bucket.file("suggested.toml", report.settings)), report


def daily(days, value, stores=("1", "2", "3")):
    return "store_id,date,sales\n" + "".join(
        f"{store},{FIRST + timedelta(days=number)},{value(store, number)}\n"
        for number in range(days)
        for store in stores
    )


FILES = {
    "german till": (
        "Filiale;Datum;Umsatz\n1;01.03.2026;1.204,50\n2;02.03.2026;12,00\n",
        {"columns": {"store_id": "Filiale", "date": "Datum", "sales": "Umsatz"}},
        {"thousands": ".", "decimal": ",", "date_format": "%d.%m.%Y"},
    ),
    "title, unknown headers": (
        "Sales report\n\nfiliale,tag,umsatz\n1,2026-03-01,5\n2,2026-03-01,6\n",
        {"columns": {"store_id": "filiale", "date": "tag", "sales": "umsatz"}},
        {},
    ),
    "american": (
        'store_nbr,date,sales\n1,03/25/2026,"1,204.50"\n2,03/02/2026,7\n',
        {"columns": {"store_id": "store_nbr"}},
        {"thousands": ",", "date_format": "%m/%d/%Y"},
    ),
    "points in semicolons": ("store_id;date;sales\n1;2026-03-01;1.204\n", {}, {"thousands": "."}),
    "hourly": (
        "shop,day,qty\n1,2026-03-01 08:00,5\n1,2026-03-01 09:00,5\n",
        {"columns": {"store_id": "shop", "date": "day", "sales": "qty"}},
        {"rows": "transactions"},
    ),
    "names as ids": ("store_id,date,sales\nKöln Süd,2026-03-01,5\n", {}, {"store_ids": "encode"}),
    "plan": (
        "store_id,date,sales,aktion,holiday_plan\n1,2026-03-01,5,1,0\n1,2026-12-24,,0,1\n",
        {"columns": {"promo": "aktion"}},
        {"known_ahead": ("promo", "holiday_plan")},
    ),
}


@pytest.mark.parametrize(("content", "columns", "marks"), FILES.values(), ids=FILES)
def test_the_settings_load_and_an_ingest_with_them_brings_the_file_in(
    directory, content, columns, marks
):
    path = directory.file("a.csv", content)
    settings, report = with_suggestion(directory, checked(directory, path))
    expected = Sales(**columns, **marks)
    for name in (*columns, *marks):
        assert getattr(settings.sales, name) == getattr(expected, name)
    [file] = report.files
    assert (file.still_refused, report.changes_settings) == ([], True)
    bucket = directory.with_settings(sales=settings.sales)
    assert bucket.ingest(path).rows == file.rows
    assert directory.objects("results") == []


def test_settings_are_printed_as_toml_that_reads_back_equal(directory):
    settings = Settings(
        time_zone="Europe/Berlin",
        sales=Sales(
            columns={"store_id": 'a "b" \\ c', "x y": "\t\u2028é\U000e0001"},
            ignore=("", "n"),
            types={"größe": "text"},
            thousands=".",
            leave_out_stores=("Total",),
            known_ahead_days=9,
        ),
        weather=Delivery(date_format="%d.%m.%Y"),
    )
    assert load(directory.file("s.toml", settings_text(settings))) == settings
    assert settings_text(Settings()) == ""


def test_all_problems_of_a_file_are_named_not_only_the_first(directory):
    path = directory.file(
        "a.csv",
        "store_id,date,sales,open\n1,2026-02-30,5,1\n1,2026-02-31,5,1\n,2026-01-01,5,1\n"
        "1,2026-01-02,many,1\n1,2026-01-03,5,maybe\n1,2062-01-01,5,1\n",
    )
    [file] = checked(directory, path).files
    assert len(file.refused) == 5
    assert [sentence.partition(":")[0] for sentence in file.refused] == [
        "row 2",
        "row 4",
        "row 5",
        "row 6",
        "row 7",
    ]
    assert "(1 more such rows)" in file.refused[0]


def test_kinds_are_guessed_and_figures_are_right(directory):
    files = [
        directory.file("sales.csv", daily(3, lambda _store, number: number + 1.5)),
        directory.file("w.csv", "region,date,rain\nBE,2026-01-01,5\n"),
        directory.file("h.csv", "State,day,holiday\nBE,2026-01-01,New Year\n"),
        directory.file("s.csv", "store_id,region\n1,BE\n2,BE\n"),
    ]
    report = checked(directory, *files)
    assert [file.kind for file in report.files] == ["sales", "weather", "holidays", "stores"]
    assert [file.rows for file in report.files] == [9, 1, 1, 2]
    sales = report.files[0]
    assert (sales.stores, sales.first_date, sales.last_date) == (3, FIRST, date(2026, 8, 5))


ODD = {
    "weekly": (
        "store_id,date,sales\n"
        + "".join(f"1,{FIRST + timedelta(days=7 * week)},{week + 900}\n" for week in range(12)),
        "all sales lie on Mondays: these are weekly sums",
    ),
    "no Sundays": (
        daily(60, lambda _store, number: 0 if number % 7 == 6 else 10 + number),
        "no store sells on Sundays",
    ),
    "zeros ahead": (
        daily(60, lambda _store, number: 0 if number > 56 else 10 + number % 5),
        "every store has sales of 0 on 2026-09-29 to 2026-10-01",
    ),
    "a jump": (
        daily(60, lambda store, number: 5000 if (store, number) == ("2", 30) else 10 + number % 5),
        "store 2 has sales of 5,000 on 2026-09-02, 357 times",
    ),
    "an ended item": (
        "store_id,item_id,date,sales\n"
        + "".join(
            f"1,{item},{FIRST + timedelta(days=number)},5\n"
            for number in range(80)
            for item in ("old", "new")
            if item == "new" or number < 40
        ),
        "1 items have not been sold for four weeks (store 1, item old: last on 2026-09-11)",
    ),
    "totals": (
        daily(30, lambda store, number: {"1": 101, "2": 202, "3": 303}[store] * (number + 1)),
        "",
    ),
}


@pytest.mark.parametrize(("content", "sentence"), ODD.values(), ids=ODD)
def test_what_looks_odd(directory, content, sentence):
    report = checked(directory, directory.file("a.csv", content))
    if sentence:
        assert [each for each in report.odd if sentence in each]
    else:
        [file] = report.files
        assert "the store 3 is the sum of the other stores" in file.refused[0]
        assert 'leave_out_stores = ["3"]' in report.settings


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(TEXTS, st.sampled_from(["csv", "parquet"]))
def test_any_bytes_give_sentences_and_settings_that_load(directory, content, ending):
    files = [directory.file(f"a.{ending}", content), directory.file("good.csv", GOOD_TOO)]
    report = checked(directory, *files)
    assert load(directory.file("s.toml", report.settings))
    assert report.files[1].refused == []
    assert all("\n" not in each for file in report.files for each in file.refused)


def test_good_files_need_no_settings_and_nothing_looks_odd(directory):
    path = directory.file("a.csv", daily(40, lambda store, number: 10 + number + int(store) / 8))
    report = checked(directory, path)
    assert (report.is_refused, report.odd, report.settings) == (False, [], "")


def test_the_command_prints_one_document_and_writes_nothing(directory):
    path = directory.file("a.csv", "Store,Date,Sales\n1,2026-03-01,5\n")
    command = [sys.executable, "-m", "ray_job", "check", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=False)
    assert text.returncode == 2
    assert 'columns = { store_id = "Store"' in text.stdout
    answer = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    document = json.loads(answer.stdout)
    settings = directory.file("settings.toml", document["settings"])
    good = subprocess.run(
        [*command, "--settings", str(settings)], capture_output=True, text=True, check=False
    )
    assert good.returncode == 0, good.stderr
    assert directory.objects() == []
