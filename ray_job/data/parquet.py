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

WHOLE_BYTES = 16 * 2**20
"""Up to this size one request for the whole object beats several for its parts."""
_TRIES = 2
_TAIL_BYTES = 256 * 2**10
"""What is fetched at first: the footer of most files."""


def open_part(storage: Storage, key: str) -> pa.BufferReader | RangedFile:
    """A file of which only a part is wanted: a small one whole. Raises NotFoundError."""
    there = storage.stat(key)
    if there is None or there.size <= WHOLE_BYTES:
        return pa.BufferReader(storage.read(key))
    return RangedFile(storage, key, there.size)


def fetch_row_groups(
    source: pa.BufferReader | RangedFile, file: pq.ParquetFile, groups: Sequence[int]
) -> None:
    """Get all that these row groups of `file` need from `source` in one request."""
    if not isinstance(source, RangedFile) or not groups:
        return
    columns = [
        group.column(place)
        for group in map(file.metadata.row_group, groups)
        for place in range(group.num_columns)
    ]
    begins = [
        one.dictionary_page_offset if one.has_dictionary_page else one.data_page_offset
        for one in columns
    ]
    ends = [begin + one.total_compressed_size for begin, one in zip(begins, columns, strict=True)]
    source.fetch(min(begins), max(ends))


class RangedFile:
    """What Arrow asks of a Python file. It keeps the last range that it fetched.

    A range carries no checksum of the storage's: Parquet's own, of the pages, are to be verified.
    """

    def __init__(self, storage: Storage, key: str, size: int) -> None:
        self._storage, self._key, self._size = storage, key, size
        self._place = 0
        self._begin, self._held = 0, b""
        self.closed = False

    def fetch(self, begin: int, end: int) -> None:
        """Hold the bytes from `begin` on and before `end`. Raises CorruptError for fewer."""
        for _ in range(_TRIES):
            data = self._storage.read_range(self._key, begin, end)
            if len(data) == end - begin:
                self._begin, self._held = begin, data
                return
        raise CorruptError(
            f"{self._key}: {len(data)} bytes came where {end - begin} were asked for"
        )

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._place + count, self._size)
        if end <= self._place:
            return b""
        if not (self._begin <= self._place and end <= self._begin + len(self._held)):
            # Whoever reads the end begins with its last bytes and goes back from there.
            at_end = end > self._size - _TAIL_BYTES
            self.fetch(min(self._place, self._size - _TAIL_BYTES) if at_end else self._place, end)
        data = self._held[self._place - self._begin : end - self._begin]
        self._place = end
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = origin + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed, self._held = True, b""


def open_parquet(storage: Storage, key: str, size: int) -> pq.ParquetFile:
    """A Parquet object, whose pages are checked against their checksums when they are read.

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
    """A Parquet object's rows in the columns of `schema`; those that it lacks are null.

    The object is opened at once, its rows are decoded one batch after the other. Raises
    NotFoundError, or CorruptError where the bytes are not what was written.
    """
    return _decoded(open_parquet(storage, key, size), key, schema)


def _decoded(file: pq.ParquetFile, key: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    try:
        for batch in file.iter_batches(use_threads=False):
            yield conform(batch, schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise CorruptError(f"{key}: {str(error).splitlines()[0]}") from error


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in the columns and types of `schema`; those that it lacks are null."""
    if batch.schema.equals(schema):
        return batch
    there = set(batch.schema.names)
    return pa.RecordBatch.from_arrays(
        [
            batch.column(one.name).cast(one.type)
            if one.name in there
            else pa.nulls(batch.num_rows, one.type)
            for one in schema
        ],
        schema=schema,
    )
