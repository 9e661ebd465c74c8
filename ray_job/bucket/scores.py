"""The scores of a target date: forecasts that were live against what was sold, per store.

The job writes them (`ray_job.scoring`), the API answers from them.
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
"""One row per store and as-of, sorted; `naive` is what was sold on that weekday a week earlier."""


def decode(data: bytes, key: str) -> pa.Table:
    """The rows (SCORES_SCHEMA) of the object `key`. Raises CorruptError."""
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            return file.read(use_threads=False).cast(SCORES_SCHEMA)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise CorruptError(f"{key}: the scores cannot be read: {error}") from error
