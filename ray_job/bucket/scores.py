"""Scores of a target date: per store, the forecasts that were live and the sales of that day.

`ray_job.evaluation.scoring` writes them. The API reads them.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.bucket.compatibility import check_metadata, conform, join_added, split_added
from ray_job.bucket.errors import CorruptError

SCORES_SCHEMA = pa.schema(
    [
        ("store_id", pa.string()),
        ("as_of", pa.date32()),
        ("days_ahead", pa.int16()),
        ("predicted", pa.float64()),
        ("lower_80", pa.float64()),
        ("upper_80", pa.float64()),
        ("actual", pa.float64()),
        ("naive", pa.float64()),
        ("run_id", pa.string()),
        ("items", pa.int64()),
        ("model_version", pa.string()),
        # By how much the interval was wider below and above the forecast than it was calibrated:
        ("lower_factor", pa.float64()),
        ("upper_factor", pa.float64()),
    ]
)
"""One row per store and as-of, sorted. `naive` is the sales of the same weekday a week before.

A column that this list gets is in no scores of an earlier version: it is null there.
"""

_FIRST_COLUMNS = (
    *("store_id", "as_of", "days_ahead", "predicted", "lower_80", "upper_80"),
    *("actual", "naive", "run_id"),
)
"""The columns that version 0.1 reads: exactly these. All others are in the file's footer."""


def encode(table: pa.Table) -> bytes:
    """The object's bytes of scores (SCORES_SCHEMA); the table's metadata are in it."""
    metadata = table.schema.metadata
    table, added = split_added(conform(table, SCORES_SCHEMA), _FIRST_COLUMNS)
    table = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        use_dictionary=["store_id", "as_of", "days_ahead", "run_id"],
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table)
        if added:
            writer.add_key_value_metadata(added)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode(data: bytes, key: str) -> pa.Table:
    """The rows (SCORES_SCHEMA) of an object.

    Raises CorruptError, which names `key`, and UnknownFormatError.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            metadata = file.metadata.metadata or {}
            check_metadata(metadata, key)
            table = file.read(use_threads=False).replace_schema_metadata(None)
        return conform(join_added(table, metadata, key, SCORES_SCHEMA.names), SCORES_SCHEMA)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise CorruptError(f"{key}: the scores cannot be read: {error}") from error
