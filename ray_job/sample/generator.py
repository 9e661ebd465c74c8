"""Raw tables of generated stores: sales, known-ahead columns, weather, holidays and stores.

All values are drawn at random from a seed. Only the public holidays are real: those of the German
states, which are the regions. Sales are in currency, hundreds to thousands per day and store.

- The sales of a store have a level by size and format, a trend, effects of weekday, season, the
  weeks before Christmas, the day before a holiday, promos (Monday to Saturday of every other week),
  rain and warmth, and autoregressive noise. `customers` follows the sales.
- Stores are closed (`open` 0, `sales` 0) on Sundays and public holidays. Stations are always open.
- Some stores are special, by number: 5 has been open for 3 days, 6 for 40 days. 7 was closed from
  180 to 60 days before the end. 9 has been closed for 10 days and stays closed. 10, 25, 40, … are
  stations. Of 3, 11, 19, … whole weeks are missing, but never in the first or last two weeks.
- Items have a popularity by Zipf's law and Poisson units. A third of them is in each promo. A few
  rows are returns (negative sales). Only the first store can have more items than the others.
- The weather of days ahead is the weather that then happens: a forecast without error.

The same spec gives the same tables. A store's series depend on the seed, the days and its number of
items, but not on the number of stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ray_job.bucket.errors import InputError
from ray_job.sample import effects

MAX_BLOCK_ROWS: Final = 2_000_000
_MAX_DAYS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """What to generate: the sales of `days` days, of which `last_day` is the last.

    The tables have no column item_id if every store has a single item. `big_store_items` is the
    number of items of the first store; a store with a single item then has the item id "". Weather,
    holidays and known-ahead columns continue for `days_ahead` days after `last_day`.
    """

    last_day: date
    stores: int = 40
    days: int = 500
    items_per_store: int = 1
    big_store_items: int | None = None
    seed: int = 17
    days_ahead: int = 14

    def __post_init__(self) -> None:
        """Raise InputError for numbers that are too small or too large."""
        if min(self.stores, self.days, self.items_per_store, self.items_of(1)) < 1:
            raise InputError(f"{self}: stores, days and items must be at least 1")
        if self.days_ahead < 0 or self.seed < 0:
            raise InputError(f"{self}: days_ahead and seed must not be negative")
        if self.days + self.days_ahead > _MAX_DAYS:
            raise InputError(f"{self}: days and days_ahead are at most {_MAX_DAYS} together")

    @property
    def first_day(self) -> date:
        return self.last_day - timedelta(days=self.days - 1)

    @property
    def has_items(self) -> bool:
        return max(self.items_per_store, self.items_of(1)) > 1

    def items_of(self, number: int) -> int:
        """The number of items of the store `number` (from 1). 1 means a store without items."""
        if number == 1 and self.big_store_items is not None:
            return self.big_store_items
        return self.items_per_store


class SalesBlock(NamedTuple):
    """Rows of some series: past sales, and known-ahead columns of the days after them."""

    sales: pa.Table
    known_ahead: pa.Table


@dataclass(frozen=True, slots=True)
class Sample:
    """The raw tables. `sales` and `known_ahead` are sorted by store, item and date.

    - sales: store_id, date, [item_id], sales, open, promo, customers
    - known_ahead: store_id, date, [item_id], open, promo
    - weather: region, date, temperature_mean (°C), precipitation (mm), wind (m/s)
    - holidays: region, date, holiday
    - stores: store_id, region, name, format, size_m2, opened
    """

    spec: SampleSpec
    sales: pa.Table
    known_ahead: pa.Table
    weather: pa.Table
    holidays: pa.Table
    stores: pa.Table


def generate(spec: SampleSpec) -> Sample:
    """All tables of `spec`, in memory: about 40 bytes per row of sales."""
    blocks = list(iter_blocks(spec))
    return Sample(
        spec=spec,
        sales=pa.concat_tables(block.sales for block in blocks),
        known_ahead=pa.concat_tables(block.known_ahead for block in blocks),
        weather=weather(spec),
        holidays=holidays(spec),
        stores=stores(spec),
    )


def iter_sales(
    spec: SampleSpec, stores_per_block: int = 500, max_rows: int = MAX_BLOCK_ROWS
) -> Iterator[pa.Table]:
    """The sales of `generate`, the same rows in the same order, in tables of bounded size."""
    return (block.sales for block in iter_blocks(spec, stores_per_block, max_rows))


def iter_blocks(
    spec: SampleSpec, stores_per_block: int = 500, max_rows: int = MAX_BLOCK_ROWS
) -> Iterator[SalesBlock]:
    """The rows of `generate` in blocks of at most so many stores and rows.

    A big store is cut between groups of 64 items. A block has at least one group, even if that has
    more than `max_rows` rows.
    """
    days = _calendar(spec)
    for spans in _spans_of_blocks(spec, stores_per_block, max_rows):
        yield _block(spec, days, spans)


def weather(spec: SampleSpec) -> pa.Table:
    """The weather of every region, from the first day to the last day ahead."""
    days = _calendar(spec)
    return pa.table(
        {
            "region": np.repeat(effects.REGIONS, len(days.dates)),
            "date": np.tile(days.dates, len(effects.REGIONS)),
            "temperature_mean": days.temperature.ravel(),
            "precipitation": days.precipitation.ravel(),
            "wind": days.wind.ravel(),
        }
    )


def holidays(spec: SampleSpec) -> pa.Table:
    """The public holidays of every region, from the first day to the last day ahead."""
    days = _calendar(spec)
    rows = [
        (region, day, names[day])
        for region, names in zip(effects.REGIONS, days.holidays, strict=True)
        for day in days.dates
        if day in names
    ]
    return pa.table(
        {
            "region": pa.array([row[0] for row in rows], pa.string()),
            "date": np.array([row[1] for row in rows], dtype="datetime64[D]"),
            "holiday": pa.array([row[2] for row in rows], pa.string()),
        }
    )


def stores(spec: SampleSpec) -> pa.Table:
    """One row per store, in the order of their numbers."""
    rows = [_store(spec, number) for number in range(1, spec.stores + 1)]
    return pa.table(
        {
            "store_id": [store.store_id for store in rows],
            "region": [effects.REGIONS[store.region] for store in rows],
            "name": [f"Store {store.number}" for store in rows],
            "format": [store.format for store in rows],
            "size_m2": [store.size_m2 for store in rows],
            "opened": np.array([store.opened for store in rows]),
        }
    )


class _Span(NamedTuple):
    """Items `begin` to `end` (exclusive, from 0) of the store `number`."""

    number: int
    begin: int
    end: int


def _spans_of_blocks(
    spec: SampleSpec, stores_per_block: int, max_rows: int
) -> Iterator[list[_Span]]:
    """The spans of each block, in order."""
    groups = max_rows // (spec.days + spec.days_ahead) // effects.ITEM_GROUP
    most_items = max(groups, 1) * effects.ITEM_GROUP
    block: list[_Span] = []
    items = 0
    for number in range(1, spec.stores + 1):
        for begin in range(0, spec.items_of(number), most_items):
            span = _Span(number, begin, min(begin + most_items, spec.items_of(number)))
            size = span.end - span.begin
            if block and (len(block) >= stores_per_block or items + size > most_items):
                yield block
                block, items = [], 0
            block.append(span)
            items += size
    yield block


def _calendar(spec: SampleSpec) -> effects.Calendar:
    return effects.calendar(
        spec.seed, np.datetime64(spec.first_day, "D"), spec.days + spec.days_ahead
    )


def _store(spec: SampleSpec, number: int) -> effects.Store:
    first, last = np.datetime64(spec.first_day, "D"), np.datetime64(spec.last_day, "D")
    return effects.describe(spec.seed, number, first, last)


def _block(spec: SampleSpec, days: effects.Calendar, spans: list[_Span]) -> SalesBlock:
    past = _SampleRows(slice(0, spec.days))
    ahead = _SampleRows(slice(spec.days, None))
    for span in spans:
        store_days = effects.store_days(spec.seed, _store(spec, span.number), days, spec.days)
        for first_item, series in _series(spec, store_days, span):
            past.add(store_days, first_item, series)
            ahead.add(store_days, first_item, series)
    return SalesBlock(
        sales=past.table("sales", "open", "promo", "customers", has_items=spec.has_items),
        known_ahead=ahead.table("open", "promo", has_items=spec.has_items),
    )


def _series(
    spec: SampleSpec, store_days: effects.SimulatedStore, span: _Span
) -> Iterator[tuple[int, effects.Series]]:
    """The series of a span in groups, each with the number of its first item.

    Items are numbered from 1. 0 is the series of a store without items.
    """
    items = spec.items_of(span.number)
    if items == 1:
        yield 0, effects.whole_store(spec.seed, store_days)
        return
    shares = effects.popularity(spec.seed, span.number, items)
    for begin in range(span.begin, span.end, effects.ITEM_GROUP):
        group = shares[begin : begin + effects.ITEM_GROUP]
        number = begin // effects.ITEM_GROUP
        yield begin + 1, effects.item_group(spec.seed, store_days, number, group)


class _SampleRows:
    """Collects the columns of the delivered rows of some days."""

    def __init__(self, days: slice) -> None:
        self._days = days
        self._columns: dict[str, list[npt.NDArray[np.generic]]] = {}

    def add(
        self, store_days: effects.SimulatedStore, first_item: int, series: effects.Series
    ) -> None:
        """Add series of a store. Their items are numbered from `first_item`."""
        days = self._days
        delivered = store_days.delivered[days]
        count, rows_each = len(series.sales), int(delivered.sum())
        columns = {
            "store_id": np.full(count * rows_each, store_days.store.number, np.int32),
            "date": np.tile(store_days.calendar.dates[days][delivered], count),
            "item_id": np.arange(first_item, first_item + count, dtype=np.int32).repeat(rows_each),
            "sales": series.sales[:, days][:, delivered].ravel(),
            "open": np.tile(store_days.open[days][delivered].astype(np.int8), count),
            "promo": series.promo[:, days][:, delivered].ravel().astype(np.int8),
            "customers": series.customers[:, days][:, delivered].ravel(),
        }
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)

    def table(self, *values: str, has_items: bool) -> pa.Table:
        """The collected rows with store_id, date, item_id (if `has_items`) and these columns."""
        columns = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        texts = {
            "store_id": _texts(columns["store_id"], effects.store_id),
            "item_id": _texts(columns["item_id"], lambda item: f"i{item:06d}" if item else ""),
        }
        names = ["store_id", "date", *(["item_id"] if has_items else []), *values]
        return pa.table({name: texts.get(name, columns[name]) for name in names})


def _texts(numbers: npt.NDArray[np.generic], name: Callable[[int], str]) -> pa.Array:
    """The text `name(number)` of every number. Each distinct number is formatted once."""
    encoded = pa.array(numbers).dictionary_encode()
    names = pa.array([name(number) for number in encoded.dictionary.to_pylist()], pa.string())
    return names.take(encoded.indices)
