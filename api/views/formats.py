"""How an answer is written as JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

Format = Literal["json", "csv", "parquet"]
Delimiter = Literal["comma", "semicolon", "tab"]
Decimal = Literal["point", "comma"]

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
PARTIAL_JSON = "application/vnd.storecast.partial+json"
"""JSON that holds the fields that the request selects, and not the others."""

_DELIMITERS: dict[Delimiter, str] = {"comma": ",", "semicolon": ";", "tab": "\t"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FORMULA = re.compile(r"(?:^|(?<=[,;|\t\r\n\"']))(\s*)(?=[=+\-@＝＋－＠])")
"""The place of a character with which a formula begins.

A program that separates cells by another character than the file does, or that takes a quotation
mark for the end of a cell, may begin a cell in the middle of a text.
"""
_LONG_LIST = 20
_CONTROL_START = ("\t", "\r", "\n")


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How CSV is written. The default is RFC 4180 in UTF-8.

    Programs for spreadsheets take the delimiter and the decimal mark from the country of their
    user, and UTF-8 from a byte order mark.
    """

    delimiter: Delimiter = "comma"
    decimal: Decimal = "point"
    byte_order_mark: bool = False


RFC_4180 = CsvDialect()


def encode(
    answer_format: Format,
    answer: dict[str, Any],
    rows: Iterable[dict[str, Any]],
    columns: pa.Schema,
    dialect: CsvDialect = RFC_4180,
) -> bytes:
    """`answer` as JSON, or `rows` as CSV or Parquet with these columns."""
    if answer_format == "json":
        return to_json(answer)
    return to_csv(rows, columns, dialect) if answer_format == "csv" else to_parquet(rows, columns)


def to_json(content: Any) -> bytes:
    """Compact JSON in UTF-8. Dates and times are ISO 8601. Raises ValueError for NaN.

    A long list in an object is written entry by entry: the encoder keeps every other thread waiting
    until it has written what it was given.
    """
    if isinstance(content, dict) and any(map(_is_long_list, content.values())):
        members = (f"{_encode(str(name))}:{_member(value)}" for name, value in content.items())
        text = "{" + ",".join(members) + "}"
    else:
        text = _encode(content)
    return text.encode("utf-8", "backslashreplace")


def _is_long_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) > _LONG_LIST


def _member(value: Any) -> str:
    if _is_long_list(value):
        return "[" + ",".join(map(_encode, value)) + "]"
    return _encode(value)


def _json_value(value: Any) -> str:
    if isinstance(value, datetime | date):
        return iso_time(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), default=_json_value, allow_nan=False
).encode


def iso_time(value: date | datetime) -> str:
    """ISO 8601, with Z for UTC."""
    return value.isoformat().replace("+00:00", "Z")


def to_csv(
    rows: Iterable[dict[str, Any]], columns: pa.Schema, dialect: CsvDialect = RFC_4180
) -> bytes:
    """A header and the rows.

    Text that a spreadsheet would run as a formula gets an apostrophe in front of the formula.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=_DELIMITERS[dialect.delimiter])
    names = columns.names
    writer.writerow(names)
    cells = {
        index: _Cells(convert)
        for index, field in enumerate(columns)
        if (convert := _conversion(field.type, dialect.decimal)) is not None
    }
    writer.writerows(_csv_row([row.get(name) for name in names], cells) for row in rows)
    body = text.getvalue().encode("utf-8", "backslashreplace")
    return _BYTE_ORDER_MARK + body if dialect.byte_order_mark else body


class _Cells(dict[Any, str]):
    """Values of a column as texts. The same few values are in most of the rows of a file."""

    def __init__(self, convert: Callable[[Any], str]) -> None:
        self._convert = convert

    def __missing__(self, value: Any) -> str:
        text = self[value] = self._convert(value)
        return text


def _csv_row(values: list[Any], cells: Mapping[int, _Cells]) -> list[Any]:
    for index, texts in cells.items():
        if values[index] is not None:
            values[index] = texts[values[index]]
    return values


def _conversion(kind: pa.DataType, decimal: Decimal) -> Callable[[Any], str] | None:
    """How a value of this type becomes a text. None: as the module `csv` does it."""
    if pa.types.is_string(kind):
        return without_formulas
    if pa.types.is_temporal(kind):
        return lambda value: value if isinstance(value, str) else iso_time(value)
    if pa.types.is_boolean(kind):
        return lambda value: "true" if value else "false"
    if pa.types.is_floating(kind) and decimal == "comma":
        return lambda value: str(value).replace(".", ",")
    return None


def without_formulas(text: str) -> str:
    """The text with an apostrophe wherever a program might see the begin of a formula."""
    if text.isalnum():
        return text
    text = _FORMULA.sub(r"\1'", text)
    return f"'{text}" if text.startswith(_CONTROL_START) else text


def to_parquet(rows: Iterable[dict[str, Any]], columns: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=columns), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
