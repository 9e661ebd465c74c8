"""Tokens of pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.problems import InvalidError
from api.routes.page_tokens import PageToken, decode


@given(st.text(max_size=30))
def test_a_forged_page_token_is_refused(text):
    try:
        token = decode(text, "stores")
    except InvalidError:
        return
    assert token == decode(token.encode(), "stores")


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**53 - 1))
def test_a_page_token_is_decoded(list_name, release, position):
    token = PageToken(list_name, release, position)
    assert decode(token.encode(), list_name) == token
    with pytest.raises(InvalidError):
        decode(token.encode(), f"{list_name}x")
