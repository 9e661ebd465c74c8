"""What the rows of a release say of their night: levels, shares, silence.

One definition for the receipt, the event, the metrics and the page. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.receipts import Level

Floats = npt.NDArray[np.float64]

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
    predicted, usual = matrix(tonight["predicted"]), matrix(tonight["usual"])
    return Night(
        expected=rows.num_rows,
        carried=_count(pc.and_(pc.is_valid(rows["as_of"]), pc.invert(own))),
        fallback=_count(pc.equal(rows["outcome"], "fallback")),
        missing_weather=_missing_weather(tonight),
        silent=tuple(_silent(rows, as_of, silent_days)),
        total=_level(predicted, usual, None),
        regions=tuple(_by_region(tonight["store_id"].to_pylist(), predicted, usual, regions)),
    )


def is_silent(rows: pa.Table, as_of: date, days: int) -> pa.ChunkedArray:
    """Which stores have sent no sales for `days` days or more before the release's as-of.

    Those that are closed on every target date, or that nobody expects, owe none.
    """
    newest = pa.scalar(as_of - timedelta(days=days), pa.date32())
    owes = pc.and_(rows["expected"], pc.not_equal(rows["outcome"], "closed"))
    return pc.fill_null(pc.and_(owes, pc.less_equal(rows["data_through"], newest)), False)


def matrix(column: pa.ChunkedArray) -> Floats:
    """A column of lists as an array, shorter ones filled up with NaN; null is NaN."""
    flat: Floats = pc.list_flatten(column).to_numpy().astype(np.float64)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    width = int(lengths.max(initial=0))
    if len(flat) == len(lengths) * width:
        return flat.reshape(len(lengths), width)
    padded = np.full((len(lengths), width), np.nan)
    padded[np.arange(width) < lengths[:, None]] = flat
    return padded


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


def _by_region(
    stores: Sequence[str],
    predicted: Floats,
    usual: Floats,
    regions: Mapping[str, str | None],
) -> list[Level]:
    places: dict[str, list[int]] = {}
    for place, store in enumerate(stores):
        region = regions.get(store)
        if region is not None:
            places.setdefault(region, []).append(place)
    return [_level(predicted[places[name]], usual[places[name]], name) for name in sorted(places)]


def _level(predicted: Floats, usual: Floats, region: str | None) -> Level:
    """Over stores that are open on a target date and have sold on that weekday lately."""
    counted = (predicted > 0) & (usual > 0)
    stores = int(counted.any(axis=1).sum())
    if not stores:
        return Level(region=region)
    forecast = np.where(counted, predicted, 0.0).sum(axis=0)
    before = np.where(counted, usual, 0.0).sum(axis=0)
    days = counted.any(axis=0)
    ratios = forecast[days] / before[days]
    number = counted.sum()
    return Level(
        region=region,
        stores=stores,
        forecast_per_store=float(forecast.sum() / number),
        usual_per_store=float(before.sum() / number),
        ratio=float(ratios.mean()),
        lowest=float(ratios.min()),
        highest=float(ratios.max()),
    )


def _count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)
