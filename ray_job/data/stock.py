"""Empty shelves: days on which a series was not in stock, and so could not sell."""

from __future__ import annotations

import numpy as np

from ray_job.data.panel import Flags, Floats, Floats32


def empty_shelves(sales: Floats, in_stock: Floats32 | None) -> Flags | None:
    """Make the sales of 0 unknown where nothing was in stock: they say nothing about demand.

    `sales` is (n, d) and is changed in place. `in_stock` is (n, d or more): 0 or 1, or the quantity
    on hand, NaN where it is not known; None: it was never delivered. Sales on a day that ended
    without stock stay as they are. Returns the flags (n, d) of these days, None if there are none.
    """
    if in_stock is None:
        return None
    with np.errstate(invalid="ignore"):
        empty: Flags = (in_stock[:, : sales.shape[1]] <= 0) & ((sales == 0) | np.isnan(sales))
    if not empty.any():
        return None
    sales[empty] = np.nan
    return empty
