"""Items of which most days are missing although their store delivered: maybe nothing was sold."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence

from ray_job.ingest.plausibility.daily_sales import rows_sql
from ray_job.ingest.reading.batch import LoadedGroup
from ray_job.ingest.reading.workspace import Workspace

_STORES = 20
"""So many stores are looked at."""
_LEAST_DAYS = 14
_SHARE = 0.5


def missing_items_warning(workspace: Workspace, groups: Sequence[LoadedGroup]) -> str | None:
    """The warning for items with rows on fewer than half of their store's days, None for none.

    Only days from an item's first to its last row count.
    """
    with_items = [
        group for group in groups if any(column.name == "item_id" for column in group.files.columns)
    ]
    rows = rows_sql(with_items)
    if rows is None:
        return None
    [(items, sparse, example)] = workspace.run(
        f"WITH sales AS MATERIALIZED (SELECT DISTINCT store_id, item_id, date FROM ({rows})"
        " WHERE item_id <> '' AND store_id IN (SELECT store_id FROM"
        f" ({' UNION '.join(_stores(group) for group in with_items)})"
        f" ORDER BY hash(store_id) LIMIT {_STORES})),"
        " items AS (SELECT store_id, item_id, min(date) AS first, max(date) AS last,"
        " count(*) AS days FROM sales GROUP BY ALL),"
        " numbered AS (SELECT store_id, date, row_number() OVER (PARTITION BY store_id"
        " ORDER BY date) AS number FROM (SELECT DISTINCT store_id, date FROM sales)),"
        " compared AS (SELECT items.*, b.number - a.number + 1 AS store_days FROM items"
        " JOIN numbered a ON a.store_id = items.store_id AND a.date = items.first"
        " JOIN numbered b ON b.store_id = items.store_id AND b.date = items.last)"
        f" SELECT count(*), count(*) FILTER (days < {_SHARE} * store_days"
        f" AND store_days >= {_LEAST_DAYS}),"
        " arg_max({'store': store_id, 'item': item_id, 'days': days, 'of': store_days},"
        " (store_days / days, store_id, item_id))"
        f" FILTER (days < {_SHARE} * store_days AND store_days >= {_LEAST_DAYS}) FROM compared"
    )
    if not sparse:
        return None
    return (
        f"{sparse:,} of {items:,} items have rows on fewer than half of their store's days (store"
        f" {example['store']}, item {example['item']}: {example['days']} of {example['of']}); a day"
        ' without a row is unknown: put missing_items = "zero" under [sales] in the settings if'
        " nothing was sold then"
    )


def _stores(group: LoadedGroup) -> str:
    return f"SELECT DISTINCT store_id FROM {group.files.table}"
