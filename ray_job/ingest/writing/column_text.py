"""Columns of the histories that were numbers become text, since the settings declare them as text.

A column whose first files had numbers only (a holiday is 0 for months) may hold text later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError
from ray_job.bucket.storage import Storage
from ray_job.data.delta import (
    DataFile,
    arrow_schema,
    list_files,
    logged_key,
    open_table,
    replace_all_files,
    stored_schema,
)
from ray_job.data.parquet import read_batches
from ray_job.data.table_files import new_file_name
from ray_job.ingest.reading.workspace import open_workspace
from ray_job.ingest.writing.partitions import EncodedFile, PartitionWriter
from ray_job.ingest.writing.pieces import Piece
from ray_job.progress import Stage
from ray_job.settings import Settings


def make_text(
    storage: Storage, settings: Settings, columns: Sequence[str], stage: Stage, now: datetime
) -> None:
    """Rewrite the histories with these columns of numbers as text, in one commit.

    Idempotent. Does nothing if another commit was faster; the caller looks again what is left to
    do. Raises NotFoundError, CorruptError or StorageError.
    """
    table = open_table(storage, keys.BATCH_DATA)
    if table is None:
        return
    schema = arrow_schema(table)
    numbers = {name for name in columns if pa.types.is_floating(schema.field(name).type)}
    if not numbers:
        return
    new_schema = pa.schema(
        [pa.field(field.name, pa.string()) if field.name in numbers else field for field in schema]
    )
    before, after = stored_schema(schema), stored_schema(new_schema)
    file_name = new_file_name()
    with open_workspace(settings) as workspace:
        writer = PartitionWriter(storage, after, settings.ingest.row_group_rows, workspace.folder)

        def encoded_files() -> Iterator[EncodedFile]:
            for number, row in enumerate(list_files(table).to_pylist()):
                file = DataFile(**row)
                pieces = _pieces(storage, file, before, after)
                yield writer.encode(str(file.store_id), pieces, f"{file_name}-{number}")

        added = writer.send(encoded_files(), stage)
    storage.sync()
    try:
        replace_all_files(table, added, new_schema, now)
    except ConflictError:
        return


def number_as_text(values: pa.Array) -> pa.Array:
    """Numbers as people write them: `0`, not `0.0`."""
    whole = pc.equal(pc.round(values), values)
    is_small = pc.less(pc.abs(values), 1e15)
    integers = pc.cast(pc.if_else(pc.and_(whole, is_small), values, None), pa.int64())
    return pc.coalesce(pc.cast(integers, pa.string()), pc.cast(values, pa.string()))


def _pieces(
    storage: Storage, file: DataFile, before: pa.Schema, after: pa.Schema
) -> Iterator[Piece]:
    for batch in read_batches(storage, logged_key(file.path), file.size, before):
        columns = [
            number_as_text(batch.column(field.name))
            if pa.types.is_floating(before.field(field.name).type)
            and pa.types.is_string(field.type)
            else batch.column(field.name)
            for field in after
        ]
        rows = pa.RecordBatch.from_arrays(columns, schema=after)
        days = np.asarray(rows.column("date").cast(pa.int32()))
        yield Piece(str(file.store_id), rows, int(days.min()), int(days.max()))
