"""Scores of a target date: per store, the forecasts that were live and the sales of that day.

`ray_job.evaluation.scoring` writes them. The API reads them.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

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
    ]
)
"""One row per store and as-of, sorted. `naive` is the sales of the same weekday a week before."""


def decode(data: bytes, key: str) -> pa.Table:
    """The rows (SCORES_SCHEMA) of an object. Raises CorruptError, which names `key`."""
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            return file.read(use_threads=False).cast(SCORES_SCHEMA)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise CorruptError(f"{key}: the scores cannot be read: {error}") from error
