"""How an answer is written as JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

Format = Literal["json", "csv", "parquet"]

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def encode(
    answer_format: Format,
    answer: dict[str, Any],
    rows: Iterable[dict[str, Any]],
    columns: pa.Schema,
) -> bytes:
    """`answer` as JSON, or `rows` as CSV or Parquet with these columns."""
    if answer_format == "json":
        return to_json(answer)
    return to_csv(rows, columns) if answer_format == "csv" else to_parquet(rows, columns)


def to_json(content: Any) -> bytes:
    """Compact JSON in UTF-8. Dates and times are ISO 8601. Raises ValueError for NaN."""
    return json.dumps(
        content, ensure_ascii=False, separators=(",", ":"), default=_json_value, allow_nan=False
    ).encode("utf-8", "backslashreplace")


def _json_value(value: Any) -> str:
    if isinstance(value, datetime | date):
        return iso_time(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def iso_time(value: date | datetime) -> str:
    """ISO 8601, with Z for UTC."""
    return value.isoformat().replace("+00:00", "Z")


def to_csv(rows: Iterable[dict[str, Any]], columns: pa.Schema) -> bytes:
    """RFC 4180 with a header.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns.names)
    writer.writerows([_cell(row.get(name)) for name in columns.names] for row in rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date):
        return iso_time(value)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def to_parquet(rows: Iterable[dict[str, Any]], columns: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=columns), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
