"""Totals among the rows of sales: a store, or rows without an item, that are the sum of the others.

A sum that agrees by chance is rare, and rarer the larger the numbers are. Each day on which a sum
agrees is evidence: the number of digits that agree. So one day may be enough for large numbers, and
small numbers need several days.
"""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray_job.ingest.reading.batch import LoadedGroup
from ray_job.ingest.reading.groups import FILE
from ray_job.ingest.reading.workspace import Workspace, quote_text

_SHARE = 0.8
"""The sum must agree on this share of the compared days."""
_DIGITS = 6
"""So many digits must agree, over all days."""
_LEAST_OTHERS = 2
_AGREES = "difference <= 0.001 * total"
_DIGITS_SQL = f"sum(log10(total / (difference + rounding))) FILTER ({_AGREES})"


@dataclass(frozen=True, slots=True)
class Totals:
    """What is a sum. `stores` has the number of agreeing and of compared days by store id.

    `items` has the same numbers for rows without an item, None if they are no sums.
    """

    stores: Mapping[str, tuple[int, int]]
    items: tuple[int, int] | None


def find_totals(workspace: Workspace) -> Totals:
    """The totals in the table `sales_sample`."""
    [(unit,)] = workspace.run(
        "SELECT CASE WHEN coalesce(bool_and(sales = round(sales)), true) THEN 0.5 ELSE 0.005 END"
        " FROM sales_sample"
    )
    return Totals(_store_totals(workspace, unit), _item_totals(workspace, unit))


def _store_totals(workspace: Workspace, unit: float) -> dict[str, tuple[int, int]]:
    """Stores that are the sum of all others, or of others that also have their sums among them."""
    rows = workspace.run(
        "WITH stores AS (SELECT store_id, date,"
        " coalesce(sum(sales) FILTER (item_id <> ''), sum(sales)) AS total FROM sales_sample"
        " GROUP BY ALL),"
        " days AS (SELECT date, sum(total) AS all_stores, count(*) - 1 AS others,"
        " max(total, 2) AS largest FROM stores WHERE total <> 0 GROUP BY date),"
        " compared AS (SELECT store_id, total,"
        f" ({unit} * sqrt(others)) AS rounding, least(abs(2 * total - all_stores),"
        " CASE WHEN total > 1.2 * largest[2] THEN abs(3 * total - all_stores) END) AS difference"
        " FROM stores JOIN days USING (date)"
        f" WHERE total > 0 AND others >= {_LEAST_OTHERS})"
        f" SELECT store_id, count(*) FILTER ({_AGREES}) AS agreeing, count(*) AS days FROM compared"
        f" GROUP BY store_id HAVING agreeing >= {_SHARE} * days AND {_DIGITS_SQL} >= {_DIGITS}"
        " AND (days = 1 OR count(DISTINCT total) > 1) ORDER BY store_id"
    )
    return {store: (agreeing, days) for store, agreeing, days in rows}


def _item_totals(workspace: Workspace, unit: float) -> tuple[int, int] | None:
    [(agreeing, days, digits)] = workspace.run(
        "WITH days AS (SELECT store_id, date, sum(sales) FILTER (item_id = '') AS total,"
        " sum(sales) FILTER (item_id <> '') AS named, count(*) FILTER (item_id <> '') AS items"
        " FROM sales_sample GROUP BY ALL),"
        " compared AS (SELECT total, abs(total - named) AS difference,"
        f" {unit} * sqrt(items) AS rounding"
        f" FROM days WHERE total > 0 AND items >= {_LEAST_OTHERS})"
        f" SELECT count(*) FILTER ({_AGREES}), count(*), {_DIGITS_SQL} FROM compared"
    )
    is_total = days and agreeing >= _SHARE * days and (digits or 0) >= _DIGITS
    return (agreeing, days) if is_total else None


def total_problems(
    workspace: Workspace, groups: Sequence[LoadedGroup], totals: Totals
) -> dict[str, str]:
    """A sentence for each file that has totals, by the file's name."""
    problems: dict[str, str] = {}
    for store, (agreeing, days) in totals.stores.items():
        for name, row in _first_rows(workspace, groups, f"store_id = {quote_text(store)}"):
            problems.setdefault(
                name,
                f"row {row}: the store {store} is the sum of the other stores on {agreeing} of"
                f' {days} compared days: remove its rows, or put leave_out_stores = ["{store}"]'
                ' under [sales] in the settings (totals = "keep" keeps them)',
            )
    if totals.items is not None:
        agreeing, days = totals.items
        for name, row in _first_rows(workspace, groups, _has_named_items(groups)):
            problems.setdefault(
                name,
                f"row {row}: rows without an item are the sum of the store's items on {agreeing} of"
                f' {days} compared days: remove them, or put totals = "leave_out" under [sales] in'
                ' the settings ("keep" keeps them)',
            )
    return problems


def leave_out_totals(
    workspace: Workspace, groups: Sequence[LoadedGroup], totals: Totals
) -> list[str]:
    """Delete the totals, and rows without an item beside named items of the same store and day.

    Returns sentences that name what was left out.
    """
    sentences = []
    conditions = {
        f"store_id = {quote_text(store)}": f"of the store {store}" for store in totals.stores
    }
    if any(_has_items(group) for group in groups):
        conditions[_has_named_items(groups)] = "without an item, beside rows of items,"
    for condition, subject in conditions.items():
        count = sum(
            workspace.run(f"SELECT count(*) FROM {group.files.table} WHERE {condition}")[0][0]
            for group in groups
        )
        if count:
            rows = "1 row" if count == 1 else f"{count:,} rows"
            sentences.append(f"{rows} {subject} were left out as totals")
    for group in groups:
        if conditions:
            workspace.run(f"DELETE FROM {group.files.table} WHERE {' OR '.join(conditions)}")
    return sentences


def _has_items(group: LoadedGroup) -> bool:
    return any(column.name == "item_id" for column in group.files.columns)


def _has_named_items(groups: Sequence[LoadedGroup]) -> str:
    """SQL of a row without an item that lies beside named items of the same store and day."""
    named = " UNION ALL ".join(
        f"SELECT store_id, date FROM {group.files.table} WHERE item_id <> ''" for group in groups
    )
    return f"(item_id = '' AND (store_id, date) IN ({named}))"


def _first_rows(
    workspace: Workspace, groups: Sequence[LoadedGroup], condition: str
) -> list[tuple[str, int]]:
    """The files with rows that satisfy the condition, each with the number of the first one."""
    named_rows = []
    for group in groups:
        rows = workspace.run(
            f"SELECT {FILE}, min(rowid) FROM {group.files.table} WHERE {condition} GROUP BY {FILE}"
        )
        for number, row in rows:
            name = group.files.file(number).name
            named_rows.append((name, group.files.row_number(workspace, number, row)))
    return named_rows
