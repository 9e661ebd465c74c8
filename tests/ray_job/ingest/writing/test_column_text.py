"""A column of numbers becomes text, if the settings say so."""

import gzip

import pyarrow as pa
import pytest

from ray_job.bucket.errors import InputError
from ray_job.ingest.writing.column_text import number_as_text
from ray_job.settings import Delivery, Sales


@pytest.mark.parametrize(
    ("numbers", "texts"),
    [
        ([0.0, 1.0, -3.0, None], ["0", "1", "-3", None]),
        ([0.5, 1e20], ["0.5", "1e+20"]),
        ([], []),
    ],
)
def test_numbers_are_written_as_people_do(numbers, texts):
    assert number_as_text(pa.array(numbers, pa.float64())).to_pylist() == texts


@pytest.mark.parametrize("name", ["a.csv", "b.csv.gz"])
def test_the_setting_and_the_command_of_the_message_heal_it(bucket, name):
    header = "store_id,date,sales,State Holiday,n\n"
    for store in (1, 2):
        bucket.ingest(bucket.file(f"{store}.csv", f"{header}{store},2026-01-01,5,0,7\n"))
    letters = f"{header}1,2026-01-02,0,a,8\n"
    content = gzip.compress(letters.encode()) if name.endswith("gz") else letters
    path = bucket.file(name, content)
    with pytest.raises(
        InputError,
        match=r'row 2: .*"a".*types = \{ "State Holiday" = "text" \} under \[sales\]'
        r".*`storecast ingest` again",
    ):
        bucket.ingest(path)
    healed = bucket.with_settings(sales=Sales(types={"State Holiday": "text"}))
    healed.ingest(path)
    assert healed.rows("store_id", "date", "State Holiday", "n") == [
        ("1", "2026-01-01", "0", 7.0),
        ("1", "2026-01-02", "a", 8.0),
        ("2", "2026-01-01", "0", 7.0),
    ]
    healed.ingest(healed.file("c.csv", f"{header}1,2026-01-03,0,0,9\n"))
    assert healed.rows("State Holiday")[2] == ("0",)


def test_the_same_in_stores(bucket):
    bucket.ingest(bucket.file("a.csv", "store_id,region,zone\n1,BE,1\n"), kind="stores")
    path = bucket.file("b.csv", "store_id,region,zone\n2,BE,1a\n")
    with pytest.raises(InputError, match=r'types = \{ zone = "text" \} under \[stores\]'):
        bucket.ingest(path, kind="stores")
    healed = bucket.with_settings(stores=Delivery(types={"zone": "text"}))
    healed.ingest(path, kind="stores")
    assert [row["zone"] for row in healed.context("stores")] == ["1", "1a"]


def test_two_files_of_one_ingest(directory):
    header = "store_id,date,sales,x\n"
    files = [
        directory.file("a.csv", f"{header}1,2026-01-01,5,1\n"),
        directory.file("b.csv", f"x,{header}".replace(",x\n", "\n") + "b,1,2026-01-02,5\n"),
    ]
    with pytest.raises(InputError, match=r'b\.csv: row 2: .*types = \{ x = "text" \}'):
        directory.ingest(*files)
    healed = directory.with_settings(sales=Sales(types={"x": "text"}))
    healed.ingest(*files)
    assert healed.rows("x") == [("1",), ("b",)]
