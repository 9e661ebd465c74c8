"""Answers as CSV."""

from __future__ import annotations

import csv
import io
import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from api.views import formats
from api.views.tables import FORECAST_SCHEMA, forecast_rows
from tests.api.fixtures.bucket import Bucket, StoreSpec
from tests.api.fixtures.serving import serve

BEGINS_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5))
def test_csv_keeps_texts_and_holds_no_formula(texts):
    schema = pa.schema([("text", pa.string()), ("number", pa.float64())])
    data = formats.to_csv([{"text": text, "number": -1.5} for text in texts], schema)
    rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))
    assert rows[0] == ["text", "number"]
    for text, (cell, number) in zip(texts, rows[1:], strict=True):
        expected = text.encode("utf-8", "backslashreplace").decode()
        assert cell.replace("'", "") == expected.replace("'", "")
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        assert number == "-1.5"


@given(
    st.text(st.sampled_from("a1 ,;|\t\r\n\"'=+-@＝"), max_size=12),
    st.sampled_from(["comma", "semicolon", "tab"]),
    st.sampled_from(",;\t|"),
)
def test_no_formula_begins_a_cell_of_a_program_that_separates_otherwise(text, delimiter, other):
    """Such a program may also take quotation marks for plain characters, or lines for cells."""
    schema = pa.schema([("first", pa.string()), ("text", pa.string())])
    data = formats.to_csv(
        [{"first": "x", "text": text}], schema, formats.CsvDialect(delimiter=delimiter)
    )
    for cell in re.split(f"[{other}\r\n]", data.decode("utf-8")):
        assert not BEGINS_FORMULA.match(cell)
        assert not BEGINS_FORMULA.match(cell.lstrip('"'))


def test_delivered_texts_are_no_formulas(tmp_path):
    names = ("=1+1", "+1", "-1", "@x", "\tx", "\rx", 'a"b', "a,b", "a\nb", "ü")
    Bucket.make(tmp_path).publish(
        [
            StoreSpec("1", items=tuple(sorted(names)), reason="=HYPERLINK(1)"),
            StoreSpec("2", description={"size": float("nan")}),
        ]
    )
    with serve(str(tmp_path)) as api:
        rows = list(csv.DictReader(io.StringIO(api.get("/results/1.csv").text, newline="")))
        item_ids = {row["item_id"] for row in rows if row["level"] == "item"}
        escaped = {f"'{name}" if name[0] in "=+-@\t\r" else name for name in names}
        assert item_ids == escaped
        assert {row["reason"] for row in rows} == {"'=HYPERLINK(1)"}
        items = api.get("/v1/stores/1/forecast").json()["items"]
        assert {item["item_id"] for item in items} == set(names)
        selected = api.get("/v1/stores/1/forecast", params={"item_id": "a,b"}).json()["items"]
        assert [item["item_id"] for item in selected] == ["a,b"]
        assert api.get("/v1/stores/2/forecast").json()["description"] == {"size": None}


def test_a_store_without_days_has_one_row():
    answer = dict.fromkeys(FORECAST_SCHEMA.names) | {"days": [], "store_id": "1"}
    (row,) = forecast_rows(answer)
    assert row["store_id"] == "1"
