from __future__ import annotations

import contextlib
import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import formats, paging
from api.flat import FORECAST, of_forecast
from api.memory import matches
from api.problems import InvalidError, NotAcceptableError
from tests.api.bucket import Bucket, StoreSpec
from tests.api.serving import serve

ALL = ("json", "csv", "parquet")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("TEXT/CSV", "csv"),
        ("text/csv; charset=utf-8", "csv"),
        ("text/*", "csv"),
        ("application/*", "json"),
        ("application/vnd.apache.parquet, */*;q=0.1", "parquet"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),
        ("application/json;q=0.5, text/csv;q=0.6", "csv"),
        ("application/json;q=0, */*", "csv"),
        ("text/csv;q=0, text/*", None),
        ("image/png", None),
        ("application/json;q=0", None),
        ("application/json;q=x", None),
        (",,;", None),
    ],
)
def test_the_best_format_that_is_offered(accept, expected):
    if expected is None:
        with pytest.raises(NotAcceptableError):
            formats.negotiate(accept, ALL)
    else:
        assert formats.negotiate(accept, ALL) == expected


@given(st.text(max_size=60))
def test_no_accept_header_is_too_strange(accept):
    with contextlib.suppress(NotAcceptableError):
        assert formats.negotiate(accept, ALL) in ALL


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5))
def test_csv_cells_come_back_and_none_is_a_formula(texts):
    schema = pa.schema([("text", pa.string()), ("number", pa.float64())])
    data = formats.to_csv([{"text": text, "number": -1.5} for text in texts], schema)
    rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))
    assert rows[0] == ["text", "number"]
    for text, (cell, number) in zip(texts, rows[1:], strict=True):
        expected = text.encode("utf-8", "backslashreplace").decode()
        assert cell in (expected, f"'{expected}")
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert number == "-1.5"


@given(st.text(max_size=30))
def test_a_forged_page_token_is_refused(text):
    try:
        found = paging.decode(text, "stores")
    except InvalidError:
        return
    assert found == paging.decode(found.encode(), "stores")


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**53 - 1))
def test_a_page_token_comes_back(of, release, position):
    token = paging.PageToken(of, release, position)
    assert paging.decode(token.encode(), of) == token
    with pytest.raises(InvalidError):
        paging.decode(token.encode(), f"{of}x")


@pytest.mark.parametrize(
    ("header", "is_same"),
    [(b'"a"', True), (b'W/"a"', True), (b'"b", "a"', True), (b"*", True), (b'"b"', False),
     (b"", False), (b"a", False)],
)  # fmt: skip
def test_if_none_match(header, is_same):
    assert matches(header, b'"a"') is is_same


def test_what_was_delivered_is_no_formula(tmp_path):
    names = ("=1+1", "+1", "-1", "@x", "\tx", "\rx", 'a"b', "a,b", "a\nb", "ü")
    Bucket.make(tmp_path).publish(
        [
            StoreSpec("1", items=tuple(sorted(names)), reason="=HYPERLINK(1)"),
            StoreSpec("2", description={"size": float("nan")}),
        ]
    )
    with serve(str(tmp_path)) as served:
        rows = list(csv.DictReader(io.StringIO(served.get("/results/1.csv").text, newline="")))
        shown = {row["item_id"] for row in rows if row["level"] == "item"}
        escaped = {f"'{name}" if name[0] in "=+-@\t\r" else name for name in names}
        assert shown == escaped
        assert {row["reason"] for row in rows} == {"'=HYPERLINK(1)"}
        items = served.get("/v1/stores/1/forecast").json()["items"]
        assert {item["item_id"] for item in items} == set(names)
        found = served.get("/v1/stores/1/forecast", params={"item_id": "a,b"}).json()["items"]
        assert [item["item_id"] for item in found] == ["a,b"]
        assert served.get("/v1/stores/2/forecast").json()["description"] == {"size": None}


def test_a_row_of_every_column():
    answer = dict.fromkeys(FORECAST.names) | {"days": [], "store_id": "1"}
    (row,) = of_forecast(answer)
    assert row["store_id"] == "1"
