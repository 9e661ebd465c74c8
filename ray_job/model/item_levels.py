"""What items usually sell: for series without history in stores that have one.

The usual sales of an item in a store are a product: the level of the store, the level of the item,
and what days of this kind (the weekday, with or without promotion) sell beside others. So a new
item sells as it does in other stores, as far as the store sells as much as they do; an item that no
store knows sells as the items of its store usually do. Training computes the levels, and the model
holds them: no store has to be read at night, and a forecast does not depend on which other series
lie in its chunk.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ray_job.bucket.records import Record
from ray_job.data.panel import Flags, Floats, Panel
from ray_job.features.day_kinds import KINDS_OF_DAYS, WEEK, kinds_of_days

Ints = npt.NDArray[np.int64]

LEVEL_DAYS = 56
_FEWEST_DAYS = 28
"""A series with fewer known days says nothing."""
_ROUNDS = 8
_MOST_IDS = 20_000
"""At most so many stores and items have a level, those with the most series."""
_LEAST_VARIANCE, _MOST_VARIANCE = 0.01, 4.0
_LEAST_BETWEEN, _MOST_BETWEEN = 0.02, 4.0


class ItemLevels(Record):
    """The levels of a chain's stores and items. Without items there are none."""

    stores: dict[str, float] = Field(default_factory=dict)
    """Sales of a usual item of the store over those of the chain."""
    items: dict[str, float] = Field(default_factory=dict)
    """Sales a day in a usual store."""
    unknown: float = 0.0
    """The median of the items' levels."""
    days: tuple[float, ...] = (1.0,) * KINDS_OF_DAYS
    """What days of each kind sell beside others."""
    within: float = 1.0
    """The variance of a day's sales over what is usual."""
    between: float = 0.2
    """The variance of the levels of series over the product's."""
    between_unknown: float = 1.0
    """The same, if nothing were known of the item."""

    def usual(self, store: str, item: str) -> tuple[float, ...]:
        """The usual sales by kind of day; a store without a level is a usual one."""
        level = self.stores.get(store, 1.0) * self.items.get(item, self.unknown)
        return tuple(level * effect for effect in self.days)


def item_levels(panel: Panel, answers: Flags) -> ItemLevels:
    """The levels as of the end of the panel.

    `answers` (n, d) marks the days that count. The logs of the levels of stores and items are
    fitted by medians in turn (median polish: Tukey, Exploratory Data Analysis, 1977), so that no
    single series moves them. Then the level of an item becomes the mean over stores, since a
    median would be too low in sum.
    """
    days = min(LEVEL_DAYS, panel.sales.shape[1])
    known = answers[:, panel.sales.shape[1] - days : panel.sales.shape[1]]
    sales = np.where(known, np.maximum(panel.sales[:, -days:], 0.0), 0.0)
    number = known.sum(axis=1)
    means = sales.sum(axis=1) / np.maximum(number, 1)
    chosen = np.flatnonzero((panel.item_ids != "") & (number >= _FEWEST_DAYS) & (means > 0))
    if not len(chosen):
        return ItemLevels()
    means, sales, known = means[chosen], sales[chosen], known[chosen]
    store_ids, store = np.unique(panel.store_ids[chosen].astype(np.str_), return_inverse=True)
    item_ids, item = np.unique(panel.item_ids[chosen].astype(np.str_), return_inverse=True)
    logs = np.log(means)
    of_store, of_item = np.zeros(len(store_ids)), np.zeros(len(item_ids))
    for _ in range(_ROUNDS):
        of_item = _medians(logs - of_store[store], item)
        of_store = _medians(logs - of_item[item], store)
        of_store -= np.median(of_store)
    ratios = means / np.exp(of_store)[store]
    level = np.bincount(item, weights=ratios) / np.bincount(item)
    unknown = float(np.median(level))
    expected = np.exp(of_store)[store] * level[item]
    first = panel.last_day - timedelta(days=days - 1)
    promo = panel.known_ahead.get("promo")
    begin = panel.sales.shape[1] - days
    kinds = kinds_of_days(first, None if promo is None else promo[chosen, begin:], days)
    effects = _effects(sales, known, means, np.broadcast_to(kinds, sales.shape))
    usual = np.maximum(means[:, None] * effects[kinds], 1e-9)
    noise = np.where(known, (sales / usual - 1.0) ** 2, 0.0).sum(axis=1) / known.sum(axis=1)
    counts = np.bincount(item)
    several = counts[item] > 1
    return ItemLevels(
        stores=_by_id(store_ids, np.exp(of_store), np.bincount(store)),
        items=_by_id(item_ids, level, counts),
        unknown=unknown,
        days=tuple(effects.tolist()),
        within=_limited(float(np.median(noise)), _LEAST_VARIANCE, _MOST_VARIANCE),
        between=_between(means / expected, several),
        between_unknown=_between(means / (np.exp(of_store)[store] * unknown), means > 0),
    )


def _medians(values: Floats, groups: Ints) -> Floats:
    """(g,): the median of the values of each group."""
    order = np.lexsort((values, groups))
    ends = np.cumsum(np.bincount(groups))
    begins = ends - np.bincount(groups)
    ordered = values[order]
    return np.asarray((ordered[(begins + ends - 1) // 2] + ordered[(begins + ends) // 2]) / 2)


def _effects(sales: Floats, known: Flags, means: Floats, kinds: Ints) -> Floats:
    """(14,): the sales of all series on days of a kind over their means on these days.

    A kind without a day has the effect of its weekday.
    """
    sold = np.bincount(kinds[known], weights=sales[known], minlength=KINDS_OF_DAYS)
    levels = np.broadcast_to(means[:, None], sales.shape)[known]
    usual = np.bincount(kinds[known], weights=levels, minlength=KINDS_OF_DAYS)
    both = sold.reshape(2, WEEK).sum(axis=0), usual.reshape(2, WEEK).sum(axis=0)
    of_weekday = np.where(both[1] > 0, both[0] / np.maximum(both[1], 1e-12), 1.0)
    effects = np.where(usual > 0, sold / np.maximum(usual, 1e-12), np.tile(of_weekday, 2))
    return np.asarray(effects, dtype=np.float64)


def _between(ratios: Floats, chosen: Flags) -> float:
    if not chosen.any():
        return ItemLevels().between_unknown
    deviations = np.minimum((ratios[chosen] - 1.0) ** 2, _MOST_BETWEEN)
    return _limited(float(np.mean(deviations)), _LEAST_BETWEEN, _MOST_BETWEEN)


def _by_id(ids: npt.NDArray[np.str_], values: Floats, counts: Ints) -> dict[str, float]:
    order = np.lexsort((np.arange(len(ids)), -counts))[:_MOST_IDS]
    return {str(ids[place]): float(values[place]) for place in np.sort(order)}


def _limited(variance: float, least: float, most: float) -> float:
    return float(np.clip(variance, least, most))
