"""Drift and sanity: whether a night looks like the nights before it. Pure.

Nothing here stops a release, which is for the gates; it is what a person should look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import sanity
from ray_job.bucket.receipts import Drift
from ray_job.settings import Sanity

_NAMED = 100
_FEW = 5
_LEAST_STORES = 5
"""A region of fewer open stores is shown and never warned of: one store's promotion moves it."""


def drift(
    rows: pa.Table, *, as_of: date, regions: Mapping[str, str | None], limits: Sanity
) -> Drift:
    """The figures of a merged release; `regions` of stores. Stores that nobody expects don't count.

    `rows` are of RELEASE_SCHEMA.
    """
    night = sanity.summarise_night(rows, as_of, regions, limits.silent_days)
    expected = max(night.expected, 1)
    found = Drift(
        total=night.total,
        regions=night.regions,
        carried_share=night.carried / expected,
        fallback_share=night.fallback / expected,
        missing_weather_share=night.missing_weather / expected,
        silent_days=limits.silent_days,
        silent=len(night.silent),
        silent_share=len(night.silent) / expected,
        silent_stores=night.silent[:_NAMED],
        data_through=_data_through(rows.filter(rows["expected"]), as_of),
    )
    return found.model_copy(update={"warnings": tuple(_warnings(found, night.expected, limits))})


def _data_through(rows: pa.Table, as_of: date) -> dict[date, int]:
    counted = pc.value_counts(rows["data_through"].drop_null()).to_pylist()
    days = {row["values"]: row["counts"] for row in counted if row["values"] < as_of}
    return dict(sorted(days.items()))


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
