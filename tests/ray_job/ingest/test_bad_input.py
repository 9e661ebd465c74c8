"""Bad input: one sentence names the file and the row or column, and nothing is written."""

import gzip
import io
import re
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_job.bucket.errors import InputError
from ray_job.settings import Sales

GOOD = "store_id,date,sales\n1,2026-01-01,5\n"


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


LONG = gzip.compress(
    (GOOD + "".join(f"{n},2026-01-02,{n * 7919 % 10007}\n" for n in range(50_000))).encode()
)

CASES = {
    "missing store": (
        "a.csv",
        "shop,date,sales\n1,2026-01-01,5\n",
        "the column store_id is missing",
    ),
    "missing date": ("a.csv", "store_id,day,sales\n1,2026-01-01,5\n", "the column date is missing"),
    "missing sales": (
        "a.csv",
        "store_id,date,x\n1,2026-01-01,5\n",
        r"the column sales is missing, and so is every .* \(open, promo\)",
    ),
    "text in sales": (
        "a.csv",
        GOOD + "1,2026-01-02,many\n",
        'row 3: the column sales has the value "many", which is not a number',
    ),
    "nan": (
        "a.csv",
        GOOD + "1,2026-01-02,nan\n",
        'row 3: .*sales has the value "nan", which is not a number',
    ),
    "infinity": (
        "a.csv",
        GOOD + "1,2026-01-02,-inf\n",
        'row 3: .*sales has the value "-inf", which',
    ),
    "too big": (
        "a.csv",
        GOOD + "1,2026-01-02,1e999\n",
        'row 3: .*sales has the value "1e999", which',
    ),
    "nan elsewhere": (
        "a.csv",
        "store_id,date,sales,temp\n1,2026-01-01,5,1\n1,2026-01-02,5,NaN\n",
        'row 3: the column temp has the value "NaN", which is not a number',
    ),
    "bad date": (
        "a.csv",
        GOOD + "1,2026-02-30,5\n",
        'row 3: the column date has the value "2026-02-30", which is not a date',
    ),
    "other date": (
        "a.csv",
        GOOD + "1,31.12.2026,5\n",
        'date has the value "31.12.2026", which is not a date',
    ),
    "far date": (
        "a.csv",
        GOOD + "1,20260-02-03,5\n",
        'date has the value "20260-02-03", which is out of',
    ),
    "no date": ("a.csv", GOOD + "1,,5\n", "row 3: the column date is empty"),
    "no store": ("a.csv", GOOD + ",2026-01-02,5\n", "row 3: the column store_id is empty"),
    "path as store": (
        "a.csv",
        GOOD + "../1,2026-01-02,5\n",
        r'row 3: the column store_id has the value "\.\./1", which is not a store id',
    ),
    "long store": ("a.csv", GOOD + "x" * 65 + ",2026-01-02,5\n", "row 3: .*is not a store id"),
    "conflict": (
        "a.csv",
        GOOD + "2,2026-01-01,5\n1,2026-01-01,6\n",
        "rows 2 and 4 have the same store_id, item_id, date but differ",
    ),
    "null conflict": ("a.csv", GOOD + "1,2026-01-01,\n", "rows 2 and 3 have the same"),
    "zero bytes": ("a.csv", "", "the file is empty"),
    "empty gzip": ("a.csv.gz", gzip.compress(b""), "the file is empty"),
    "truncated gzip": ("a.csv.gz", LONG[: len(LONG) // 2], "the gzip file is damaged or cut off"),
    "no gzip": ("a.csv.gz", GOOD, "the gzip file is damaged or cut off"),
    "wide row": ("a.csv", GOOD + "1,2026-01-02,5,6\n", "line 3: there are 4 columns instead of 3"),
    "narrow row": ("a.csv", GOOD + "1,2026-01-02\n", "line 3: there are 2 columns instead of 3"),
    "open quote": ("a.csv", GOOD + '1,2026-01-02,"5\n', "line 3: a quotation mark is not closed"),
    "latin": ("a.csv", "store_id,date,sales,n\n1,2026-01-01,5,é\n".encode("latin1"), "not UTF-8"),
    "latin header": ("a.csv", "store_id,date,é\n".encode("latin1"), "the file is not UTF-8 text"),
    "blank lines": ("a.csv", "\n\n", "the file is empty"),
    "twice": ("a.csv", "store_id,date,sales,Date\n1,2026-01-01,5,6\n", "more than one column"),
    "unnamed": ("a.csv", ",store_id,date,sales\n0,1,2026-01-01,5\n", "column 1 has no name"),
    "capitals": (
        "a.csv",
        "store_id,date,Sales,open\n1,2026-01-01,5,1\n",
        "Sales differs from sales",
    ),
    "reserved": ("a.csv", "store_id,date,sales,op\n1,2026-01-01,5,x\n", "a name that is reserved"),
    "corrupt parquet": ("a.parquet", b"PAR1 no more PAR1", "the Parquet file is damaged"),
    "list in parquet": (
        "a.parquet",
        parquet(store_id=["1"], date=[date(2026, 1, 1)], sales=[1.0], tags=[["a"]]),
        "the column tags holds neither numbers nor text",
    ),
    "nan in parquet": (
        "a.parquet",
        parquet(store_id=["1"], date=[date(2026, 1, 1)], sales=[float("nan")]),
        'row 1: the column sales has the value "nan", which is not a number',
    ),
    "dates as sales": (
        "a.parquet",
        parquet(store_id=["1"], date=[date(2026, 1, 1)], sales=[datetime(2026, 1, 1, tzinfo=UTC)]),
        "sales holds dates where numbers are expected",
    ),
    "hidden": ("_a.csv", GOOD, "a name that begins with . or _"),
    "damaged pattern": ("a[*].csv", GOOD + "1,2026-01-02\n", "line 3: there are 2 columns"),
    "other ending": ("a.xlsx", b"PK", "a raw file's name must end in .csv, .csv.gz or .parquet"),
}


@pytest.mark.parametrize(("name", "content", "sentence"), CASES.values(), ids=CASES)
def test_a_bad_file_is_named_and_nothing_is_written(bucket, name, content, sentence):
    path = bucket.file(name, content)
    before = bucket.everything()
    with pytest.raises(InputError, match=f"(?s)^{re.escape(str(path))}: .*{sentence}") as raised:
        bucket.ingest(bucket.file("good.csv", GOOD), path)
    assert "\n" not in str(raised.value)
    assert bucket.everything() == before


def test_a_bad_file_in_raw_data_is_named_by_its_key(bucket):
    bucket.drop("berlin/a.csv", GOOD)
    bucket.drop("berlin/b.csv", GOOD + "1,yesterday,5\n")
    bucket.drop("berlin/c.csv", GOOD.replace("1,", "3,", 1))
    before = bucket.everything()
    with pytest.raises(InputError, match=r"^raw_data/berlin/b\.csv: row 3: the column date"):
        bucket.ingest(bucket.file("good.csv", GOOD.replace("1,", "4,", 1)))
    assert bucket.everything() == before
    bucket.drop("berlin/b.csv", GOOD.replace("1,", "2,", 1))
    assert bucket.ingest().files == 3


@pytest.mark.parametrize(("compression", "damage"), [("snappy", 200), ("none", 40)])
def test_a_damaged_file_among_many_is_found(bucket, compression, damage):
    """DuckDB names the file if a page cannot be decompressed, but not if values are damaged."""
    rows = pa.table(
        {
            "store_id": [str(number) for number in range(999)],
            "date": [date(2026, 1, 1)] * 999,
            "sales": [1.0] * 999,
        }
    )
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression=compression)
    whole = sink.getvalue()
    start = pq.read_metadata(io.BytesIO(whole)).row_group(0).column(0).data_page_offset + damage
    broken = whole[:start] + b"\xff" * 300 + whole[start + 300 :]
    for number in range(3):
        bucket.drop(f"{number}.parquet", broken if number == 1 else whole)
    with pytest.raises(InputError, match=r"^raw_data/1\.parquet: the Parquet file is damaged"):
        bucket.ingest()


def test_settings_name_the_column_as_the_file_has_it(bucket):
    bucket = bucket.with_settings(sales=Sales(columns={"store_id": "Store"}))
    with pytest.raises(InputError, match=r"the column Store \(our store_id\) is missing"):
        bucket.ingest(bucket.file("a.csv", "shop,date,sales\n1,2026-01-01,5\n"))


def test_a_column_keeps_its_type(bucket):
    bucket.ingest(bucket.file("a.csv", "store_id,date,sales,x,y\n1,2026-01-01,5,1,a\n"))
    before = bucket.everything()
    with pytest.raises(
        InputError, match='row 2: the column x has the value "b", which is not a number'
    ):
        bucket.ingest(bucket.file("b.csv", "store_id,date,sales,x\n1,2026-01-02,5,b\n"))
    with pytest.raises(InputError, match="the column y holds numbers where text is expected"):
        bucket.ingest(
            bucket.file(
                "c.parquet", parquet(store_id=["1"], date=[date(2026, 1, 2)], sales=[1], y=[1.5])
            )
        )
    with pytest.raises(InputError, match="the column X differs from the table's column x"):
        bucket.ingest(bucket.file("d.csv", "store_id,date,sales,X\n1,2026-01-02,5,1\n"))
    bucket = bucket.with_settings(sales=Sales(types={"y": "number"}))
    with pytest.raises(InputError, match="y is number in the settings but text in the table"):
        bucket.ingest(bucket.file("e.csv", "store_id,date,sales,y\n1,2026-01-02,5,1\n"))
    assert bucket.everything() == before


@pytest.mark.parametrize(
    ("kind", "content", "sentence"),
    [
        ("weather", "region,day,temp\nBE,2026-01-01,5\n", "the column date is missing"),
        ("weather", "region,date,temp\n,2026-01-01,5\n", "row 2: the column region is empty"),
        ("weather", "region,date,temp\nBE,2026-01-01,5\nBE,2026-01-01,6\n", "rows 2 and 3 have"),
        ("holidays", "region,date,name\nBE,2026-01-01,x\n", "the column holiday is missing"),
        ("stores", "store_id,name\n1,x\n", "the column region is missing"),
        ("stores", "store_id,region\na/b,x\n", "is not a store id"),
        ("wether", "region,date\n", "^'wether' is not a kind of file"),
    ],
)
def test_bad_context(bucket, kind, content, sentence):
    before = bucket.everything()
    with pytest.raises(InputError, match=sentence):
        bucket.ingest(bucket.file("a.csv", content), kind=kind)
    assert bucket.everything() == before


def test_paths_that_are_no_files(bucket):
    folder = bucket.folder / "empty"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="there is no such file"):
        bucket.ingest(bucket.folder / "missing.csv")
    with pytest.raises(InputError, match="there is no raw file in this directory"):
        bucket.ingest(folder)
    with pytest.raises(InputError, match="--replace"):
        bucket.ingest(replace=True)
    assert bucket.everything() == {}
