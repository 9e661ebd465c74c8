"""The items of a store, read from its parts."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from api.store.part_cache import PartCache
from api.store.snapshot import ForecastDay, StoreForecast, finite

_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Item:
    item_id: str
    days: tuple[ForecastDay, ...]


@dataclass(frozen=True, slots=True)
class ItemPage:
    """`next_row` is the row of the store with which the next page begins, None on the last page."""

    items: tuple[Item, ...]
    total: int
    next_row: int | None


NO_ITEMS = ItemPage((), 0, None)


def item_page(parts: PartCache, store: StoreForecast, first_row: int, size: int) -> ItemPage:
    """Up to `size` items, beginning with the store's row `first_row`.

    NO_ITEMS for a store without items. A part that is not cached is fetched, which blocks.
    Raises NotFoundError, StorageError or CorruptError.
    """
    rows = _rows(parts, store)
    if _has_no_items(store, rows):
        return NO_ITEMS
    rows_read = size * max(len(store.days), 1) + 1
    items = list(_group(rows.slice(first_row, rows_read)))
    while len(items) <= size and first_row + rows_read < rows.num_rows:
        rows_read *= 2
        items = list(_group(rows.slice(first_row, rows_read)))
    page = items[:size]
    next_row = first_row + sum(len(item.days) for item in page)
    return ItemPage(tuple(page), store.items, next_row if next_row < rows.num_rows else None)


def find_item(parts: PartCache, store: StoreForecast, item_id: str) -> Item | None:
    """One item, searched by bisection: the rows of a store are sorted by item.

    Blocks and raises as `item_page` does.
    """
    rows = _rows(parts, store)
    if _has_no_items(store, rows):
        return None
    ids = rows.column("item_id")
    low, high = 0, rows.num_rows
    while low < high:
        middle = (low + high) // 2
        if ids[middle].as_py() < item_id:
            low = middle + 1
        else:
            high = middle
    item = next(_group(rows.slice(low, max(len(store.days), 1))), None)
    return item if item is not None and item.item_id == item_id else None


def search_items(
    parts: PartCache, store: StoreForecast, search: str, first: int, size: int
) -> tuple[ItemPage, int]:
    """Up to `size` items whose id holds `search`, from the one numbered `first` on.

    Returns them with the number of all that match; NO_ITEMS and 0 for a store without items. Case
    does not count. Blocks and raises as `item_page` does.
    """
    rows = _rows(parts, store)
    if _has_no_items(store, rows):
        return NO_ITEMS, 0
    ids = rows.column("item_id")
    if search:
        if not search.isascii():
            ids, search = pc.utf8_normalize(ids, "NFKC"), unicodedata.normalize("NFKC", search)
        rows = rows.filter(pc.match_substring(ids, search, ignore_case=True))
        ids = rows.column("item_id")
    starts = _starts(ids)
    page = starts[first : first + size + 1]
    end = page[size] if len(page) > size else rows.num_rows
    begin = page[0] if page else rows.num_rows
    items = tuple(_group(rows.slice(begin, end - begin)))
    return ItemPage(items, store.items, None), len(starts)


def item_accuracy(
    parts: PartCache, store: StoreForecast, earlier: StoreForecast, item_ids: Sequence[str]
) -> dict[str, float]:
    """How far the forecast of `earlier`, of a week before, was off in the week since: by item.

    Σ|forecast − sales| / Σ sales, over the days whose sales the parts of `store` have. Items
    without sales are left out. Blocks and raises as `item_page` does.
    """
    sold = {
        (item.item_id, day.target_date - _WEEK): day.last_week
        for item in _items(parts, store, item_ids)
        for day in item.days
        if day.days_ahead <= _WEEK.days
    }
    errors: dict[str, float] = dict.fromkeys(item_ids, 0.0)
    totals = dict(errors)
    for item in _items(parts, earlier, item_ids):
        for day in item.days:
            actual = sold.get((item.item_id, day.target_date))
            if actual is not None and day.predicted is not None:
                errors[item.item_id] += abs(day.predicted - actual)
                totals[item.item_id] += actual
    return {name: errors[name] / total for name, total in totals.items() if total > 0}


def _items(parts: PartCache, store: StoreForecast, item_ids: Sequence[str]) -> Iterator[Item]:
    rows = _rows(parts, store)
    return _group(rows.filter(pc.is_in(rows.column("item_id"), pa.array(item_ids, pa.string()))))


def _starts(ids: pa.ChunkedArray) -> list[int]:
    """The rows with which another item begins."""
    if not len(ids):
        return []
    whole = ids.combine_chunks()
    changes = pc.not_equal(whole.slice(1), whole.slice(0, len(whole) - 1))
    return [0, *(row + 1 for row in pc.indices_nonzero(changes).to_pylist())]


def _has_no_items(store: StoreForecast, rows: pa.Table) -> bool:
    """Whether the only series of the store is the store itself, with the item id ""."""
    return rows.num_rows == 0 or (store.items <= 1 and rows.column("item_id")[0].as_py() == "")


def _rows(parts: PartCache, store: StoreForecast) -> pa.Table:
    tables = [
        parts.rows(store.store_id, part_range) for part_range in store.parts if part_range.rows
    ]
    if not tables:
        return pa.table({"item_id": pa.array([], pa.string())})
    if len(tables) == 1:
        return tables[0]
    tables.sort(key=lambda table: table.column("item_id")[0].as_py())
    return pa.concat_tables(tables)


def _last_week(rows: pa.Table) -> list[float | None]:
    """None in files of parts that a version without this column has made."""
    if "last_week" not in rows.column_names:
        return [None] * rows.num_rows
    values: list[float | None] = rows.column("last_week").to_pylist()
    return values


def _group(rows: pa.Table) -> Iterator[Item]:
    """Consecutive rows of one item as an Item."""
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
    columns.append(_last_week(rows))
    current: str | None = None
    days: list[ForecastDay] = []
    for item_id, target_date, days_ahead, predicted, lower, upper, method, last_week in zip(
        *columns, strict=True
    ):
        if item_id != current:
            if current is not None:
                yield Item(current, tuple(days))
            current, days = item_id, []
        days.append(
            ForecastDay(
                target_date,
                days_ahead,
                finite(predicted),
                finite(lower),
                finite(upper),
                method,
                last_week=finite(last_week),
            )
        )
    if current is not None:
        yield Item(current, tuple(days))
