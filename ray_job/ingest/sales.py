"""The rows of all sales files of an ingest as one stream, sorted by store, item and date."""

# Names and texts in SQL are quoted by `workspace`.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa

from ray_job.ingest.batch import Loaded
from ray_job.ingest.load import FILE
from ray_job.ingest.workspace import Workspace, name
from ray_job.settings import Settings

_KEY = "store_id, item_id, date"


def sorted_sales(
    work: Workspace,
    settings: Settings,
    loaded: Sequence[Loaded],
    schema: pa.Schema,
) -> pa.RecordBatchReader:
    """Rows in the columns of `schema` (the table's, whose `op` follows from the settings).

    The deliveries are noted already. What an earlier file says of a (store, date) that a later one
    replaces is left out.
    """
    transactions = settings.sales.rows == "transactions"
    rows = " UNION ALL BY NAME ".join(
        _summed(one) if transactions else _daily(one) for one in loaded
    )
    held = {column for one in loaded for column in one.types} | set(_KEY.split(", "))
    made = {
        "delivered_at": "make_timestamptz(__delivered) AS delivered_at",
        "op": f"'{'add' if transactions else 'set'}' AS op",
    }
    columns = [made.get(one.name) or _column(one, one.name in held) for one in schema]
    return work.stream(
        f"SELECT {', '.join(columns)}"
        f" FROM ({rows}) r JOIN deliveries USING ({FILE}) {_not_replaced(loaded)}"
        f" ORDER BY {_KEY}, __delivered"
    )


def newest_sales(work: Workspace, loaded: Sequence[Loaded]) -> date | None:
    """The last date of the files that has sales, and not only what is known ahead."""
    days = [
        work.connection.sql(
            f"SELECT max(date) FROM {one.group.table} WHERE ({one.values['sales']}) IS NOT NULL"
        ).fetchall()[0][0]
        for one in loaded
        if "sales" in one.values
    ]
    return max((day for day in days if day is not None), default=None)


def _column(field: pa.Field, is_held: bool) -> str:
    kind = "DOUBLE" if pa.types.is_floating(field.type) else "VARCHAR"
    return name(field.name) if is_held else f"CAST(NULL AS {kind}) AS {name(field.name)}"


def _daily(loaded: Loaded) -> str:
    further = "".join(f", {sql} AS {name(column)}" for column, sql in loaded.values.items())
    return f"(SELECT {FILE}, {_KEY}{further} FROM {loaded.group.table})"


def _summed(loaded: Loaded) -> str:
    """A file's sales added up to days, in the file's order so that the sum is always the same."""
    further = "".join(
        f", sum({sql} ORDER BY rowid) AS sales"
        if column == "sales"
        else f", arg_max({sql}, rowid) AS {name(column)}"
        for column, sql in loaded.values.items()
    )
    return f"(SELECT {FILE}, {_KEY}{further} FROM {loaded.group.table} GROUP BY {FILE}, {_KEY})"


def replacing(loaded: Sequence[Loaded]) -> str | None:
    """SQL of (store_id, date, __delivered) that replacing files take out, None if there is none."""
    parts = []
    for one in loaded:
        files = [
            str(number)
            for number, source in enumerate(one.group.sources, one.group.first)
            if source.replaces
        ]
        if files:
            parts.append(
                f"SELECT store_id, date, {FILE} FROM {one.group.table}"
                f" WHERE {FILE} IN ({', '.join(files)})"
            )
    if not parts:
        return None
    return (
        f"SELECT store_id, date, max(__delivered) AS __delivered FROM ({' UNION ALL '.join(parts)})"
        f" JOIN deliveries USING ({FILE}) GROUP BY store_id, date"
    )


def _not_replaced(loaded: Sequence[Loaded]) -> str:
    taken_out = replacing(loaded)
    if taken_out is None:
        return ""
    return (
        f"WHERE NOT EXISTS (SELECT 1 FROM ({taken_out}) t WHERE t.store_id = r.store_id"
        " AND t.date = r.date AND t.__delivered > deliveries.__delivered)"
    )
