"""Reading partitions: one store's files as they were delivered, in the order of their delivery.

A stored row says what was delivered for a (item, date), when (`delivered_at`) and how (`op`). In
most files one or more of these three are the same in every row. Such a file says so in its footer,
so that nobody has to decode them: that is a third of the work of reading a small one.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_job.bucket.errors import CorruptError, InputError
from ray_job.bucket.storage import Storage
from ray_job.data.parquet import RangedFile, fetch_row_groups, open_part
from ray_job.plan import ItemRange, RowGroup

ITEM, DELIVERED, OP = "item_id", "delivered_at", "op"
_ABOUT_ROWS = {ITEM: pa.string(), DELIVERED: pa.timestamp("us", "UTC"), OP: pa.string()}
REQUIRED = (ITEM, "date", "sales", DELIVERED, OP)
_FITS: Mapping[str, Callable[[pa.DataType], bool]] = {
    ITEM: pa.types.is_string,
    "date": pa.types.is_date32,
    "sales": lambda kind: pa.types.is_floating(kind) or pa.types.is_integer(kind),
}
_FOOTER_KEY = b"storecast.constant"
_TWO = 2


@dataclass(frozen=True, slots=True)
class Columns:
    """Which further columns a panel gets, and the values that codes stand for in those of text."""

    known_ahead: tuple[str, ...] = ()
    observed: tuple[str, ...] = ()
    categories: Mapping[str, Sequence[str]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.known_ahead, *self.observed)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file, or of several.

    `table` has the columns date, sales and those that were asked for, and of item_id, delivered_at
    and op those that `constant` does not have. A constant delivered_at is in µs since 1970.
    """

    table: pa.Table
    constant: Mapping[str, Any] = field(default_factory=dict)

    def whole(self) -> pa.Table:
        """All columns, constants repeated."""
        table = self.table
        for name, value in self.constant.items():
            repeated = pa.repeat(pa.scalar(value), table.num_rows).cast(_ABOUT_ROWS[name])
            table = table.append_column(name, repeated)
        return table


@dataclass(slots=True)
class Constants:
    """Finds out which of item_id, delivered_at and op are the same in all rows of a file."""

    rows: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    """Of the columns that had one value so far; all three, once there was a row."""
    varying: set[str] = field(default_factory=set)

    def add(self, rows: pa.RecordBatch) -> None:
        if not rows.num_rows:
            return
        self.rows += rows.num_rows
        for name in _ABOUT_ROWS:
            if name not in self.varying:
                column = rows.column(name)
                first = column[0]
                value = first.value if name == DELIVERED else first.as_py()
                same = column.null_count == 0 and pc.all(pc.equal(column, first)).as_py()
                if not same or self.values.setdefault(name, value) != value:
                    self.varying.add(name)

    def footer(self) -> dict[bytes, bytes]:
        """What the file's footer is to say.

        The text is preceded by its CRC-32, as Parquet's checksums do not cover a footer. It names
        the number of rows, since who adds or takes out rows with Arrow copies the text along.
        """
        constant = {name: one for name, one in self.values.items() if name not in self.varying}
        told = json.dumps({"rows": self.rows, "constant": constant}).encode()
        return {_FOOTER_KEY: b"%08x %b" % (zlib.crc32(told), told)}


def _constant(footer: pq.FileMetaData, key: str) -> dict[str, Any]:
    """What the footer tells; nothing where it was written of other rows than there are."""
    told = (footer.metadata or {}).get(_FOOTER_KEY)
    if told is None:
        return {}
    checksum, _, text = told.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise CorruptError(f"{key}: the file cannot be read: its footer is damaged")
    found = json.loads(text)
    constant: dict[str, Any] = found["constant"] if found.get("rows") == footer.num_rows else {}
    return constant


def row_groups(storage: Storage, key: str) -> list[RowGroup]:
    """The row groups of a file, from its footer.

    Raises CorruptError, NotFoundError or StorageError.
    """
    try:
        with pq.ParquetFile(open_part(storage, key)) as file:
            column = file.schema_arrow.get_field_index("item_id")
            groups = [file.metadata.row_group(k) for k in range(file.num_row_groups)]
            return [RowGroup(one.column(column).statistics.min, one.num_rows) for one in groups]
    except (pa.ArrowException, OSError, AttributeError) as error:
        raise CorruptError(f"{key}: the file cannot be read: {_first_line(error)}") from error


def read_store(
    storage: Storage, paths: Sequence[str], columns: Columns, items: ItemRange | None = None
) -> list[Rows]:
    """One store's rows, file by file, in order of delivery: later rows win.

    Raises CorruptError for bytes that are not a partition, InputError where a column is missing
    or of another type than expected, NotFoundError where a file is gone.
    """
    read = [_read_file(storage, path, columns, items) for path in paths]
    read = [rows for rows in read if rows.table.num_rows]
    return read if len(read) < _TWO else _in_order(read)


def _in_order(files: list[Rows]) -> list[Rows]:
    spans = [_span(rows) for rows in files]
    order = sorted(range(len(files)), key=lambda k: spans[k])
    if all(spans[a][1] <= spans[b][0] for a, b in itertools.pairwise(order)):
        return [files[k] for k in order]
    names = files[0].whole().column_names
    whole = pa.concat_tables(files[k].whole().select(names) for k in order)
    return [Rows(whole.sort_by(DELIVERED))]


def _span(rows: Rows) -> tuple[int, int]:
    """When the first and the last of them was delivered, in µs."""
    if DELIVERED in rows.constant:
        return rows.constant[DELIVERED], rows.constant[DELIVERED]
    found = pc.min_max(rows.table[DELIVERED].cast(pa.int64())).as_py()
    return found["min"], found["max"]


def _read_file(storage: Storage, key: str, columns: Columns, items: ItemRange | None) -> Rows:
    if items is None:
        return _decode(pa.BufferReader(storage.read(key)), key, columns, None)
    try:
        return _decode(open_part(storage, key), key, columns, items)
    except CorruptError:
        # A range has no checksum of the storage's: what was damaged on its way is right now.
        return _decode(open_part(storage, key), key, columns, items)


def _decode(
    source: pa.BufferReader | RangedFile, key: str, columns: Columns, items: ItemRange | None
) -> Rows:
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            constant = _constant(file.metadata, key)
            wanted = [name for name in REQUIRED if name not in constant]
            groups = list(range(file.num_row_groups))
            if items is not None:
                groups = _overlapping(file, items)
                fetch_row_groups(source, file, groups)
            table = file.read_row_groups(
                groups, columns=[*wanted, *columns.names], use_threads=False
            )
    except (pa.ArrowException, OSError) as error:
        raise CorruptError(f"{key}: the file cannot be read: {_first_line(error)}") from error
    there = table.column_names
    if missing := [name for name in wanted if name not in there]:
        raise InputError(f"{key}: the column {missing[0]!r} is missing")
    _check_types(table, key)
    for name in columns.names:
        if name not in there:
            is_text = name in (columns.categories or {})
            nulls = pa.nulls(table.num_rows, pa.string() if is_text else pa.float64())
            table = table.append_column(name, nulls)
    rows = Rows(table, constant)
    return rows if items is None else _within(rows, items)


def _check_types(table: pa.Table, key: str) -> None:
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if name in _FITS and not _FITS[name](kind):
            raise InputError(f"{key}: column {name!r} is of type {kind}")


def _overlapping(file: pq.ParquetFile, items: ItemRange) -> list[int]:
    column = file.schema_arrow.get_field_index("item_id")
    wanted = []
    for k in range(file.num_row_groups):
        found = file.metadata.row_group(k).column(column).statistics
        before = items.end is not None and found.min >= items.end
        after = items.first is not None and found.max < items.first
        if not before and not after:
            wanted.append(k)
    return wanted


def _within(rows: Rows, items: ItemRange) -> Rows:
    if ITEM in rows.constant:
        item = rows.constant[ITEM]
        after = items.first is None or item >= items.first
        inside = after and (items.end is None or item < items.end)
        return rows if inside else Rows(rows.table.slice(0, 0), rows.constant)
    ids = rows.table[ITEM]
    mask = pa.chunked_array([pa.array(np.ones(len(ids), dtype=np.bool_))])
    if items.first is not None:
        mask = pc.and_(mask, pc.greater_equal(ids, items.first))
    if items.end is not None:
        mask = pc.and_(mask, pc.less(ids, items.end))
    return Rows(rows.table.filter(mask), rows.constant)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
