"""Rows that say that something was sold while nothing was in stock: maybe 0 means the opposite."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence

from ray_job.data.partition import IN_STOCK
from ray_job.ingest.reading.batch import LoadedGroup
from ray_job.ingest.reading.workspace import Workspace

_LEAST_ROWS = 20
_SHARE = 0.5


def stock_warning(workspace: Workspace, groups: Sequence[LoadedGroup]) -> str | None:
    """The warning where most rows without stock have sales, None for none.

    The quantity on hand in the evening may be 0 on a day with sales, but not on most such days.
    """
    rows = " UNION ALL ".join(
        f"SELECT store_id, item_id, date, ({group.values['sales']}) AS sales"
        f" FROM {group.files.table}"
        f" WHERE try_cast(({group.values[IN_STOCK]}) AS DOUBLE) <= 0"
        for group in groups
        if IN_STOCK in group.values and "sales" in group.values
    )
    if not rows:
        return None
    [(empty, sold, example)] = workspace.run(
        "SELECT count(*), count(*) FILTER (sales > 0),"
        " min({'store': store_id, 'item': item_id, 'date': date}) FILTER (sales > 0)"
        f" FROM ({rows}) WHERE sales IS NOT NULL"
    )
    if empty < _LEAST_ROWS or sold <= _SHARE * empty:
        return None
    item = f", item {example['item']}" if example["item"] else ""
    return (
        f"{sold:,} of {empty:,} rows without stock ({IN_STOCK} is 0) have sales (store"
        f" {example['store']}{item}: {example['date']}): {IN_STOCK} is 1, or the quantity on hand,"
        f" where something can be sold; if the file means the opposite, turn it round, or list the"
        " column under ignore of [sales] in the settings"
    )
