"""Empty shelves: a sale of 0 without stock is unknown, and nothing else is."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ray_job.data.stock import empty_shelves

NAN = float("nan")
SHAPE = (3, 6)
sales_of_days = arrays.arrays(np.float64, SHAPE, elements=st.sampled_from([NAN, 0.0, -1.0, 3.0]))
stock_of_days = arrays.arrays(np.float32, SHAPE, elements=st.sampled_from([NAN, 0.0, -2.0, 1, 40]))


def test_zeros_without_stock_are_unknown():
    sales = np.array([[0.0, 0.0, 5.0, NAN, 0.0, 0.0]])
    stock = np.array([[0.0, 7.0, 0.0, 0.0, NAN, -1.0, 0.0]], dtype=np.float32)
    flags = empty_shelves(sales, stock)
    np.testing.assert_array_equal(sales, [[NAN, 0.0, 5.0, NAN, 0.0, NAN]])
    np.testing.assert_array_equal(flags, [[True, False, False, True, False, True]])


def test_without_the_column_nothing_changes():
    sales = np.zeros(SHAPE)
    assert empty_shelves(sales, None) is None
    assert (sales == 0).all()


@given(sales_of_days, stock_of_days)
def test_only_zeros_change_and_only_without_stock(sales, stock):
    before = sales.copy()
    flags = empty_shelves(sales, stock)
    changed = ~np.isnan(before) & np.isnan(sales)
    np.testing.assert_array_equal(changed, (before == 0) & (stock <= 0))
    np.testing.assert_array_equal(sales[~changed], before[~changed])
    if flags is not None:
        assert (flags >= changed).all()
        assert (stock[flags] <= 0).all()
