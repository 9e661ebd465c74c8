"""Answers as rows of a table, for CSV and Parquet. Each row of a forecast says how old it is."""

from __future__ import annotations

from collections.abc import Iterator
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
        *_FRESHNESS,
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
    ]
)


def forecast_rows(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The totals, then the items of the page. A store without days has one row without numbers."""
    common = {name: answer[name] for name, _ in _FRESHNESS} | {"store_id": answer["store_id"]}
    if not answer["days"]:
        yield {"level": "store", "item_id": "", **common}
    for day in answer["days"]:
        missing = ",".join(day["missing"])
        yield {"level": "store", "item_id": "", **common, **day, "missing": missing}
    for item in answer.get("items", ()):
        for day in item["days"]:
            yield {"level": "item", "item_id": item["item_id"], **common, **day}


def history_rows(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for day in answer["days"]:
        yield {"store_id": answer["store_id"], "release": answer["release"], **day}
