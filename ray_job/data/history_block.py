"""Histories of several chunks as one Arrow table: what a block of Ray Data holds.

The rows of the table are delivered rows, file after file, as `partition.read_store` returns them.
The schema's metadata has the extent of each file in the table, its store and its constant columns,
and the stores that could not be read. So a block is self-contained, and `decode` gives back what
was encoded without copying the rows.
"""

from __future__ import annotations

import itertools
import pickle
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from ray_job.bucket.errors import CorruptError
from ray_job.bucket.reasons import ReasonCode
from ray_job.data.packs.packed_rows import PackedRows
from ray_job.data.partition import ROW_COLUMNS, FileRows
from ray_job.data.store_days import StoreDays

StoreHistory = tuple[str, Sequence[FileRows]]
"""A store id, and the rows of its files in the order of delivery."""

_METADATA_KEY = b"storecast.histories"
_NO_ROWS = pa.table({"date": pa.array([], pa.date32())})


@dataclass(frozen=True, slots=True)
class UnreadStore:
    """A store whose files cannot be read, and why."""

    store_id: str
    reason_code: ReasonCode
    reason: str


@dataclass(frozen=True, slots=True)
class ChunkHistories:
    """The histories of a chunk's stores, sorted by store, and the stores that cannot be read.

    `seconds` and `cpu_seconds` are what reading took. `error` is set where the chunk could not be
    read as a whole, for example for want of memory; there are no histories then. `store_days` has
    the days of each store of a chunk with a range of items; it is None for other chunks. `packed`
    has those rows of the stores that came from packs; they were delivered before the others.
    """

    digest: str
    histories: Sequence[StoreHistory]
    unread: Sequence[UnreadStore] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    error: str | None = None
    store_days: Mapping[str, StoreDays] | None = None
    packed: PackedRows | None = None

    def of_stores(self, places: slice) -> ChunkHistories:
        """The histories of some of the stores only, by their places in `histories`."""
        histories = self.histories[places]
        packed = self.packed
        if packed is not None:
            kept = {store for store, _ in histories}
            packed = packed.without(packed.stores - kept)
        return replace(self, histories=histories, packed=packed)


@dataclass(frozen=True, slots=True)
class _ChunkExtent:
    """What the metadata has of a chunk; of each store's files the number of rows, and constants."""

    digest: str
    stores: list[tuple[str, list[tuple[int, dict[str, object]]]]] = field(default_factory=list)
    unread: list[UnreadStore] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    error: str | None = None
    store_days: Mapping[str, StoreDays] | None = None
    packed: PackedRows | None = None
    """Without its rows."""


def encode(chunks: Sequence[ChunkHistories]) -> pa.Table:
    """One table of all rows of the chunks, in their order.

    A block without any row gets one row of nulls, since Ray Data drops empty blocks.
    """
    tables = list(itertools.chain.from_iterable(_tables(chunk) for chunk in chunks))
    table = _concatenated(tables) if tables else _NO_ROWS
    if not table.num_rows:
        nulls = [pa.nulls(1, column.type) for column in table.schema]
        table = pa.table(nulls, schema=table.schema)
    extents = [
        _ChunkExtent(
            chunk.digest,
            [
                (store, [(rows.table.num_rows, dict(rows.constant)) for rows in of_store])
                for store, of_store in chunk.histories
            ],
            list(chunk.unread),
            chunk.seconds,
            chunk.cpu_seconds,
            chunk.error,
            chunk.store_days,
            None if chunk.packed is None else replace(chunk.packed, table=_NO_ROWS),
        )
        for chunk in chunks
    ]
    return table.replace_schema_metadata({_METADATA_KEY: pickle.dumps(extents)})


def decode(table: pa.Table) -> Iterator[ChunkHistories]:
    """The chunks that `encode` made the table of, in their order. Raises CorruptError."""
    metadata = (table.schema.metadata or {}).get(_METADATA_KEY)
    if metadata is None:
        raise CorruptError("the block has no metadata of histories")
    extents: list[_ChunkExtent] = pickle.loads(metadata)  # noqa: S301 - made by `encode`
    pieces = _split(table, [count for extent in extents for count in _counts(extent)])
    for extent in extents:
        packed = extent.packed
        if packed is not None:
            packed = replace(packed, table=next(pieces))
        histories = [
            (store, [FileRows(next(pieces), constant) for _, constant in files])
            for store, files in extent.stores
        ]
        yield ChunkHistories(
            extent.digest,
            histories,
            extent.unread,
            extent.seconds,
            extent.cpu_seconds,
            extent.error,
            extent.store_days,
            packed,
        )


def _tables(chunk: ChunkHistories) -> Iterator[pa.Table]:
    if chunk.packed is not None:
        yield chunk.packed.table
    for _, files in chunk.histories:
        for rows in files:
            yield rows.table


def _counts(extent: _ChunkExtent) -> Iterator[int]:
    """The rows of each table that `_tables` gave for the chunk."""
    if extent.packed is not None:
        yield int(extent.packed.entry_rows.sum())
    for _, files in extent.stores:
        for count, _ in files:
            yield count


def _split(table: pa.Table, counts: Sequence[int]) -> Iterator[pa.Table]:
    """The rows of `table` in tables of so many rows each, in its order; nothing is copied.

    The columns of `table` may be in any pieces. To slice a table of many pieces takes long, so the
    pieces are taken one after the other.
    """
    batches = deque(table.to_batches())
    for count in counts:
        pieces = []
        missing = count
        while missing:
            batch = batches.popleft()
            if batch.num_rows > missing:
                batches.appendleft(batch.slice(missing))
                batch = batch.slice(0, missing)
            pieces.append(batch)
            missing -= batch.num_rows
        yield pa.Table.from_batches(pieces, schema=table.schema)


def _concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all tables; nothing is copied."""
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid:
        return pa.concat_tables(_with_equal_columns(tables))


def _with_equal_columns(given: Sequence[pa.Table]) -> list[pa.Table]:
    """The tables with the columns of all of them; a column that is constant is null."""
    columns = list({name: None for table in given for name in table.column_names})
    tables = []
    for original in given:
        table = original
        for name in columns:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows, ROW_COLUMNS[name]))
        tables.append(table.select(columns))
    return tables
