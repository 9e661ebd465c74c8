"""The dense panel: a chunk's history as arrays of series × days.

Every array is C-contiguous by series (a row is one series), so that a computation along the days
gives the same bits whether the chunk holds one series or ten thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Texts = npt.NDArray[np.object_]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StoreSold:
    """On which days stores sold anything, all their items together.

    `sold` is (s, d), for d days; `rows` is (n,): the row in it of each series' store. The store may
    have items that are not among the n series.
    """

    sold: Flags
    rows: npt.NDArray[np.int64]

    def days(self, columns: slice) -> StoreSold:
        return StoreSold(self.sold[:, columns], self.rows)


@dataclass(frozen=True, slots=True)
class Panel:
    """Histories of n series over consecutive days.

    `sales` has shape (n, d): its columns are the days from `first_day` to `last_day`; NaN where
    nothing is known. `known_ahead` holds arrays of shape (n, d + k): the same days and k more, the
    target dates. Text columns are codes: the value's place in the model's category list, NaN where
    the value is missing or not in it.
    """

    store_ids: Texts
    item_ids: Texts
    first_day: date
    sales: Floats
    known_ahead: Mapping[str, Floats32]
    delivered: npt.NDArray[np.int64] | None = None
    """(n,): how many columns there are up to the last day whose sales were delivered, 0 if none.

    Days that were declared closed are known without that. None where the panel was cut from another
    one, which is never asked how old its data are.
    """
    stores: StoreSold | None = None
    """None: a store has no items beside those of the panel."""
    without_stock: Flags | None = None
    """(n, d): days on which a series was not in stock, so that it could not sell. None: no day.

    Their sales are NaN. They are no sign that a series is not sold any more.
    """

    @property
    def n_series(self) -> int:
        return int(self.sales.shape[0])

    @property
    def last_day(self) -> date:
        return self.first_day + timedelta(days=int(self.sales.shape[1]) - 1)

    def store_sold(self) -> StoreSold:
        """On which days of the panel the stores of the series sold anything."""
        if self.stores is not None:
            return self.stores
        names, rows = np.unique(self.store_ids.astype(np.str_), return_inverse=True)
        sold = np.zeros((len(names), self.sales.shape[1]), dtype=np.bool_)
        np.logical_or.at(sold, rows, self.sales > 0)
        return StoreSold(sold, rows)

    def column(self, day: date) -> int:
        """The column of `day`; it may lie outside of the panel."""
        return (day - self.first_day).days

    def until(self, as_of: date, target_date: date | None = None) -> Panel:
        """The panel as it was known at the end of `as_of`: views, nothing is copied.

        `known_ahead` reaches to `target_date` (by default as far as it does now), everything else
        ends with `as_of`. What is not in the result cannot leak.
        """
        days = self.column(as_of) + 1
        ahead = None if target_date is None else self.column(target_date) + 1
        return Panel(
            store_ids=self.store_ids,
            item_ids=self.item_ids,
            first_day=self.first_day,
            sales=self.sales[:, :days],
            known_ahead={name: values[:, :ahead] for name, values in self.known_ahead.items()},
            stores=None if self.stores is None else self.stores.days(slice(days)),
            without_stock=_columns(self.without_stock, slice(days)),
        )

    def window(self, as_of: date, days: int, ahead: int) -> Panel:
        """`until(as_of)` with at most the last `days` days, and known-ahead for `ahead` more."""
        known = self.until(as_of, as_of + timedelta(days=ahead))
        first = max(0, known.sales.shape[1] - days)
        return Panel(
            store_ids=self.store_ids,
            item_ids=self.item_ids,
            first_day=self.first_day + timedelta(days=first),
            sales=known.sales[:, first:],
            known_ahead={name: values[:, first:] for name, values in known.known_ahead.items()},
            stores=None if known.stores is None else known.stores.days(slice(first, None)),
            without_stock=_columns(known.without_stock, slice(first, None)),
        )

    def take(self, series: npt.NDArray[np.int64]) -> Panel:
        """The panel of the chosen series, in the order of `series`; copies."""
        sold = self.store_sold()
        return Panel(
            store_ids=self.store_ids[series],
            item_ids=self.item_ids[series],
            first_day=self.first_day,
            sales=self.sales[series],
            known_ahead={name: values[series] for name, values in self.known_ahead.items()},
            stores=StoreSold(sold.sold, sold.rows[series]),
            without_stock=None if self.without_stock is None else self.without_stock[series],
        )


def _columns(flags: Flags | None, columns: slice) -> Flags | None:
    return None if flags is None else flags[:, columns]
