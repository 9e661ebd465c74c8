"""The sales of the new files by store and item, for the checks of what they mean."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from ray_job.ingest.reading.batch import LoadedGroup
from ray_job.ingest.reading.groups import FILE
from ray_job.ingest.reading.workspace import Workspace

_COMPARED_DAYS = 40


def rows_sql(groups: Sequence[LoadedGroup]) -> str | None:
    """SQL of (file, store_id, item_id, date, sales) of all rows with sales, None if none can be."""
    selects = [
        f"SELECT {FILE} AS file, store_id, item_id, date, ({group.values['sales']}) AS sales"
        f" FROM {group.files.table} WHERE ({group.values['sales']}) IS NOT NULL"
        for group in groups
        if "sales" in group.values
    ]
    return " UNION ALL ".join(selects) or None


def compared_days(
    workspace: Workspace, groups: Sequence[LoadedGroup], days: int = _COMPARED_DAYS
) -> list[date]:
    """At most so many days with rows, from the first to the last at equal distances."""
    tables = " UNION ".join(f"SELECT DISTINCT date FROM {group.files.table}" for group in groups)
    present = [day for (day,) in workspace.run(f"SELECT date FROM ({tables}) ORDER BY date")]
    if len(present) <= days:
        return present
    return [present[place * (len(present) - 1) // (days - 1)] for place in range(days)]


def make_sample(workspace: Workspace, groups: Sequence[LoadedGroup]) -> int:
    """Create the table `sales_sample` (`store_id`, `item_id`, `date`, `sales`); its number of days.

    It has the sums of the compared days. Checks of a sample cost little, however many rows there
    are.
    """
    rows = rows_sql(groups)
    days = compared_days(workspace, groups) if rows is not None else []
    if not days:
        return 0
    listed = ", ".join(f"DATE '{day}'" for day in days)
    workspace.run(
        "CREATE OR REPLACE TEMP TABLE sales_sample AS"
        f" SELECT store_id, item_id, date, sum(sales) AS sales FROM ({rows})"
        f" WHERE date IN ({listed}) GROUP BY ALL"
    )
    return len(days)
