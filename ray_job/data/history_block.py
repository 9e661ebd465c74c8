"""Histories of several chunks as one Arrow table: what a block of Ray Data holds.

The rows of the table are delivered rows, file after file, as `partition.read_store` returns them.
The schema's metadata has the extent of each file in the table, its store and its constant columns,
and the stores that could not be read. So a block is self-contained, and `decode` gives back what
was encoded without copying the rows.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from ray_job.bucket.errors import CorruptError
from ray_job.bucket.reasons import ReasonCode
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
    the days of each store of a chunk with a range of items; it is None for other chunks.
    """

    digest: str
    histories: Sequence[StoreHistory]
    unread: Sequence[UnreadStore] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    error: str | None = None
    store_days: Mapping[str, StoreDays] | None = None


@dataclass(frozen=True, slots=True)
class _ChunkExtent:
    """What the metadata has of a chunk; `files` are (store, number of rows, constants)."""

    digest: str
    files: list[tuple[str, int, dict[str, object]]] = field(default_factory=list)
    unread: list[UnreadStore] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    error: str | None = None
    store_days: Mapping[str, StoreDays] | None = None


def encode(chunks: Sequence[ChunkHistories]) -> pa.Table:
    """One table of all rows of the chunks, in their order.

    A block without any row gets one row of nulls, since Ray Data drops empty blocks.
    """
    files = [rows for chunk in chunks for _, of_store in chunk.histories for rows in of_store]
    table = _concatenated(files) if files else _NO_ROWS
    if not table.num_rows:
        nulls = [pa.nulls(1, column.type) for column in table.schema]
        table = pa.table(nulls, schema=table.schema)
    extents = [
        _ChunkExtent(
            chunk.digest,
            [
                (store, rows.table.num_rows, dict(rows.constant))
                for store, of_store in chunk.histories
                for rows in of_store
            ],
            list(chunk.unread),
            chunk.seconds,
            chunk.cpu_seconds,
            chunk.error,
            chunk.store_days,
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
    rows_of_files = _split(table, [count for extent in extents for _, count, _ in extent.files])
    for extent in extents:
        histories: list[tuple[str, list[FileRows]]] = []
        for store, _, constant in extent.files:
            rows = FileRows(next(rows_of_files), constant)
            if histories and histories[-1][0] == store:
                histories[-1][1].append(rows)
            else:
                histories.append((store, [rows]))
        yield ChunkHistories(
            extent.digest,
            histories,
            extent.unread,
            extent.seconds,
            extent.cpu_seconds,
            extent.error,
            extent.store_days,
        )


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


def _concatenated(files: Sequence[FileRows]) -> pa.Table:
    """The rows of all files; nothing is copied."""
    try:
        return pa.concat_tables(rows.table for rows in files)
    except pa.ArrowInvalid:
        return pa.concat_tables(_with_equal_columns(files))


def _with_equal_columns(files: Sequence[FileRows]) -> list[pa.Table]:
    """The tables of files with the columns of all of them; a column that is constant is null."""
    columns = list({name: None for rows in files for name in rows.table.column_names})
    tables = []
    for rows in files:
        table = rows.table
        for name in columns:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows, ROW_COLUMNS[name]))
        tables.append(table.select(columns))
    return tables
