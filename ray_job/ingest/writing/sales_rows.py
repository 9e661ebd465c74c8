"""The rows of all files of sales of an ingest, as one stream, store by store."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa

from ray_job.ingest.reading.batch import LoadedGroup
from ray_job.ingest.reading.groups import FILE, value_column
from ray_job.ingest.reading.workspace import Workspace, quote_name, united
from ray_job.settings import Settings

_KEY = "store_id, item_id, date"


def sorted_sales(
    workspace: Workspace,
    settings: Settings,
    groups: Sequence[LoadedGroup],
    schema: pa.Schema,
) -> pa.RecordBatchReader:
    """The rows in the columns of `schema`, which is the table's, by store, item, date and delivery.

    Stores are in the order of the sha256 of their ids, in which packs are written. Needs the table
    `deliveries` in DuckDB. A row is left out if a later file of this ingest replaces its (store,
    date).
    """
    is_transactions = settings.sales.rows == "transactions"
    rows = united(
        [_daily_sums(group) if is_transactions else _daily_rows(group) for group in groups]
    )
    delivered_columns = {column for group in groups for column in group.types} | set(
        _KEY.split(", ")
    )
    added_columns = {
        "delivered_at": "make_timestamptz(deliveries.__delivered) AS delivered_at",
        "op": f"'{'add' if is_transactions else 'set'}' AS op",
    }
    columns = [
        added_columns.get(field.name) or _column(field, field.name in delivered_columns)
        for field in schema
    ]
    stores = " UNION ".join(f"SELECT store_id FROM {group.files.table}" for group in groups)
    workspace.run(
        "CREATE OR REPLACE TEMP TABLE store_order AS SELECT store_id,"
        f" row_number() OVER (ORDER BY sha256(store_id)) AS place FROM ({stores} UNION SELECT '')"
    )
    return workspace.stream(
        f"SELECT {', '.join(columns)}"
        f" FROM {rows} r JOIN deliveries USING ({FILE})"
        f" JOIN store_order ON store_order.store_id = r.store_id {_without_replaced(groups)}"
        " ORDER BY store_order.place, r.item_id, r.date, deliveries.__delivered"
    )


def newest_sales(workspace: Workspace, groups: Sequence[LoadedGroup]) -> date | None:
    """The last date of the files that has sales.

    Rows without sales do not count, and days to come do not, of which zeros may be filled in.
    """
    days = [
        workspace.run(
            f"SELECT max(date) FROM {group.files.table} WHERE ({group.values['sales']}) IS NOT NULL"
            f" AND date <= DATE '{group.files.today}'"
        )[0][0]
        for group in groups
        if "sales" in group.values
    ]
    return max((day for day in days if day is not None), default=None)


def replaced_dates(groups: Sequence[LoadedGroup]) -> str | None:
    """SQL of (store_id, date, __delivered) for each (store, date) that a file replaces.

    `__delivered` is the latest delivery of such a file. None if no file replaces earlier rows.
    """
    selects = []
    for group in groups:
        numbers = [
            str(number)
            for number, file in enumerate(group.files.files, group.files.first)
            if file.replaces
        ]
        if numbers:
            selects.append(
                f"SELECT store_id, date, {FILE} FROM {group.files.table}"
                f" WHERE {FILE} IN ({', '.join(numbers)})"
            )
    if not selects:
        return None
    rows = " UNION ALL ".join(selects)
    return (
        f"SELECT store_id, date, max(__delivered) AS __delivered FROM ({rows})"
        f" JOIN deliveries USING ({FILE}) GROUP BY store_id, date"
    )


def _column(field: pa.Field, is_delivered: bool) -> str:
    if field.name in _KEY.split(", "):
        return f"r.{field.name}"
    if is_delivered:
        return f"r.{value_column(field.name)} AS {quote_name(field.name)}"
    sql_type = "DOUBLE" if pa.types.is_floating(field.type) else "VARCHAR"
    return f"CAST(NULL AS {sql_type}) AS {quote_name(field.name)}"


def _daily_rows(group: LoadedGroup) -> str:
    further = "".join(f", {sql} AS {value_column(column)}" for column, sql in group.values.items())
    return f"SELECT {FILE}, {_KEY}{further} FROM {group.files.table}"


def _daily_sums(group: LoadedGroup) -> str:
    """The sums of each file's sales by day, added in the order of the file: always the same sum.

    Other columns have the value of the day's last row.
    """
    further = "".join(
        f", sum({sql} ORDER BY rowid) AS {value_column(column)}"
        if column == "sales"
        else f", arg_max({sql}, rowid) AS {value_column(column)}"
        for column, sql in group.values.items()
    )
    return f"SELECT {FILE}, {_KEY}{further} FROM {group.files.table} GROUP BY {FILE}, {_KEY}"


def _without_replaced(groups: Sequence[LoadedGroup]) -> str:
    replaced = replaced_dates(groups)
    if replaced is None:
        return ""
    return (
        f"WHERE NOT EXISTS (SELECT 1 FROM ({replaced}) t WHERE t.store_id = r.store_id"
        " AND t.date = r.date AND t.__delivered > deliveries.__delivered)"
    )
