"""The Parquet files of the tables: how they are read and checked."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError
from ray_job.bucket.storage import Storage
from ray_job.ranged import RangedFile

_WHOLE_BYTES = 64 * 2**20
"""Up to this size one request for the whole object beats several for its parts."""


def open_parquet(storage: Storage, key: str, size: int) -> pq.ParquetFile:
    """A Parquet object, whose pages are checked against their checksums when they are read.

    Raises NotFoundError, or CorruptError where its footer cannot be read.
    """
    try:
        source = (
            pa.BufferReader(storage.read(key))
            if size <= _WHOLE_BYTES
            else RangedFile(storage, key, size)
        )
        return pq.ParquetFile(source, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise NotFoundError(f"{key}: there is no such object") from error
    except pa.ArrowInvalid as error:
        raise CorruptError(f"{key}: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise StorageError(f"{key}: {str(error).splitlines()[0]}") from error


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
