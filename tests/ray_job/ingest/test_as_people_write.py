"""Deliveries as people write them: notations, time zones, flags, ids, headers and encodings."""

import gzip
import io
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_job.bucket.errors import InputError
from ray_job.settings import Delivery, Sales, load

ROWS = [("7", "2026-03-01", 1234.5), ("7", "2026-03-02", 2000.0), ("8", "2026-03-01", 0.75)]


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def stored(bucket):
    return bucket.rows("store_id", "date", "sales")


NOTATIONS = {
    "german": (
        "7;01.03.2026;1.234,50\n7;02.03.2026;2.000\n8;01.03.2026;0,75\n",
        {"thousands": ".", "date_format": "%d.%m.%Y"},
    ),
    "swiss": (
        "7|01.03.26|1'234.50\n7|02.03.26|2’000\n8|01.03.26|.75\n",
        {"thousands": "'", "date_format": "%d.%m.%y"},
    ),
    "french": (
        "7\t01/03/2026\t1\u202f234,5\n7\t02/03/2026\t2 000\n8\t01/03/2026\t0,75\n",
        {"decimal": ",", "thousands": " ", "date_format": "%d/%m/%Y"},
    ),
    "american": (
        '7,03/01/2026,"1,234.50"\n7,03/02/2026,"2,000"\n8,03/01/2026,0.75\n',
        {"thousands": ",", "date_format": "%m/%d/%Y"},
    ),
    "compact": ("7,20260301,1234.5\n7,20260302,2e3\n8,20260301,.75\n", {"date_format": "%Y%m%d"}),
}


@pytest.mark.parametrize(("rows", "marks"), NOTATIONS.values(), ids=NOTATIONS)
def test_every_notation_reads_with_its_settings(directory, rows, marks):
    delimiter = next(mark for mark in ";|\t," if mark in rows)
    header = delimiter.join(("store_id", "date", "sales"))
    bucket = directory.with_settings(sales=Sales(**marks))
    bucket.ingest(bucket.file("a.csv", f"{header}\n{rows}"))
    assert stored(bucket) == ROWS


def test_a_kind_has_its_own_notation(directory):
    bucket = directory.with_settings(weather=Delivery(decimal=",", date_format="%d.%m.%Y"))
    bucket.ingest(bucket.file("a.csv", "store_id,date,sales\n7,2026-03-01,1.5\n"))
    bucket.ingest(bucket.file("w.csv", "region;date;rain\nBE;01.03.2026;1,25\n"), kind="weather")
    assert bucket.rows("sales") == [(1.5,)]
    assert bucket.context("weather") == [{"region": "BE", "date": "2026-03-01", "rain": 1.25}]


BOTH_WAYS = {
    "semicolons": "store_id;date;sales\n7;2026-03-01;1.204\n7;2026-03-02;15\n",
    "tabs, negative": "store_id\tdate\tsales\n7\t2026-03-01\t-10.500\n",
    "commas": "store_id,date,sales\n7,2026-03-01,1.204\n8,2026-03-01,2.000\n",
    "quoted group": 'store_id,date,sales\n7,2026-03-01,"1,204"\n',
    "a further column": "store_id;date;sales;price\n7;2026-03-01;5;1.999\n7;2026-03-02;5;2.499\n",
}


@pytest.mark.parametrize("content", BOTH_WAYS.values(), ids=BOTH_WAYS)
def test_what_reads_both_ways_is_refused_with_both_settings(directory, content):
    with pytest.raises(InputError, match=r"row 2: .* reads as .* and as .*: put ") as raised:
        directory.ingest(directory.file("a.csv", content))
    assert "decimal = " in str(raised.value)
    assert "thousands = " in str(raised.value)
    assert "under [sales] in the settings" in str(raised.value)


@pytest.mark.parametrize(
    ("section", "sales"), [({"decimal": "."}, 1.204), ({"thousands": "."}, 1204.0)]
)
def test_either_setting_is_the_way_out(directory, section, sales):
    bucket = directory.with_settings(sales=Sales(**section))
    bucket.ingest(bucket.file("a.csv", BOTH_WAYS["semicolons"]))
    assert bucket.rows("sales") == [(sales,), (15.0,)]


@pytest.mark.parametrize("other", ["0.500", "1.5", "12.2040", "1234.567", "2.50"])
def test_one_other_point_in_the_file_settles_it(directory, other):
    content = f"store_id;date;sales\n7;2026-03-01;1.204\n7;2026-03-02;{other}\n"
    directory.ingest(directory.file("a.csv", content))
    assert directory.rows("sales") == [(1.204,), (float(other),)]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("7;2026-03-01;120,5", r'120,5 reads as 120\.5: put decimal = ","'),
        ("7;2026-03-01;1.204,5", r'reads as 1204\.5: put thousands = "\.", decimal = ","'),
        ("7;31.12.2025;5", r'YYYY-MM-DD, or put date_format = "%d\.%m\.%Y" under \[sales\]'),
        ("7;01/02/2026;5", r'date_format = "%d/%m/%Y" or date_format = "%m/%d/%Y"'),
        ("Köln Mitte;2026-03-01;5", r'or put store_ids = "encode" under \[sales\]'),
    ],
)
def test_a_refusal_names_the_way_out(directory, row, sentence):
    with pytest.raises(InputError, match=f"row 2: the column .*{sentence}"):
        directory.ingest(directory.file("a.csv", f"store_id;date;sales\n{row}\n"))


def test_a_decimal_comma_in_a_further_column_does_not_become_text(directory):
    content = "store_id;date;sales;price\n7;2026-03-01;5;1,99\n7;2026-03-02;5;12\n7;2026-03-03;5;\n"
    with pytest.raises(InputError, match=r'row 2: the column price .*"1,99".*decimal = ","'):
        directory.ingest(directory.file("a.csv", content))


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("Europe/Berlin", ["2026-06-30", "2026-07-01"]),
        ("America/Los_Angeles", ["2026-06-30", "2026-06-30"]),
        ("Asia/Tokyo", ["2026-07-01", "2026-07-01"]),
    ],
)
@pytest.mark.parametrize(
    "texts",
    [
        ("2026-06-30T21:00:00Z", "2026-06-30T23:00:00.5Z"),
        ("2026-06-30 17:00:00-04:00", "2026-07-01 08:00:00+09:00"),
        ("2026-06-30 21:00:00 UTC", "2026-06-30 23:00 UTC"),
    ],
)
def test_instants_are_days_of_the_time_zone(directory, zone, days, texts):
    bucket = directory.with_settings(time_zone=zone, sales=Sales(rows="transactions"))
    rows = "".join(f"7,x{number},{text},5\n" for number, text in enumerate(texts))
    bucket.ingest(bucket.file("a.csv", f"store_id,item_id,date,sales\n{rows}"))
    assert [day for (day,) in bucket.rows("date")] == days


def test_instants_of_text_and_of_parquet_are_the_same_days(directory):
    moment = datetime(2026, 10, 25, 23, 30, tzinfo=UTC)
    bucket = directory.with_settings(time_zone="Europe/Madrid")
    bucket.ingest(
        bucket.file("a.csv", f"store_id,date,sales\n1,{moment.isoformat()},5\n"),
        bucket.file("b.parquet", parquet(store_id=["2"], date=[moment], sales=[5.0])),
        bucket.file("c.parquet", parquet(store_id=["3"], date=[moment.isoformat()], sales=[5.0])),
    )
    assert {day for (day,) in bucket.rows("date")} == {"2026-10-26"}


@pytest.mark.parametrize(
    ("yes", "no"),
    [("t", "f"), ("Yes", "No"), ("open", "closed"), ("J", "N"), ("TRUE", "FALSE"), ("1.0", "0.0")],
)
def test_flags_are_one_and_zero(directory, yes, no):
    content = (
        f"store_id,date,sales,open\n7,2026-03-01,5,{yes}\n7,2026-03-02,0,{no}\n7,2026-03-03,,\n"
    )
    directory.ingest(directory.file("a.csv", content))
    assert directory.rows("open") == [(1.0,), (0.0,), (None,)]


def test_flags_of_parquet(directory):
    directory.ingest(
        directory.file(
            "a.parquet",
            parquet(
                store_id=["7", "7"],
                date=[date(2026, 3, 1), date(2026, 3, 2)],
                sales=[1.0, 2.0],
                open=["y", "n"],
                promo=[True, False],
            ),
        )
    )
    assert directory.rows("open", "promo") == [(1.0, 1.0), (0.0, 0.0)]


def test_stores_closed_for_good(directory):
    content = "store_id,region,closed_for_good\n1,BE,N\n2,BE,J\n3,BE,\n4,BE,false\n"
    directory.ingest(directory.file("a.csv", content), kind="stores")
    assert [row["closed_for_good"] for row in directory.context("stores")] == [0.0, 1.0, None, 0.0]


@pytest.mark.parametrize(
    ("kind", "content", "value"),
    [
        ("sales", "store_id,date,sales,open\n7,2026-03-01,5,maybe\n", "maybe"),
        ("sales", "store_id,date,sales,open\n7,2026-03-01,5,2\n", "2"),
        ("sales", "store_id,date,promo\n7,2026-03-01,flyer\n", "flyer"),
        ("stores", "store_id,region,closed_for_good\n7,BE,2024-05-01\n", "2024-05-01"),
    ],
)
def test_anything_else_in_a_flag_is_refused(directory, kind, content, value):
    with pytest.raises(InputError, match=f'row 2: .*has the value "{value}", which is n'):
        directory.ingest(directory.file("a.csv", content), kind=kind)


def test_whole_numbers_as_floats_are_ids(directory):
    directory.ingest(
        directory.file("a.csv", "store_id,item_id,date,sales\n17.0,9001.0,2026-03-01,1\n"),
        directory.file(
            "b.parquet",
            parquet(store_id=[17.0], item_id=[9001.0], date=[date(2026, 3, 2)], sales=[2]),
        ),
        directory.file(
            "c.parquet", parquet(store_id=[17], item_id=[9001], date=[date(2026, 3, 3)], sales=[3])
        ),
    )
    assert directory.rows("store_id", "item_id", "sales") == [
        ("17", "9001", 1.0),
        ("17", "9001", 2.0),
        ("17", "9001", 3.0),
    ]


def test_ids_that_cannot_be_paths_are_encoded_alike_in_sales_and_stores(directory):
    bucket = directory.with_settings(sales=Sales(store_ids="encode"))
    names = ["Köln Mitte", "Berlin/2", "ok-1"]
    sales = "".join(f"{name},2026-03-01,5\n" for name in names)
    stores = "".join(f"{name},X\n" for name in names)
    bucket.ingest(bucket.file("a.csv", f"store_id,date,sales\n{sales}"))
    bucket.ingest(bucket.file("s.csv", f"store_id,region\n{stores}"), kind="stores")
    ids = {store for (store,) in bucket.rows("store_id")}
    assert len(ids) == 3
    assert "ok-1" in ids
    assert {row["store_id"] for row in bucket.context("stores")} == ids


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("store_nbr,date,family,unit_sales", 'columns = { store_id = "store_nbr", sales ='),
        ("Store,Date,Sales", 'columns = { store_id = "Store", date = "Date", sales = "Sales" }'),
        ("shop,day,qty", 'columns = { store_id = "shop", date = "day", sales = "qty" }'),
        ("Filiale;Datum;Umsatz", 'store_id = "Filiale", date = "Datum", sales = "Umsatz"'),
        ("store_id,tag,sales", 'columns = { date = "tag" }'),
    ],
)
def test_a_header_that_does_not_fit_is_shown_with_the_line_that_maps_it(directory, header, line):
    values = {",": "7,2026-03-01,5,6", ";": "7;2026-03-01;5"}[";" if ";" in header else ","]
    with pytest.raises(InputError, match="is missing; the file has ") as raised:
        directory.ingest(directory.file("a.csv", f"{header}\n{values}\n"))
    sentence = str(raised.value)
    assert header.replace(";", ",").replace(",", ", ") in sentence
    if "family" not in header:
        assert line in sentence
        shown = sentence[sentence.index("columns = {") :].partition(" under ")[0]
        path = directory.file("settings.toml", f"[sales]\n{shown}\n")
        assert load(path).sales.columns


GOOD = "store_id,date,sales\n7,2026-03-01,1234.5\n7,2026-03-02,2000\n8,2026-03-01,0.75\n"
FILES = {
    "utf-16": GOOD.encode("utf-16"),
    "utf-16-be without a mark": GOOD.encode("utf-16-be"),
    "utf-16-le without a mark": GOOD.encode("utf-16-le"),
    "utf-32": GOOD.encode("utf-32"),
    "utf-8 with a mark": GOOD.encode("utf-8-sig"),
    "sep line": f"sep=;\r\n{GOOD.replace(',', ';')}",
    "sep line of a pipe": f'"sep=|"\n{GOOD.replace(",", "|")}',
    "title": f"Sales, by store\nMarch 2026\n\n{GOOD}",
    "title with more fields": f"a,b,c,d,e\n{GOOD}",
    "blank lines first": f"\n\r\n  \n{GOOD}",
    "carriage returns": GOOD.replace("\n", "\r"),
    "mixed line ends": GOOD.replace("\n", "\r\n", 1),
    "mixed line ends, late": GOOD[:-1] + "\r\n9,2026-03-01,\r",
    "blank lines between": GOOD.replace("\n", "\n\n"),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
@pytest.mark.parametrize("is_compressed", [False, True])
def test_encodings_titles_and_line_ends_are_read(directory, content, is_compressed):
    data = content.encode() if isinstance(content, str) else content
    name = "a.csv.gz" if is_compressed else "a.csv"
    directory.ingest(directory.file(name, gzip.compress(data) if is_compressed else data))
    assert [row for row in stored(directory) if row[2] is not None] == ROWS


def test_rows_are_counted_as_a_spreadsheet_does_below_a_title(directory):
    content = f"Title\n\n{GOOD}7,2026-03-04,many\n"
    with pytest.raises(InputError, match="row 7: the column sales"):
        directory.ingest(directory.file("a.csv", content))
    with pytest.raises(InputError, match="line 7: there are 2 columns instead of 3"):
        directory.ingest(directory.file("b.csv", f"Title\n\n{GOOD}7,2026-03-04\n"))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"PK\x03\x04 rest", "an Excel or ZIP file"),
        ("a.csv", b"\xd0\xcf\x11\xe0 rest", "an old Excel file"),
        ("a.csv", b"PAR1 rest", "a Parquet file"),
        ("a.csv", gzip.compress(GOOD.encode(), mtime=0), "a gzip file"),
        ("a.csv", GOOD.encode().replace(b"7", b"\0", 1), "zero bytes"),
    ],
)
def test_what_is_no_csv_is_named_for_what_it_is(directory, name, content, sentence):
    with pytest.raises(InputError, match=sentence):
        directory.ingest(directory.file(name, content))
