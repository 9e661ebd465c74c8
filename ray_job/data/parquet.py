"""Parquet files of the bucket: whole, or their footer and some row groups by ranged requests.

Every reader verifies the checksums of the pages. A small file is fetched whole with one request. Of
a large file only what is needed is fetched: `pyarrow.fs.GcsFileSystem.open_input_file` could do so,
too, but it holds Python's lock while it waits, so that other threads' requests stop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError
from ray_job.bucket.storage import Storage
from ray_job.data.arrays import rounding_cast
from ray_job.plan import RowGroup

WHOLE_BYTES = 16 * 2**20
"""Up to this size, one request for the whole object is faster than several for its parts."""
_TRIES = 2
_TAIL_BYTES = 256 * 2**10
"""The bytes at the end that are fetched first; they hold the footer of most files."""


def open_part(storage: Storage, key: str, size: int | None = None) -> pa.BufferReader | RangedFile:
    """A file of which a part is to be read; a small file is fetched whole. Raises NotFoundError.

    Without its `size` the storage is asked for it, which is a request more.
    """
    if size is None:
        info = storage.stat(key)
        size = 0 if info is None else info.size
    if size <= WHOLE_BYTES:
        return pa.BufferReader(storage.read(key))
    return RangedFile(storage, key, size)


def fetch_row_groups(
    source: pa.BufferReader | RangedFile, file: pq.ParquetFile, groups: Sequence[int]
) -> None:
    """Fetch the bytes of these row groups of `file` from `source` with one request."""
    if not isinstance(source, RangedFile) or not groups:
        return
    columns = [
        group.column(place)
        for group in map(file.metadata.row_group, groups)
        for place in range(group.num_columns)
    ]
    begins = [
        column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        for column in columns
    ]
    ends = [
        begin + column.total_compressed_size for begin, column in zip(begins, columns, strict=True)
    ]
    source.fetch(min(begins), max(ends))


def row_groups(storage: Storage, key: str) -> list[RowGroup]:
    """The row groups of a file, from its footer.

    Raises CorruptError, NotFoundError or StorageError.
    """
    try:
        with pq.ParquetFile(open_part(storage, key)) as file:
            column = file.schema_arrow.get_field_index("item_id")
            groups = [file.metadata.row_group(k) for k in range(file.num_row_groups)]
            return [
                RowGroup(group.column(column).statistics.min, group.num_rows) for group in groups
            ]
    except (pa.ArrowException, OSError, AttributeError) as error:
        raise CorruptError(f"{key}: the file cannot be read: {first_line(error)}") from error


class RangedFile:
    """A file object for Arrow that fetches ranges. It keeps the last range that it fetched.

    The storage verifies no checksum of a range: readers must verify the checksums of the pages.
    """

    def __init__(self, storage: Storage, key: str, size: int) -> None:
        self._storage, self._key, self._size = storage, key, size
        self._position = 0
        self._begin, self._range = 0, b""
        self.closed = False

    def fetch(self, begin: int, end: int) -> None:
        """Fetch and keep the bytes from `begin` up to `end`.

        Raises CorruptError if fewer arrive.
        """
        for _ in range(_TRIES):
            data = self._storage.read_range(self._key, begin, end)
            if len(data) == end - begin:
                self._begin, self._range = begin, data
                return
        raise CorruptError(f"{self._key}: {len(data)} bytes arrived, {end - begin} were requested")

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._position + count, self._size)
        if end <= self._position:
            return b""
        if not (self._begin <= self._position and end <= self._begin + len(self._range)):
            # A reader of the footer starts with its last bytes and then goes back.
            at_end = end > self._size - _TAIL_BYTES
            self.fetch(
                min(self._position, self._size - _TAIL_BYTES) if at_end else self._position, end
            )
        data = self._range[self._position - self._begin : end - self._begin]
        self._position = end
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed, self._range = True, b""


def open_parquet(storage: Storage, key: str, size: int) -> pq.ParquetFile:
    """A Parquet object whose reader verifies the checksums of pages.

    Raises NotFoundError, or CorruptError where its footer cannot be read.
    """
    try:
        source = (
            pa.BufferReader(storage.read(key))
            if size <= WHOLE_BYTES
            else RangedFile(storage, key, size)
        )
        return pq.ParquetFile(source, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise NotFoundError(f"{key}: there is no such object") from error
    except pa.ArrowInvalid as error:
        raise CorruptError(f"{key}: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise StorageError(f"{key}: {str(error).splitlines()[0]}") from error


def read_table(storage: Storage, key: str, size: int) -> pa.Table:
    """All rows of a Parquet object. Raises NotFoundError, CorruptError or StorageError."""
    with open_parquet(storage, key, size) as file:
        try:
            return file.read(use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise CorruptError(f"{key}: the file cannot be read: {error}") from error


def read_batches(
    storage: Storage, key: str, size: int, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """A Parquet object's rows in the columns of `schema`; missing columns are null.

    The object is opened at once; its rows are decoded batch by batch. Raises
    NotFoundError, or CorruptError where the bytes are not what was written.
    """
    return _decoded(open_parquet(storage, key, size), key, schema)


def _decoded(file: pq.ParquetFile, key: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    try:
        for batch in file.iter_batches(use_threads=False):
            yield conform(batch, schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, OSError) as error:
        raise CorruptError(f"{key}: {first_line(error)}") from error


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in the columns and types of `schema`; missing columns are null."""
    if batch.schema.equals(schema):
        return batch
    present = set(batch.schema.names)
    return pa.RecordBatch.from_arrays(
        [
            rounding_cast(batch.column(field.name), field.type)
            if field.name in present and batch.column(field.name).null_count < batch.num_rows
            else pa.nulls(batch.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def overlapping_groups(
    file: pq.ParquetFile, column: str, first: str | None, end: str | None
) -> list[int]:
    """The row groups that may have values from `first` on and before `end`, by their statistics.

    A group is among them if it has null, or no statistics, as another program may write it.
    """
    # A column of structs or lists has several columns of Parquet.
    leaves = [file.schema.column(k).path for k in range(len(file.schema))]
    groups = []
    for k in range(file.num_row_groups):
        group = file.metadata.row_group(k)
        statistics = group.column(leaves.index(column)).statistics if column in leaves else None
        if statistics is None or not statistics.has_min_max or statistics.null_count:
            groups.append(k)
            continue
        before = end is not None and statistics.min >= end
        after = first is not None and statistics.max < first
        if not before and not after:
            groups.append(k)
    return groups


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
