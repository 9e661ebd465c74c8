"""Drift and sanity: whether a night looks like the nights before it. Pure.

Nothing here stops a release, which is for the gates; it is what a person should look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.receipts import Drift, Level
from ray_job.outcomes import matrix
from ray_job.panel import Floats
from ray_job.scoring import Sold
from ray_job.settings import Sanity

_NAMED = 100
_FEW = 5
_LEAST_STORES = 5
"""A region of fewer open stores is shown and never warned of: one store's promotion moves it."""


def drift(
    rows: pa.Table,
    *,
    as_of: date,
    regions: Mapping[str, str | None],
    sold: Sold,
    limits: Sanity,
) -> Drift:
    """The figures of a merged release; `regions` of stores. Stores that nobody expects don't count.

    `rows` are of RELEASE_SCHEMA; `sold` are the totals of the stores that the run looked at.
    """
    rows = rows.filter(rows["expected"])
    expected = max(rows.num_rows, 1)
    own = pc.fill_null(pc.equal(rows["as_of"], pa.scalar(as_of, pa.date32())), False)
    tonight = rows.filter(own)
    predicted, usual = (_matrix(tonight, name) for name in ("predicted", "usual"))
    silent = _silent(rows, as_of, sold, limits.silent_days)
    found = Drift(
        total=_level(predicted, usual, None),
        regions=tuple(_by_region(tonight["store_id"].to_pylist(), predicted, usual, regions)),
        carried_share=_count(pc.and_(pc.is_valid(rows["as_of"]), pc.invert(own))) / expected,
        fallback_share=_count(pc.equal(rows["outcome"], "fallback")) / expected,
        missing_weather_share=_missing_weather(tonight) / expected,
        silent_days=limits.silent_days,
        silent=len(silent),
        silent_share=len(silent) / expected,
        silent_stores=tuple(silent[:_NAMED]),
        data_through=_data_through(rows, as_of),
    )
    return found.model_copy(update={"warnings": tuple(_warnings(found, rows.num_rows, limits))})


def _silent(rows: pa.Table, as_of: date, sold: Sold, days: int) -> list[str]:
    """The stores without sales for so many days, those that stopped first first.

    A Sunday that is known to be closed is a day of which the sales are known, and would interrupt
    every silence. So what counts is the first day without sales after the last one with some. Of
    stores that the run did not look at, data through decides.
    """
    since = {
        store: stopped
        for store, stopped in zip(rows["store_id"].to_pylist(), _after(rows), strict=True)
        if stopped is not None
    }
    since = {
        store: day for store, day in {**since, **_gaps(sold, as_of)}.items() if day is not None
    }
    open_stores = rows.filter(pc.not_equal(rows["outcome"], "closed"))["store_id"].to_pylist()
    newest = as_of - timedelta(days=days - 1)
    found = [(since[store], store) for store in open_stores if since.get(store, as_of) <= newest]
    return [store for _, store in sorted(found)]


def _after(rows: pa.Table) -> list[date | None]:
    """The day after data through."""
    return [
        None if day is None else day + timedelta(days=1) for day in rows["data_through"].to_pylist()
    ]


def _gaps(sold: Sold, as_of: date) -> dict[str, date | None]:
    """The first day without known sales after the last one with some; None where there is none."""
    if not len(sold.store_ids):
        return {}
    n = sold.totals.shape[1]
    places = np.arange(n)
    last = np.where(sold.totals > 0, places, -1).max(axis=1)
    missing = np.isnan(sold.totals) & (places > last[:, None])
    first = np.where(missing.any(axis=1), missing.argmax(axis=1), -1)
    return {
        store: None if place < 0 else as_of - timedelta(days=int(n - 1 - place))
        for store, place in zip(sold.store_ids, first, strict=True)
    }


def _data_through(rows: pa.Table, as_of: date) -> dict[date, int]:
    counted = Counter(day for day in rows["data_through"].to_pylist() if day is not None)
    return {day: counted[day] for day in sorted(counted) if day < as_of}


def _missing_weather(tonight: pa.Table) -> int:
    """Stores for which the weather of some target date was not delivered."""
    lists = tonight["missing"].combine_chunks()
    at = pc.list_parent_indices(lists)
    without = pc.match_substring_regex(pc.list_flatten(lists), r"(^|,)weather(,|$)")
    return len(pc.unique(at.filter(without)))


def _matrix(tonight: pa.Table, name: str) -> Floats:
    return matrix(tonight[name]) if tonight.num_rows else np.empty((0, 0))


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


def _warnings(found: Drift, expected: int, limits: Sanity) -> list[str]:
    told = []
    if found.silent and found.silent_share >= limits.silent_share:
        named = ", ".join(found.silent_stores[:_FEW]) + (" …" if found.silent > _FEW else "")
        told.append(
            f"{found.silent} of {expected} stores have sent no sales for {found.silent_days} days"
            f" or more: {named}"
        )
    for share, limit, what in (
        (found.carried_share, limits.carried_share, "have no newer forecast than an earlier one"),
        (found.fallback_share, limits.fallback_share, "are forecast by the simple rule"),
        (
            found.missing_weather_share,
            limits.missing_weather_share,
            "lack the weather of a target date",
        ),
    ):
        if share and share >= limit:
            told.append(f"{share:.1%} of {expected} stores {what}")
    for level in (found.total, *found.regions):
        if level.ratio is None or (level.region is not None and level.stores < _LEAST_STORES):
            continue
        if max(level.ratio, 1 / level.ratio) >= limits.level_factor:
            where = "in all" if level.region is None else f"in region {level.region}"
            told.append(f"the forecasts {where} are {level.ratio:.2f} times the usual sales")
    return told


def _count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)
