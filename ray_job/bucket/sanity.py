"""What the rows of a release say of their night: levels, shares, silence.

One definition for the receipt, the event, the metrics and the page. Pure, and in Arrow alone: the
API has no numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.receipts import Level

SILENT_DAYS = 3
"""A store without sales for so many days before the as-of has gone silent, by default."""


@dataclass(frozen=True, slots=True)
class Night:
    """Counts are of expected stores. `silent`: those that stopped first before the others."""

    expected: int
    carried: int
    fallback: int
    missing_weather: int
    silent: tuple[str, ...]
    total: Level
    regions: tuple[Level, ...]


def look(rows: pa.Table, as_of: date, regions: Mapping[str, str | None], silent_days: int) -> Night:
    """`rows` are a release's (RELEASE_SCHEMA), `regions` those of stores that have one."""
    rows = rows.filter(rows["expected"])
    own = pc.fill_null(pc.equal(rows["as_of"], pa.scalar(as_of, pa.date32())), False)
    tonight = rows.filter(own)
    compared = _compared(tonight)
    places = [regions.get(store) for store in tonight["store_id"].to_pylist()]
    return Night(
        expected=rows.num_rows,
        carried=_count(pc.and_(pc.is_valid(rows["as_of"]), pc.invert(own))),
        fallback=_count(pc.equal(rows["outcome"], "fallback")),
        missing_weather=_missing_weather(tonight),
        silent=tuple(_silent(rows, as_of, silent_days)),
        total=_level(compared, None),
        regions=tuple(_by_region(compared, places)),
    )


def is_silent(rows: pa.Table, as_of: date, days: int) -> pa.ChunkedArray:
    """Which stores have sent no sales for `days` days or more before the release's as-of.

    Those that are closed on every target date, or that nobody expects, owe none.
    """
    newest = pa.scalar(as_of - timedelta(days=days), pa.date32())
    owes = pc.and_(rows["expected"], pc.not_equal(rows["outcome"], "closed"))
    return pc.fill_null(pc.and_(owes, pc.less_equal(rows["data_through"], newest)), False)


def _silent(rows: pa.Table, as_of: date, days: int) -> list[str]:
    found = rows.filter(is_silent(rows, as_of, days)).select(["data_through", "store_id"])
    stores: list[str] = found.sort_by([("data_through", "ascending"), ("store_id", "ascending")])[
        "store_id"
    ].to_pylist()
    return stores


def _missing_weather(tonight: pa.Table) -> int:
    """Stores for which the weather of some target date was not delivered."""
    lists = tonight["missing"].combine_chunks()
    at = pc.list_parent_indices(lists)
    without = pc.match_substring_regex(pc.list_flatten(lists), r"(^|,)weather(,|$)")
    return len(pc.unique(at.filter(without)))


def _compared(tonight: pa.Table) -> pa.Table:
    """(row, day, predicted, usual) of stores that are open on a target date and have sold on that
    weekday lately."""
    predicted, usual = _cells(tonight["predicted"]), _cells(tonight["usual"])
    longest = max(1, *(pc.max(table["day"]).as_py() or 0 for table in (predicted, usual))) + 1
    at = pc.index_in(_places(predicted, longest), value_set=_places(usual, longest))
    found = predicted.rename_columns(["row", "day", "predicted"]).append_column(
        "usual", usual["value"].take(at)
    )
    return found.filter(pc.and_(pc.greater(found["predicted"], 0), pc.greater(found["usual"], 0)))


def _cells(column: pa.ChunkedArray) -> pa.Table:
    """A column of lists as (row, day, value)."""
    lists = column.combine_chunks()
    row = pc.cast(pc.list_parent_indices(lists), pa.int64())
    value = pc.cast(pc.list_flatten(lists), pa.float64())
    lengths = pc.cast(pc.fill_null(pc.list_value_length(lists), 0), pa.int64())
    before = pc.subtract(pc.cumulative_sum(lengths), lengths)
    day = pc.subtract(pa.array(range(len(value)), pa.int64()), before.take(row))
    return pa.table({"row": row, "day": day, "value": value})


def _places(cells: pa.Table, longest: int) -> pa.Array:
    return pc.add(pc.multiply(cells["row"], longest), cells["day"]).combine_chunks()


def _by_region(compared: pa.Table, places: list[str | None]) -> list[Level]:
    named = pa.array(places, pa.string()).take(compared["row"].combine_chunks())
    found = sorted({place for place in places if place is not None})
    return [_level(compared.filter(pc.equal(named, name)), name) for name in found]


def _level(compared: pa.Table, region: str | None) -> Level:
    if not compared.num_rows:
        return Level(region=region)
    # One thread, so that the sums are added in one order.
    days = compared.group_by("day", use_threads=False).aggregate(
        [("predicted", "sum"), ("usual", "sum")]
    )
    ratios = pc.divide(days["predicted_sum"], days["usual_sum"])
    return Level(
        region=region,
        stores=pc.count_distinct(compared["row"]).as_py(),
        forecast_per_store=pc.mean(compared["predicted"]).as_py(),
        usual_per_store=pc.mean(compared["usual"]).as_py(),
        ratio=pc.mean(ratios).as_py(),
        lowest=pc.min(ratios).as_py(),
        highest=pc.max(ratios).as_py(),
    )


def _count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)
