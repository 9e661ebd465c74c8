"""The items of a store, read page by page from its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from api.parts import PartCache
from api.snapshot import Day, StoreForecast, finite


@dataclass(frozen=True, slots=True)
class Item:
    item_id: str
    days: tuple[Day, ...]


@dataclass(frozen=True, slots=True)
class ItemPage:
    """`next_row` is where the next page begins among the store's rows, None on the last one."""

    items: tuple[Item, ...]
    total: int
    next_row: int | None


NO_ITEMS = ItemPage((), 0, None)


def page(parts: PartCache, store: StoreForecast, first_row: int, size: int) -> ItemPage:
    """`size` items from the store's row `first_row` on; none for a store without items."""
    rows = _rows(parts, store)
    if has_no_items(store, rows):
        return NO_ITEMS
    wanted = size * max(len(store.days), 1) + 1
    found = list(_group(rows.slice(first_row, wanted)))
    while len(found) <= size and first_row + wanted < rows.num_rows:
        wanted *= 2
        found = list(_group(rows.slice(first_row, wanted)))
    shown = found[:size]
    used = first_row + sum(len(item.days) for item in shown)
    return ItemPage(tuple(shown), store.items, used if used < rows.num_rows else None)


def one(parts: PartCache, store: StoreForecast, item_id: str) -> Item | None:
    """One item, found by bisection: a store's rows are sorted by item."""
    rows = _rows(parts, store)
    if has_no_items(store, rows):
        return None
    ids = rows.column("item_id")
    low, high = 0, rows.num_rows
    while low < high:
        middle = (low + high) // 2
        if ids[middle].as_py() < item_id:
            low = middle + 1
        else:
            high = middle
    wanted = max(len(store.days), 1)
    found = next(_group(rows.slice(low, wanted)), None)
    return found if found is not None and found.item_id == item_id else None


def has_no_items(store: StoreForecast, rows: pa.Table) -> bool:
    """Whether the store's one series is the store itself, item id ""."""
    return rows.num_rows == 0 or (store.items <= 1 and rows.column("item_id")[0].as_py() == "")


def _rows(parts: PartCache, store: StoreForecast) -> pa.Table:
    tables = [parts.rows(store.store_id, where) for where in store.parts if where.rows]
    if not tables:
        return pa.table({"item_id": pa.array([], pa.string())})
    if len(tables) == 1:
        return tables[0]
    tables.sort(key=lambda table: table.column("item_id")[0].as_py())
    return pa.concat_tables(tables)


def _group(rows: pa.Table) -> Iterator[Item]:
    columns = [
        rows.column(name).to_pylist()
        for name in (
            "item_id",
            "target_date",
            "days_ahead",
            "predicted_sales",
            "lower_80",
            "upper_80",
            "method",
        )
    ]
    current: str | None = None
    days: list[Day] = []
    for item_id, target_date, days_ahead, predicted, lower, upper, method in zip(
        *columns, strict=True
    ):
        if item_id != current:
            if current is not None:
                yield Item(current, tuple(days))
            current, days = item_id, []
        days.append(
            Day(target_date, days_ahead, finite(predicted), finite(lower), finite(upper), method)
        )
    if current is not None:
        yield Item(current, tuple(days))
