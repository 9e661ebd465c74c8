"""Parts: the predictions of one chunk, in one immutable Parquet object.

Rows are sorted by store, item and target date, so that the rows of a store are one range. The
footer holds the chunk's digest and the outcomes of its stores. A later run that adopts the part
reads the footer only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.bucket.compatibility import check_format, conform
from ray_job.bucket.errors import CorruptError

PART_SCHEMA = pa.schema(
    [
        ("store_id", pa.string()),
        ("item_id", pa.string()),
        ("target_date", pa.date32()),
        ("days_ahead", pa.int16()),
        ("predicted_sales", pa.float64()),
        ("lower_80", pa.float64()),
        ("upper_80", pa.float64()),
        ("method", pa.string()),  # model, rule, closed, fallback, similar or ended
        ("data_through", pa.date32()),
        ("model_version", pa.string()),
        # The sales of the newest same weekday, null if they are not known.
        ("last_week", pa.float64()),
    ]
)

OUTCOME_SCHEMA = pa.schema(
    [
        ("store_id", pa.string()),
        ("outcome", pa.string()),
        ("reason_code", pa.string()),
        ("reason", pa.string()),
        ("data_through", pa.date32()),
        ("known_through", pa.date32()),  # the same, and later days that were declared closed
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
        ("items", pa.int64()),
        ("observations", pa.int64()),
        # Per target date, totals over the chunk's items of the store:
        ("predicted", pa.list_(pa.float64())),
        ("spread", pa.list_(pa.float64())),  # Σ p·s, p a prediction and s its relative spread
        ("spread_squared", pa.list_(pa.float64())),  # Σ (p·s)²
        ("usual", pa.list_(pa.float64())),  # Σ of the recent mean of the same weekday
        ("method", pa.list_(pa.string())),
        ("missing", pa.list_(pa.string())),  # inputs without a value for the day, comma-separated
        # Per day, the oldest first, the as-of last: the sales, NaN if they are not known.
        ("sold", pa.list_(pa.float64())),
        # Per target date, the sales of the newest same weekday and of 52 weeks earlier:
        ("last_week", pa.list_(pa.float64())),
        ("last_year", pa.list_(pa.float64())),
        ("special", pa.list_(pa.string())),  # codes of what is special, comma-separated
        # The number of series for each kind of series and, within it, each method.
        ("series", pa.list_(pa.int32())),
    ]
)
"""One row per store of a chunk. If a store has several chunks, their sums can be added.

Columns that PART_SCHEMA or OUTCOME_SCHEMA get are null in the parts of earlier versions.
"""

ROW_GROUP_ROWS = 65_536
_FOOTER = "storecast"
_OUTCOMES = "storecast.outcomes"
_NO_DOCUMENT = (AttributeError, KeyError, TypeError, ValueError, RecursionError)
"""What a footer raises that is no JSON, or JSON of something else."""


@dataclass(frozen=True, slots=True)
class Part:
    """The footer of a part. `outcomes` has OUTCOME_SCHEMA; `read_rows` reads the rows."""

    digest: str
    info: dict[str, Any]
    outcomes: pa.Table
    sha256: str


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """A chunk's outcomes (OUTCOME_SCHEMA), with the key and digest of the part that has its rows.

    `part` and `sha256` are None if no store of the chunk has rows.
    """

    outcomes: pa.Table
    part: str | None
    sha256: str | None
    run_id: str
    generated_at: datetime
    attempt: int = 1


def encode(rows: pa.Table, outcomes: pa.Table, digest: str, **info: Any) -> bytes:
    """The bytes of a part of `rows` (PART_SCHEMA) and `outcomes` (OUTCOME_SCHEMA).

    `info` are further fields of the footer. The same arguments give the same bytes.
    """
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        buffer, OUTCOME_SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as stream:
        stream.write_table(outcomes.cast(OUTCOME_SCHEMA))
    footer = {"digest": digest, **info}
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        PART_SCHEMA,
        compression="zstd",
        use_dictionary=["store_id", "method", "data_through", "model_version", "target_date"],
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        writer.write_table(rows.cast(PART_SCHEMA), row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata(
            {
                _FOOTER: json.dumps(footer, sort_keys=True),
                _OUTCOMES: base64.b64encode(buffer.getvalue()).decode(),
            }
        )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode(data: bytes, key: str) -> Part:
    """The footer of a part.

    Raises CorruptError, which names `key`, if the part is not whole, and UnknownFormatError.
    """
    try:
        metadata = pq.read_metadata(pa.BufferReader(data)).metadata
        info = json.loads(metadata[_FOOTER.encode()])
        check_format(info.get("format"), key)
        with pa.ipc.open_stream(base64.b64decode(metadata[_OUTCOMES.encode()])) as stream:
            outcomes = conform(stream.read_all(), OUTCOME_SCHEMA)
        return Part(info.pop("digest"), info, outcomes, sha256(data))
    except (pa.ArrowException, *_NO_DOCUMENT, OSError) as error:
        raise CorruptError(f"{key}: the object is not a part: {error}") from error


def read_rows(data: bytes, key: str, first_row: int = 0, rows: int | None = None) -> pa.Table:
    """`rows` rows of a part from `first_row` on, None for all that follow; PART_SCHEMA.

    Verifies the checksums of the pages. Raises CorruptError, which names `key`, and
    UnknownFormatError.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            footer = (file.metadata.metadata or {}).get(_FOOTER.encode(), b"{}")
            check_format(json.loads(footer).get("format"), key)
            table = file.read(use_threads=False).replace_schema_metadata(None)
        return conform(table, PART_SCHEMA).slice(first_row, rows)
    except (pa.ArrowException, *_NO_DOCUMENT, OSError) as error:
        raise CorruptError(f"{key}: the part cannot be read: {error}") from error


def sha256(data: bytes) -> str:
    """The SHA-256 of `data` as hex digits."""
    return hashlib.sha256(data).hexdigest()
