"""The days on which a store delivered and sold anything, all its items together.

Rules about a whole store need these days, also in a chunk that has only some of its items. They
follow from the delivered rows, before these are folded: so every chunk of a store has the same
days, however the store is cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_job.bucket.errors import CorruptError
from ray_job.bucket.storage import Storage
from ray_job.data.arrays import plain
from ray_job.data.panel import Flags, Floats, Floats32
from ray_job.data.parquet import WHOLE_BYTES, fetch_row_groups, open_part

Ints = npt.NDArray[np.int64]

_EPOCH = date(1970, 1, 1)
_MOST_DAYS = 100_000
"""Days from 1970 on; a date outside of them is in no window."""


@dataclass(frozen=True, slots=True)
class StoreDays:
    """The days of one store in days since 1970, each sorted.

    `delivered`: some row has known sales. `sold`: some row has sales above 0. `closed`: some row
    says open = 0; empty where `open` was not read.
    """

    delivered: Ints
    sold: Ints
    closed: Ints

    def with_days(self, other: StoreDays | None) -> StoreDays:
        """The days of the files of both."""
        if other is None:
            return self
        return StoreDays(
            np.union1d(self.delivered, other.delivered),
            np.union1d(self.sold, other.sold),
            np.union1d(self.closed, other.closed),
        )


def read_store_days(
    storage: Storage, paths: Sequence[str], sizes: Sequence[int] | None = None
) -> StoreDays:
    """The days of the store that has these files, from their columns date, sales and open.

    `sizes` are those of the files; where they are not known, each file takes a request more.

    Only some row groups are in memory at a time. Raises CorruptError, NotFoundError or
    StorageError.
    """
    flags = np.zeros((3, _MOST_DAYS), dtype=np.bool_)
    for path, size in zip(paths, sizes or itertools.repeat(None), strict=False):
        for days, sales, is_open in _batches(storage, path, size):
            flags[0, days[~np.isnan(sales)]] = True
            flags[1, days[sales > 0]] = True
            flags[2, days[is_open == 0]] = True
    delivered, sold, closed = (np.flatnonzero(row) for row in flags)
    return StoreDays(delivered, sold, closed)


@dataclass(frozen=True, slots=True)
class ChunkDays:
    """`delivered` and `sold`, each (stores, days up to the as-of): see StoreDays."""

    delivered: Flags
    sold: Flags

    @classmethod
    def of_rows(
        cls, stores: Ints, days: Ints, sales: Floats, n_stores: int, n_days: int
    ) -> ChunkDays:
        """The days of stores that have all their rows here.

        A row has the place of its store, its day and its sales; days from `n_days` on are left out.
        """
        delivered, sold = np.zeros((2, n_stores * n_days), dtype=np.bool_)
        cells = stores * n_days + days
        past = days < n_days
        if not past.all():
            cells, sales = cells[past], sales[past]
        delivered[cells[~np.isnan(sales)]] = True
        sold[cells[sales > 0]] = True
        return cls(delivered.reshape(n_stores, n_days), sold.reshape(n_stores, n_days))

    @classmethod
    def of_stores(cls, stores: Sequence[StoreDays], first_day: date, n_days: int) -> ChunkDays:
        """The days of stores of which this chunk has only some items."""
        flags = np.zeros((2, len(stores), n_days), dtype=np.bool_)
        first = (first_day - _EPOCH).days
        for place, store in enumerate(stores):
            for kind, days in enumerate((store.delivered, store.sold)):
                columns = days - first
                flags[kind, place, columns[(columns >= 0) & (columns < n_days)]] = True
        return cls(flags[0], flags[1])

    def add_sold(self, stores: Ints, columns: Ints) -> None:
        """Add days on which stores sold something; columns that are not there are passed over."""
        inside = (columns >= 0) & (columns < self.sold.shape[1])
        self.sold[stores[inside], columns[inside]] = True

    def of_series(self, stores: Ints) -> tuple[ChunkDays, Ints]:
        """The days of the stores of some series, and the row of each series' store in them.

        `stores` has the place of each series' store; it is sorted.
        """
        rows = slice(int(stores[0]), int(stores[-1]) + 1)
        return ChunkDays(self.delivered[rows], self.sold[rows]), stores - stores[0]


@dataclass(frozen=True, slots=True)
class RowMeaning:
    """What a day without a row, or with sales of 0, means.

    `missing_is_zero`: an item without a row sold nothing on a day on which its store delivered
    anything, from the item's first known day on. `undelivered`: on these days sales of 0 were
    filled in ahead; a store that sold nothing on such a day, and is not declared closed, has not
    delivered it.
    """

    missing_is_zero: bool = False
    undelivered: tuple[date, ...] = ()

    def apply(
        self,
        sales: Floats,
        is_open: Floats32 | None,
        days: ChunkDays,
        stores: Ints,
        first_day: date,
    ) -> None:
        """Change `sales` (n, days), NaN where unknown, in place; `stores` are rows of `days`."""
        if self.missing_is_zero:
            unknown = np.isnan(sales)
            begun = np.logical_or.accumulate(~unknown, axis=1)
            sales[unknown & begun & days.delivered[stores]] = 0.0
        for day in self.undelivered:
            column = (day - first_day).days
            if 0 <= column < sales.shape[1]:
                lacks_sales = ~days.sold[stores, column]
                if is_open is not None:
                    lacks_sales &= is_open[:, column] != 0
                sales[lacks_sales, column] = np.nan


READING = RowMeaning()
"""Unknown days stay unknown, and sales of 0 are 0."""


def _batches(
    storage: Storage, key: str, size: int | None
) -> Iterator[tuple[Ints, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Days, sales and open of a file's rows, NaN where a value is null, some row groups each."""
    source = open_part(storage, key, size)
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            has_open = "open" in file.schema_arrow.names
            columns = ["date", "sales", *(["open"] if has_open else [])]
            for groups in _slabs(file):
                fetch_row_groups(source, file, groups)
                table = file.read_row_groups(groups, columns=columns, use_threads=False)
                # The chunk of the store refuses a row without a date.
                table = table.filter(pc.is_valid(table["date"]))
                days = plain(table["date"]).cast(pa.int32()).to_numpy().astype(np.int64)
                inside = (days >= 0) & (days < _MOST_DAYS)
                sales = _floats(table["sales"])
                is_open = _floats(table["open"]) if has_open else np.full(len(days), np.nan)
                yield days[inside], sales[inside], is_open[inside]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise CorruptError(f"{key}: the file cannot be read: {error}") from error


def _slabs(file: pq.ParquetFile) -> Iterator[list[int]]:
    """The row groups of a file, together as long as one request for them is not too large."""
    groups: list[int] = []
    size = 0
    for number in range(file.num_row_groups):
        bytes_of_group = file.metadata.row_group(number).total_byte_size
        if groups and size + bytes_of_group > WHOLE_BYTES:
            yield groups
            size, groups = 0, []
        groups.append(number)
        size += bytes_of_group
    if groups:
        yield groups


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    column = plain(column)
    if not pa.types.is_floating(column.type):
        return np.full(len(column), np.nan)
    values = column.to_numpy()
    return np.asarray(values, dtype=np.float64)
