"""Figures of a night, computed from the rows of its release: levels, counts, silent stores.

The receipt, the event, the metrics and the page use this one definition. It is pure and needs Arrow
only, since the API has no numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.reasons import Outcome
from ray_job.bucket.receipts import Level

SILENT_DAYS = 3
"""The default of days without sales before the as-of after which a store counts as silent."""

FAR_OFF = 1e6
"""The factor that stands for infinity, which JSON does not have."""

_COUNTED = ("store_id", "expected", "as_of", "outcome", "data_through", "missing")
_COMPARED = ("predicted", "usual")


@dataclass(frozen=True, slots=True)
class Night:
    """Counts of expected stores. `silent` begins with the stores whose sales ended first."""

    expected: int
    carried: int
    fallback: int
    missing_weather: int
    silent: tuple[str, ...]
    total: Level
    regions: tuple[Level, ...]


def summarise_night(
    rows: pa.Table, as_of: date, regions: Mapping[str, str | None], silent_days: int
) -> Night:
    """The figures of a release's rows (RELEASE_SCHEMA), of which only expected stores count.

    `regions` maps store ids to regions. A store that is not in it counts in no region.
    """
    # Only what is counted: the lists of a release make its rows wide.
    rows = rows.select([*_COUNTED, *_COMPARED]).filter(rows["expected"])
    is_tonight = pc.fill_null(pc.equal(rows["as_of"], pa.scalar(as_of, pa.date32())), False)
    tonight = rows.filter(is_tonight)
    compared = _predicted_and_usual(tonight)
    row_regions = [regions.get(store) for store in tonight["store_id"].to_pylist()]
    return Night(
        expected=rows.num_rows,
        carried=_count(pc.and_(pc.is_valid(rows["as_of"]), pc.invert(is_tonight))),
        fallback=_count(pc.equal(rows["outcome"], Outcome.FALLBACK.value)),
        missing_weather=_missing_weather(tonight),
        silent=tuple(_silent(rows, as_of, silent_days)),
        total=_level(compared, None),
        regions=tuple(_levels_of_regions(compared, row_regions)),
    )


def is_silent(rows: pa.Table, as_of: date, days: int) -> pa.ChunkedArray:
    """Flags of the stores that have sent no sales for `days` days or more before the as-of.

    `rows` are a release's. A store is not silent if it is closed on every target date, or if it is
    not expected.
    """
    newest = pa.scalar(as_of - timedelta(days=days), pa.date32())
    owes_sales = pc.and_(rows["expected"], pc.not_equal(rows["outcome"], Outcome.CLOSED.value))
    return pc.fill_null(pc.and_(owes_sales, pc.less_equal(rows["data_through"], newest)), False)


def _silent(rows: pa.Table, as_of: date, days: int) -> list[str]:
    silent_rows = rows.filter(is_silent(rows, as_of, days)).select(["data_through", "store_id"])
    ordered = silent_rows.sort_by([("data_through", "ascending"), ("store_id", "ascending")])
    stores: list[str] = ordered["store_id"].to_pylist()
    return stores


def _missing_weather(tonight: pa.Table) -> int:
    """The number of stores that lack the weather of a target date."""
    lists = tonight["missing"].combine_chunks()
    row_numbers = pc.list_parent_indices(lists)
    is_missing = pc.match_substring_regex(pc.list_flatten(lists), r"(^|,)weather(,|$)")
    return len(pc.unique(row_numbers.filter(is_missing)))


def is_late(rows: pa.Table, as_of: date) -> pa.ChunkedArray:
    """Flags of the rows that are made from sales which end before `as_of`."""
    return pc.fill_null(pc.less(rows["data_through"], pa.scalar(as_of, pa.date32())), False)


def level_ratios(tonight: pa.Table) -> dict[int, float]:
    """Forecasts over usual sales, by the place of the target date; one definition for all.

    Usual sales are the recent mean of the same weekday. A target date counts the stores that are
    open on it and have usual sales above 0; a date without such a store has no ratio.
    """
    days = _sums_by_day(_predicted_and_usual(tonight))
    return dict(zip(days["day"].to_pylist(), days["ratio"].to_pylist(), strict=True))


def differences(tonight: pa.Table, day: int) -> list[tuple[str, float, float]]:
    """(store, forecast, usual sales) of a target date, the largest difference first.

    `day` is the place of the target date; the stores are those that `level_ratios` counts.
    """
    compared = _predicted_and_usual(tonight)
    compared = compared.filter(pc.equal(compared["day"], day))
    stores = tonight["store_id"].combine_chunks().take(compared["row"].combine_chunks())
    rows = zip(
        stores.to_pylist(),
        compared["predicted"].to_pylist(),
        compared["usual"].to_pylist(),
        strict=True,
    )
    return sorted(rows, key=lambda row: (-abs(row[1] - row[2]), row[0]))


def level_factor(ratio: float) -> float:
    """How many times a level is too high or too low: at least 1, at most `FAR_OFF`."""
    return min(max(ratio, 1 / ratio), FAR_OFF) if ratio > 0 else FAR_OFF


def _predicted_and_usual(tonight: pa.Table) -> pa.Table:
    """(row, day, predicted, usual) of each row and target date with usual sales above 0.

    Usual sales are 0 on a day on which the store is closed.
    """
    predicted = _list_elements(tonight["predicted"])
    if pc.all(_same_lengths(tonight["predicted"], tonight["usual"])).as_py() is not False:
        usual_values = _list_values(tonight["usual"])
    else:
        usual = _list_elements(tonight["usual"])
        longest = max(1, *(pc.max(table["day"]).as_py() or 0 for table in (predicted, usual))) + 1
        matches = pc.index_in(
            _element_numbers(predicted, longest), value_set=_element_numbers(usual, longest)
        )
        usual_values = usual["value"].take(matches)
    compared = predicted.rename_columns(["row", "day", "predicted"]).append_column(
        "usual", usual_values
    )
    return compared.filter(
        pc.and_(pc.greater_equal(compared["predicted"], 0), pc.greater(compared["usual"], 0))
    )


def _list_elements(column: pa.ChunkedArray) -> pa.Table:
    """The elements of a column of lists as (row, day, value); `day` is the place in the list."""
    lists = column.combine_chunks()
    row = pc.cast(pc.list_parent_indices(lists), pa.int64())
    value = _list_values(column)
    lengths = _list_lengths(column)
    before = pc.subtract(pc.cumulative_sum(lengths), lengths)
    places = pc.subtract(pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), len(value))), 1)
    return pa.table({"row": row, "day": pc.subtract(places, before.take(row)), "value": value})


def _list_values(column: pa.ChunkedArray) -> pa.Array:
    return pc.cast(pc.list_flatten(column.combine_chunks()), pa.float64())


def _list_lengths(column: pa.ChunkedArray) -> pa.Array:
    """0 where there is no list."""
    return pc.cast(pc.fill_null(pc.list_value_length(column.combine_chunks()), 0), pa.int64())


def _same_lengths(first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.Array:
    return pc.equal(_list_lengths(first), _list_lengths(second))


def _element_numbers(elements: pa.Table, longest: int) -> pa.Array:
    """A number for each (row, day), where no list has more than `longest` elements."""
    return pc.add(pc.multiply(elements["row"], longest), elements["day"]).combine_chunks()


def _levels_of_regions(compared: pa.Table, row_regions: list[str | None]) -> list[Level]:
    """The level of each region, in order of names. `row_regions` has the region of each row."""
    names = sorted({region for region in row_regions if region is not None})
    numbers = dict(zip([None, *names], range(-1, len(names)), strict=True))
    of_row = pa.array([numbers[region] for region in row_regions], pa.int64())
    of_element = of_row.take(compared["row"].combine_chunks())
    counts = {row["values"]: row["counts"] for row in pc.value_counts(of_element).to_pylist()}
    by_region = compared.take(pc.sort_indices(of_element)).combine_chunks()
    levels, begin = [], counts.get(-1, 0)
    for number, name in enumerate(names):
        count = counts.get(number, 0)
        levels.append(_level(by_region.slice(begin, count), name))
        begin += count
    return levels


def _level(compared: pa.Table, region: str | None) -> Level:
    if not compared.num_rows:
        return Level(region=region)
    ratios = _sums_by_day(compared)["ratio"]
    return Level(
        region=region,
        stores=pc.count_distinct(compared["row"]).as_py(),
        forecast_per_store=pc.mean(compared["predicted"]).as_py(),
        usual_per_store=pc.mean(compared["usual"]).as_py(),
        ratio=pc.mean(ratios).as_py(),
        lowest=pc.min(ratios).as_py(),
        highest=pc.max(ratios).as_py(),
    )


def _sums_by_day(compared: pa.Table) -> pa.Table:
    """(day, predicted_sum, usual_sum, ratio), sorted by day."""
    # Sums of one thread are always added in the same order.
    days = compared.group_by("day", use_threads=False).aggregate(
        [("predicted", "sum"), ("usual", "sum")]
    )
    return days.append_column("ratio", pc.divide(days["predicted_sum"], days["usual_sum"])).sort_by(
        "day"
    )


def _count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)
