"""Answers as rows of a table, for CSV and Parquet. Each row of a forecast says how old it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

_FRESHNESS = [
    ("as_of", pa.date32()),
    ("generated_at", pa.timestamp("us", "UTC")),
    ("data_through", pa.date32()),
    ("data_age_days", pa.int32()),
    ("run_id", pa.string()),
    ("model_version", pa.string()),
    ("stale", pa.bool_()),
    ("stale_reason", pa.string()),
    ("carried_since", pa.date32()),
    ("outcome", pa.string()),
    ("reason_code", pa.string()),
    ("reason", pa.string()),
    ("release", pa.string()),
    ("unread_since", pa.timestamp("us", "UTC")),
]
_ANSWER = [
    ("published_at", pa.timestamp("us", "UTC")),
    ("time_zone", pa.string()),
    ("unit", pa.string()),
    ("currency", pa.string()),
]

FORECAST_SCHEMA = pa.schema(
    [
        ("level", pa.string()),
        ("store_id", pa.string()),
        ("item_id", pa.string()),
        ("target_date", pa.date32()),
        ("weekday", pa.string()),
        ("days_ahead", pa.int32()),
        ("predicted_sales", pa.float64()),
        ("lower_80", pa.float64()),
        ("upper_80", pa.float64()),
        ("method", pa.string()),
        ("missing", pa.string()),
        ("last_week_sales", pa.float64()),
        ("last_year_sales", pa.float64()),
        ("special", pa.string()),
        *_FRESHNESS,
        *_ANSWER,
    ]
)
"""`level` is `store` for a store's totals and `item` for its items. Do not add up both."""

HISTORY_SCHEMA = pa.schema(
    [
        ("store_id", pa.string()),
        ("target_date", pa.date32()),
        ("weekday", pa.string()),
        ("as_of", pa.date32()),
        ("days_ahead", pa.int32()),
        ("predicted_sales", pa.float64()),
        ("lower_80", pa.float64()),
        ("upper_80", pa.float64()),
        ("actual_sales", pa.float64()),
        ("naive_sales", pa.float64()),
        ("error", pa.float64()),
        ("run_id", pa.string()),
        ("release", pa.string()),
        *_ANSWER,
    ]
)


def forecast_rows(
    answer: Mapping[str, Any], shared: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """The totals, then the items of the page. A store without days has one row without numbers.

    `shared` has the fields of a list's answer, None if `answer` has them itself.
    """
    common = {name: answer[name] for name, _ in _FRESHNESS} | {"store_id": answer["store_id"]}
    common |= _answer_columns(answer if shared is None else shared)
    if not answer["days"]:
        yield {"level": "store", "item_id": "", **common}
    for day in answer["days"]:
        listed = {name: ",".join(day[name]) for name in ("missing", "special")}
        yield {"level": "store", "item_id": "", **common, **day, **listed}
    for item in answer.get("items", ()):
        for day in item["days"]:
            yield {"level": "item", "item_id": item["item_id"], **common, **day}


def history_rows(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    common = {"store_id": answer["store_id"], "release": answer["release"]}
    common |= _answer_columns(answer)
    for day in answer["days"]:
        yield {**common, **day}


def _answer_columns(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name, _ in _ANSWER}


def row_schema(columns: pa.Schema, descriptions: Mapping[str, str], text: str) -> dict[str, Any]:
    """The JSON schema of a row. An empty cell of CSV is null."""
    return {
        "type": "object",
        "description": text,
        "properties": {
            field.name: {**_json_type(field.type), "description": descriptions[field.name]}
            for field in columns
        },
        "required": columns.names,
    }


def _json_type(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_date(kind):
        return {"type": ["string", "null"], "format": "date"}
    if pa.types.is_timestamp(kind):
        return {"type": ["string", "null"], "format": "date-time"}
    if pa.types.is_boolean(kind):
        return {"type": ["boolean", "null"]}
    if pa.types.is_integer(kind):
        return {"type": ["integer", "null"]}
    return {"type": ["number" if pa.types.is_floating(kind) else "string", "null"]}
