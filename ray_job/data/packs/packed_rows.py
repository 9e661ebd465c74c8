"""The rows that a chunk gets from packs: many stores in one table, with the extent of each."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ray_job.plan import ItemRange

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Folded rows of stores. The entries of a store are in the order of their delivery.

    `table` has the columns date, sales and the requested further ones, entry after entry, each by
    item and date. Numbers that are not known are NaN.
    """

    table: pa.Table
    store_ids: Sequence[str]
    """The store of each entry."""
    entry_rows: Ints
    last_delivered: Ints
    """Of each entry, in µs since 1970."""
    items: Sequence[str]
    """The item of each series of each entry, one entry after the other."""
    item_rows: Ints
    run_rows: Ints
    """Rows of each run: of one item, one delivery and one operation."""
    run_delivered: Ints
    run_adds: npt.NDArray[np.bool_]
    sold_entries: Ints
    """The entry of each of `sold_days`."""
    sold_days: Ints
    """Days since 1970 on which the store sold something that a later row corrected."""

    @property
    def stores(self) -> set[str]:
        return set(self.store_ids)

    def delivered_through(self) -> dict[str, int]:
        """The last time of delivery of each store's rows, in µs since 1970."""
        return dict(zip(self.store_ids, self.last_delivered.tolist(), strict=True))

    def adds(self) -> npt.NDArray[np.bool_]:
        """Whether each row adds to the sales."""
        return np.repeat(self.run_adds, self.run_rows)

    def delivered(self) -> Ints:
        """When each row was delivered, in µs since 1970."""
        return np.repeat(self.run_delivered, self.run_rows)

    def entry_of_items(self) -> Ints:
        """The entry of each of `items`."""
        return np.repeat(np.arange(len(self.entry_rows)), self._counts(self.item_rows))

    def within(self, items: ItemRange) -> PackedRows:
        """The rows of these items only. An entry without such a row is left out."""
        keep = np.array([_is_within(item, items) for item in self.items], np.bool_)
        if keep.all():
            return self
        rows = np.repeat(keep, self.item_rows)
        runs = rows[np.cumsum(self.run_rows) - self.run_rows]
        entries = np.repeat(np.arange(len(self.entry_rows)), self.entry_rows)
        entry_rows = np.bincount(entries[rows], minlength=len(self.entry_rows))
        kept = entry_rows > 0
        of_days = kept[self.sold_entries]
        return PackedRows(
            table=self.table.filter(pa.array(rows)),
            store_ids=list(itertools.compress(self.store_ids, kept)),
            entry_rows=entry_rows[kept],
            last_delivered=self.last_delivered[kept],
            items=list(itertools.compress(self.items, keep)),
            item_rows=self.item_rows[keep],
            run_rows=self.run_rows[runs],
            run_delivered=self.run_delivered[runs],
            run_adds=self.run_adds[runs],
            sold_entries=(np.cumsum(kept) - 1)[self.sold_entries[of_days]],
            sold_days=self.sold_days[of_days],
        )

    def without(self, stores: Collection[str]) -> PackedRows:
        """The rows of all other stores."""
        if not stores:
            return self
        keep = np.array([store not in stores for store in self.store_ids], np.bool_)
        of_items = np.repeat(keep, self._counts(self.item_rows))
        of_runs = np.repeat(keep, self._counts(self.run_rows))
        rows = np.repeat(keep, self.entry_rows)
        of_days = keep[self.sold_entries]
        return PackedRows(
            table=self.table.filter(pa.array(rows)),
            store_ids=[store for store, kept in zip(self.store_ids, keep, strict=True) if kept],
            entry_rows=self.entry_rows[keep],
            last_delivered=self.last_delivered[keep],
            items=[item for item, kept in zip(self.items, of_items, strict=True) if kept],
            item_rows=self.item_rows[of_items],
            run_rows=self.run_rows[of_runs],
            run_delivered=self.run_delivered[of_runs],
            run_adds=self.run_adds[of_runs],
            sold_entries=(np.cumsum(keep) - 1)[self.sold_entries[of_days]],
            sold_days=self.sold_days[of_days],
        )

    def _counts(self, part_rows: Ints) -> Ints:
        """How many parts (items or runs) each entry has."""
        ends = np.searchsorted(np.cumsum(part_rows), np.cumsum(self.entry_rows)) + 1
        return np.diff(ends, prepend=0)


def _is_within(item: str, items: ItemRange) -> bool:
    after = items.first is None or item >= items.first
    return after and (items.end is None or item < items.end)
