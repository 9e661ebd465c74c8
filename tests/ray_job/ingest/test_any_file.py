"""Whatever one file holds, it is that file's fault: one sentence, and the others come in."""

import gzip
import io
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import open_bucket
from ray_job.ingest import attempt
from ray_job.settings import Sales, Settings
from tests.support.delivery_bucket import DeliveryBucket

GOOD = "store_id,date,sales\n1,2026-01-01,5\n"
NAMES = [
    "rowid",
    "file_index",
    "filename",
    "file_row_number",
    "__file",
    "__moment",
    "__problem",
    "__delivered",
    "__index",
    "hash",
    "r",
    "row",
    "h",
    "store",
    "v_sales",
    "t_sales",
    "__dots_sales",
    "deliveries",
    "year(date)",
    "select",
    "null",
    "true",
    "date_",
    "item",
]


@pytest.mark.parametrize(
    "name", [*NAMES, "ROWID", "File_Index", 'a"b', "a'b", "a b", "%s", "ä", "🙂"]
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_may_have_any_name(directory, name, ending):
    if ending == "csv":
        quoted = '"' + name.replace('"', '""') + '"'
        content = f"{quoted},store_id,date,sales\n501,1,2026-01-01,5\n502,1,2026-01-02,6\n"
    else:
        sink = io.BytesIO()
        days = [date(2026, 1, 1), date(2026, 1, 2)]
        columns = {name: [501.0, 502.0], "store_id": ["1", "1"], "date": days, "sales": [5, 6]}
        pq.write_table(pa.table(columns), sink)
        content = sink.getvalue()
    directory.drop(f"good.{ending}", content)
    directory.drop("other.csv", GOOD.replace("1,", "2,", 1))
    assert directory.ingest().files == 2
    assert directory.rows("store_id", name) == [("1", 501.0), ("1", 502.0), ("2", None)]


def test_such_names_in_weather_and_in_transactions(directory):
    header = ",".join(f'"{name}"' for name in NAMES)
    values = ",".join(map(str, range(len(NAMES))))
    directory.ingest(
        directory.file("w.csv", f"region,date,{header}\nBE,2026-01-01,{values}\n"), kind="weather"
    )
    [row] = directory.context("weather")
    assert [row[name] for name in NAMES] == list(range(len(NAMES)))
    tills = directory.with_settings(sales=Sales(rows="transactions"))
    tills.ingest(tills.file("a.csv", f"store_id,date,sales,{header}\n1,2026-01-01,5,{values}\n"))
    assert tills.rows(*NAMES) == [tuple(map(float, range(len(NAMES))))]


def fresh(path):
    (path / "bucket").mkdir(parents=True)
    return DeliveryBucket(open_bucket(str(path / "bucket")), Settings(), path / "local")


TEXTS = st.one_of(
    st.binary(max_size=300),
    st.text(alphabet='store_id,date;sales\n\r"12026-.\0 \t\u20ac', max_size=200).map(str.encode),
    st.text(alphabet='0123456789,.-;\n\r" atZ:+', max_size=200).map(
        lambda t: GOOD.encode() + t.encode()
    ),
    st.builds(
        lambda at, data: GOOD.encode()[:at] + data + GOOD.encode()[at:],
        st.integers(0, len(GOOD)),
        st.binary(max_size=40),
    ),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(TEXTS, st.sampled_from(["csv", "csv.gz", "parquet"]), st.booleans())
def test_any_bytes_give_one_sentence_and_the_night_goes_on(
    tmp_path_factory, content, ending, is_compressed
):
    bucket = fresh(tmp_path_factory.mktemp("any"))
    bucket.drop("a.csv", "store_id,date,sales\n2,2026-01-01,7\n")
    data = gzip.compress(content) if is_compressed and ending == "csv.gz" else content
    bucket.drop(f"any.{ending}", data)
    report = bucket.ingest(leave_out_bad=True)
    assert {bad.key for bad in report.bad} <= {f"raw_data/any.{ending}"}
    assert all("\n" not in bad.reason and len(bad.reason) < 1_100 for bad in report.bad)
    assert ("2", "2026-01-01", 7.0) in bucket.rows("store_id", "date", "sales")


def test_an_error_that_nobody_foresaw_is_the_problem_of_its_file(directory, monkeypatch):
    read = attempt.read_batch

    def fail(workspace, settings_, files, *rest):
        if any(file.key.endswith("odd.csv") for file in files):
            raise ZeroDivisionError("no such thing\nsecond line")
        return read(workspace, settings_, files, *rest)

    monkeypatch.setattr(attempt, "read_batch", fail)
    directory.drop("odd.csv", GOOD)
    directory.drop("good.csv", GOOD.replace("1,", "2,", 1))
    with pytest.raises(InputError, match=r"odd\.csv: the file cannot be read \(ZeroDivisionError"):
        directory.ingest()
    report = directory.ingest(leave_out_bad=True)
    assert [bad.key for bad in report.bad] == ["raw_data/odd.csv"]
    assert directory.rows("store_id") == [("2",)]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_parts_with_a_header_only_are_nothing(directory, number):
    for part in range(number):
        directory.drop(f"part-{part}.csv", "store_id,date,sales\n")
    directory.drop("empty.parquet", empty_parquet())
    assert directory.ingest().rows == 0
    directory.drop("part-9.csv", GOOD)
    directory.drop("part-8.csv.gz", gzip.compress(b"store_id,date,sales\n\n"))
    assert directory.ingest().rows == 1
    assert directory.rows("store_id") == [("1",)]


def empty_parquet():
    sink = io.BytesIO()
    pq.write_table(pa.table({"store_id": pa.array([], pa.string()), "date": [], "sales": []}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_a_folder_of_partitions_is_ingested_as_it_lies(directory, ending):
    for store in ("11", "12", "a b"):
        for day in (1, 2):
            if ending == "parquet":
                sink = io.BytesIO()
                pq.write_table(pa.table({"sales": [float(day)]}), sink)
                content = sink.getvalue()
            else:
                content = f"sales\n{day}\n".encode()
                content = gzip.compress(content) if ending == "csv.gz" else content
            name = store.replace(" ", "%20")
            directory.file(f"chain/store_id={name}/date=2026-01-0{day}/part-0.{ending}", content)
    directory.file("chain/_SUCCESS", "")
    directory.file("chain/store_id=11/.part.crc", "x")
    bucket = directory.with_settings(sales=Sales(store_ids="encode"))
    report = bucket.ingest(bucket.folder / "chain")
    assert (report.files, report.rows, report.stores) == (6, 6, 3)
    assert bucket.rows("store_id", "date", "sales")[:2] == [
        ("11", "2026-01-01", 1.0),
        ("11", "2026-01-02", 2.0),
    ]
    assert bucket.ingest(bucket.folder / "chain").files == 0


def test_folders_of_raw_data_and_mapped_headers(directory):
    bucket = directory.with_settings(sales=Sales(columns={"store_id": "shop"}))
    for shop in (1, 2):
        bucket.drop(f"export/year=2026/shop={shop}/x.csv", "date,sales\n2026-01-01,5\n")
    bucket.ingest()
    assert bucket.rows("store_id", "sales") == [("1", 5.0), ("2", 5.0)]
    assert "year" not in bucket.history().schema.names
    bucket.drop("export/shop=%2F/x.csv", "date,sales\n2026-01-02,5\n")
    with pytest.raises(InputError, match=r"shop=%2F/x\.csv: row 2: .*is not a store id"):
        bucket.ingest()
