"""Stores with very many rows: their items in ranges, each of which has an entry of its own.

A chunk with a range of items of such a store fetches the entries that it needs. An entry of a range
has all rows that its files have of these items, and the days of all items of the files, which rules
about the whole store need. Ranges of the same files lie side by side without a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.packs.folding import PackedFile, PackSource, StorePart
from ray_job.data.partition import ITEM

Ints = npt.NDArray[np.int64]

RANGE_ROWS = 131_072
"""A range has at least so many rows. A chunk of a cut store has a million."""


@dataclass(slots=True)
class DaysOfRows:
    """Collects the days of rows with known sales, and with sales above 0, since 1970."""

    delivered: Ints = field(default_factory=lambda: np.array([], np.int64))
    sold: Ints = field(default_factory=lambda: np.array([], np.int64))
    _last_item: str | None = None

    def add(self, rows: pa.Table) -> None:
        """Take the next rows of a store.

        Raises ValueError where they are not sorted by item. All rows are to be taken before one is
        put into a range: a range of items is wrong if any row further on belongs to it.
        """
        self._last_item = _last_of_sorted(rows[ITEM].combine_chunks(), self._last_item)
        days = rows["date"].cast(pa.int32()).to_numpy().astype(np.int64)
        sales = pc.fill_null(rows["sales"], float("nan")).to_numpy()
        self.delivered = np.union1d(self.delivered, days[~np.isnan(sales)])
        self.sold = np.union1d(self.sold, days[sales > 0])


def cut(source: PackSource, range_rows: int) -> Iterator[PackSource]:
    """The source itself, or its ranges of items where it has very many rows."""
    if source.rows.num_rows <= 2 * range_rows:
        yield source
        return
    days = DaysOfRows()
    days.add(source.rows)
    yield from ranges(source.store_id, source.files, [source.rows], days, range_rows)


def ranges(
    store_id: str,
    files: Sequence[PackedFile],
    tables: Iterable[pa.Table],
    days: DaysOfRows,
    range_rows: int,
) -> Iterator[PackSource]:
    """The ranges of the rows of a store, which are sorted by item, one table after the other.

    `days` has taken all of the rows. A range has at least `range_rows` rows.
    """
    first: str | None = None
    held: pa.Table | None = None
    for rows in _pieces(tables, range_rows):
        if held is not None:
            end: str = rows[ITEM][0].as_py()
            yield PackSource(
                store_id, files, held, StorePart(first, end, days.delivered, days.sold)
            )
            first = end
        held = rows
    if held is not None:
        yield PackSource(store_id, files, held, StorePart(first, None, days.delivered, days.sold))


def _pieces(tables: Iterable[pa.Table], range_rows: int) -> Iterator[pa.Table]:
    """The rows in pieces of at least `range_rows`; only the last one may be shorter.

    All rows of an item are in one piece.
    """
    held: list[pa.Table] = []
    held_rows = 0
    last: str | None = None
    for table in tables:
        ids = table[ITEM].combine_chunks()
        if not len(ids):
            continue
        changed = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        begins = np.concatenate([[0], np.flatnonzero(changed) + 1])
        names = ids.take(pa.array(begins)).to_pylist()
        place = 0
        for begin, name in zip(begins.tolist(), names, strict=True):
            if name != last and held_rows + begin - place >= range_rows:
                yield pa.concat_tables([*held, table.slice(place, begin - place)])
                held, held_rows, place = [], 0, begin
            last = name
        held.append(table.slice(place))
        held_rows += table.num_rows - place
    if held:
        yield pa.concat_tables(held)


def _last_of_sorted(ids: pa.Array, before: str | None) -> str | None:
    """The last item, or `before` where there is none. Raises ValueError where one is less."""
    if not len(ids):
        return before
    if ids.null_count:
        raise ValueError("there are rows without an item")
    falls = pc.any(pc.less(ids[1:], ids[:-1])).as_py()
    if falls or (before is not None and ids[0].as_py() < before):
        raise ValueError("the rows are not sorted by item")
    last: str = ids[-1].as_py()
    return last
