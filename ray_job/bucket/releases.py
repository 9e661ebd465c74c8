"""Releases: immutable Parquet objects. A release says where each store's latest good forecast is.

A store without any forecast (`no_data`, or `failed` before the first success) has a null `as_of`
and no parts. A row is carried if its `as_of` is older than the release's. A row is kept if it has
the release's `as_of` and another run made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.bucket import keys, reasons
from ray_job.bucket.compatibility import conform, join_added, split_added
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.parts import sha256
from ray_job.bucket.records import Record
from ray_job.bucket.storage import Storage

COVERED = reasons.COVERED
"""The outcomes that count as a forecast."""

PART_REFERENCE = pa.struct(
    [
        ("part", pa.string()),
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
        ("sha256", pa.string()),
    ]
)

RELEASE_SCHEMA = pa.schema(
    [
        ("store_id", pa.string()),
        ("outcome", pa.string()),
        ("reason_code", pa.string()),
        ("reason", pa.string()),
        ("attempt", pa.int32()),
        ("expected", pa.bool_()),
        ("as_of", pa.date32()),
        ("generated_at", pa.timestamp("us", "UTC")),
        ("data_through", pa.date32()),
        ("run_id", pa.string()),
        ("model_version", pa.string()),
        ("table_version", pa.int64()),
        ("carried_since", pa.date32()),
        ("last_target_date", pa.date32()),
        ("items", pa.int64()),
        # Per target date, totals of the store:
        ("target_dates", pa.list_(pa.date32())),
        ("predicted", pa.list_(pa.float64())),
        ("lower_80", pa.list_(pa.float64())),
        ("upper_80", pa.list_(pa.float64())),
        ("usual", pa.list_(pa.float64())),
        ("method", pa.list_(pa.string())),
        ("missing", pa.list_(pa.string())),
        ("parts", pa.list_(PART_REFERENCE)),
        # All further columns of the stores table, as a JSON object.
        ("description", pa.string()),
        # Per target date, the sales of the newest same weekday and of 52 weeks earlier, NaN or null
        # where they are not known; and codes of what is special about the day, comma-separated.
        ("last_week", pa.list_(pa.float64())),
        ("last_year", pa.list_(pa.float64())),
        ("special", pa.list_(pa.string())),
    ]
)
"""One row per store, sorted by store id. Absent text is null.

A column that this list gets is in no release of an earlier version: it is null there.
"""

_FIRST_COLUMNS = (
    *("store_id", "outcome", "reason_code", "reason", "attempt", "expected", "as_of"),
    *("generated_at", "data_through", "run_id", "model_version", "table_version"),
    *("carried_since", "last_target_date", "items", "target_dates", "predicted", "lower_80"),
    *("upper_80", "usual", "method", "missing", "parts", "description"),
)
"""The columns that version 0.1 reads: exactly these. All others are in the file's footer."""


class ReleaseHeader(Record):
    """The description of a release, in the object's metadata."""

    release: str
    as_of: date
    run_id: str
    created_at: datetime
    table_version: int
    model_version: str
    horizon: int
    base: str | None = None
    forced: bool = False
    hindsight: bool = False
    """The forecasts use observed weather of a past as-of, or a model trained on later days."""


@dataclass(frozen=True, slots=True)
class Release:
    """`stores` has RELEASE_SCHEMA."""

    header: ReleaseHeader
    stores: pa.Table


_HEADER = b"storecast"
_DICTIONARY_COLUMNS = [
    *(
        field.name
        for field in RELEASE_SCHEMA
        if field.name in _FIRST_COLUMNS
        and (pa.types.is_string(field.type) or pa.types.is_date(field.type))
    ),
    *(f"{name}.list.element" for name in ("target_dates", "method", "missing")),
    *(f"parts.list.element.{name}" for name in ("part", "sha256")),
]
"""Columns with repeated values. Numbers differ from row to row and read faster without one."""


def encode(release: Release) -> bytes:
    """The object's bytes. The same release gives the same bytes."""
    table, added = split_added(conform(release.stores, RELEASE_SCHEMA), _FIRST_COLUMNS)
    table = table.replace_schema_metadata({_HEADER: release.header.to_bytes()})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="lz4",
        use_dictionary=_DICTIONARY_COLUMNS,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table, row_group_size=2**20)
        if added:
            writer.add_key_value_metadata(added)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode(data: bytes, key: str) -> Release:
    """The release of these bytes, with the columns of RELEASE_SCHEMA.

    Raises CorruptError, which names `key`, if they are none, and UnknownFormatError.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            metadata = file.metadata.metadata or {}
            header = ReleaseHeader.from_bytes(metadata[_HEADER], key)
            # Arrow's threads may outlive the read. If the process ends then, they abort it.
            table = file.read(use_threads=False).replace_schema_metadata(None)
        return Release(header, _with_all_columns(table, metadata, key, RELEASE_SCHEMA))
    except (pa.ArrowException, KeyError, TypeError, OSError) as error:
        raise CorruptError(f"{key}: the object is not a release: {error}") from error


def _with_all_columns(
    table: pa.Table, metadata: Mapping[bytes, bytes], key: str, schema: pa.Schema
) -> pa.Table:
    return conform(join_added(table, metadata, key, schema.names), schema)


def load(storage: Storage, name: str, expected_sha256: str) -> Release:
    """The release `name`. Raises NotFoundError, or CorruptError if its SHA-256 is another one."""
    key = keys.release(name)
    return decode(_verified(storage, key, expected_sha256), key)


def load_columns(
    storage: Storage, name: str, expected_sha256: str, columns: Sequence[str]
) -> pa.Table:
    """Some columns of a release's stores, faster than `load`. Raises the same errors."""
    key = keys.release(name)
    data = _verified(storage, key, expected_sha256)
    schema = pa.schema([RELEASE_SCHEMA.field(column) for column in columns])
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            metadata = file.metadata.metadata or {}
            ReleaseHeader.from_bytes(metadata[_HEADER], key)
            present = [column for column in columns if column in file.schema_arrow.names]
            # A table without columns would have no rows.
            read = file.read(present or ["store_id"], use_threads=False)
        return _with_all_columns(read.replace_schema_metadata(None), metadata, key, schema)
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise CorruptError(f"{key}: the object is not a release: {error}") from error


def _verified(storage: Storage, key: str, expected_sha256: str) -> bytes:
    data = storage.read(key)
    if sha256(data) != expected_sha256:
        raise CorruptError(f"{key}: the sha256 of the object is not the one that the pointer names")
    return data
