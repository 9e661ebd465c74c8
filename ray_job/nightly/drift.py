"""Drift and sanity: whether a night looks like the nights before it. Pure.

Nothing here stops a release: the gates do that. These are figures for people.
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
"""A region with fewer open stores causes no warning: one store's promotion changes its level."""


def drift(
    rows: pa.Table, *, as_of: date, regions: Mapping[str, str | None], limits: Sanity
) -> Drift:
    """The figures of a merged release; only expected stores count.

    `rows` are of RELEASE_SCHEMA, `regions` has the region of each store that has one.
    """
    night = sanity.summarise_night(rows, as_of, regions, limits.silent_days)
    expected = max(night.expected, 1)
    figures = Drift(
        total=night.total,
        regions=night.regions,
        carried_share=night.carried / expected,
        fallback_share=night.fallback / expected,
        missing_weather_share=night.missing_weather / expected,
        silent_days=limits.silent_days,
        silent=len(night.silent),
        silent_share=len(night.silent) / expected,
        silent_stores=night.silent[:_NAMED],
        data_through=_data_through(rows["data_through"].filter(rows["expected"]), as_of),
    )
    warnings = tuple(_warnings(figures, night.expected, limits))
    return figures.model_copy(update={"warnings": warnings})


def _data_through(newest: pa.ChunkedArray, as_of: date) -> dict[date, int]:
    counted = pc.value_counts(newest.drop_null()).to_pylist()
    days = {row["values"]: row["counts"] for row in counted if row["values"] < as_of}
    return dict(sorted(days.items()))


def _warnings(figures: Drift, expected: int, limits: Sanity) -> list[str]:
    sentences = []
    if figures.silent and figures.silent_share >= limits.silent_share:
        names = ", ".join(figures.silent_stores[:_FEW]) + (" …" if figures.silent > _FEW else "")
        sentences.append(
            f"{figures.silent} of {expected} stores have sent no sales for"
            f" {figures.silent_days} days or more: {names}"
        )
    for share, limit, what in (
        (figures.carried_share, limits.carried_share, "have no newer forecast than an earlier one"),
        (figures.fallback_share, limits.fallback_share, "are forecast by the simple rule"),
        (
            figures.missing_weather_share,
            limits.missing_weather_share,
            "lack the weather of a target date",
        ),
    ):
        if share and share >= limit:
            sentences.append(f"{share:.1%} of {expected} stores {what}")
    for level in (figures.total, *figures.regions):
        if level.ratio is None or (level.region is not None and level.stores < _LEAST_STORES):
            continue
        if sanity.level_factor(level.ratio) >= limits.level_factor:
            where = "in all" if level.region is None else f"in region {level.region}"
            sentences.append(f"the forecasts {where} are {level.ratio:.2f} times the usual sales")
    return sentences
