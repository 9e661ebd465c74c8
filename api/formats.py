"""Formats: which one the caller wants, and how an answer is written in it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from api.problems import NotAcceptableError

Format = Literal["json", "csv", "parquet"]

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_BARE: dict[Format, str] = {
    name: media_type.partition(";")[0] for name, media_type in MEDIA_TYPES.items()
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def negotiate(accept: str, offered: Sequence[Format]) -> Format:
    """The offered format that an Accept header (RFC 9110, 12.5.1) ranks highest.

    Among equals the one that is offered first. Raises NotAcceptableError.
    """
    if not accept.strip():
        return offered[0]
    ranges = [_range(each) for each in accept.split(",") if each.strip()]
    best = max(offered, key=lambda name: _quality(_BARE[name], ranges))
    if _quality(_BARE[best], ranges) <= 0:
        raise NotAcceptableError(
            "this is offered as " + ", ".join(_BARE[name] for name in offered),
            offered=[_BARE[name] for name in offered],
        )
    return best


def _range(text: str) -> tuple[str, float]:
    media_type, *parameters = (part.strip() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return media_type.lower(), quality


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """The most specific range that covers the media type decides."""
    by_range = dict(ranges)
    for candidate in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if candidate in by_range:
            return by_range[candidate]
    return 0.0


def to_json(content: Any) -> bytes:
    return json.dumps(
        content, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False
    ).encode("utf-8", "backslashreplace")


def _plain(value: Any) -> str:
    if isinstance(value, datetime | date):
        return moment(value)
    raise TypeError(f"{type(value).__name__} has no JSON")


def moment(value: date | datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def to_csv(rows: Iterable[dict[str, Any]], columns: pa.Schema) -> bytes:
    """RFC 4180 with a header. Text that a spreadsheet would take for a formula is escaped."""
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
        return moment(value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def to_parquet(rows: Iterable[dict[str, Any]], columns: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=columns), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
