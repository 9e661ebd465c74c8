"""Which format and encoding a caller gets."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.problems import NotAcceptableError
from api.transport.negotiation import accepts_gzip, negotiate, quality_values

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
def test_the_best_offered_format(accept, expected):
    if expected is None:
        with pytest.raises(NotAcceptableError):
            negotiate(accept, ALL)
    else:
        assert negotiate(accept, ALL) == expected


@given(st.text(max_size=60))
def test_every_text_is_an_accept_header(accept):
    with contextlib.suppress(NotAcceptableError):
        assert negotiate(accept, ALL) in ALL


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP;q=0.1", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("gzip;q=x", False),
    ],
)
def test_who_accepts_gzip(accept_encoding, expected):
    assert accepts_gzip(accept_encoding) is expected


@given(st.text(max_size=60))
def test_qualities_are_between_0_and_1(header):
    assert all(0 <= quality <= 1 for quality in quality_values(header).values())
