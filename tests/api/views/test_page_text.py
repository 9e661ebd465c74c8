"""The numbers of the page."""

from __future__ import annotations

import pytest

from api.views.page_text import number


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (3.25, "3.2"), (99.95, "100.0"), (1234567.8, "1,234,568")],
)
def test_numbers_have_few_digits(value, text):
    assert number(value) == text
