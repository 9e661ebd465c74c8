"""The inputs of the features: the columns that a model uses, and how texts become codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from ray_job.bucket.records import Record
from ray_job.data.context import Context
from ray_job.data.panel import Floats, Panel, Texts
from ray_job.features.ahead import CALENDAR, ahead_names, store_names, weather_names
from ray_job.features.past import PER_AS_OF, PER_TARGET
from ray_job.features.plan_effects import effect_names

MAX_CATEGORIES = 200
"""A text column has codes for this many values, the most frequent ones. Other values are NaN."""

_MOST_CODES = 5_000
"""Stores and items have codes where they are no more than this. Codes are numbers for a model."""
_FEWEST_SERIES = 3


class Inputs(Record):
    """The columns that a model's features are made of, and the codes of texts.

    `categories`: the values of each text column; a value's code is its place in the list. The key
    of a column of the stores table is `store_<column>`. `horizon`: the most days ahead that the
    model forecasts. `reach`: the number of days after the as-of of which known-ahead columns are
    used. It is as far as they are delivered on a usual night, so that a model does not rely on
    values that a night lacks.
    """

    known_ahead: tuple[str, ...]
    weather: tuple[str, ...] = ()
    store_numbers: tuple[str, ...] = ()
    store_texts: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    items: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    """The ids that have a code, its place. Empty where ids would name single series."""
    horizon: int
    reach: int

    @classmethod
    def of(
        cls,
        panel: Panel,
        context: Context,
        *,
        categories: Mapping[str, Sequence[str]],
        horizon: int,
        reach: int | None = None,
    ) -> Inputs:
        """All columns of the panel and of the context.

        `categories` are the values that the panel's codes stand for. `reach` is at least the
        horizon.
        """
        store_categories = {
            f"store_{name}": _most_frequent(values)
            for name, values in sorted(context.store_texts.items())
        }
        return cls(
            known_ahead=tuple(panel.known_ahead),
            weather=context.weather_columns,
            store_numbers=tuple(sorted(context.store_numbers)),
            store_texts=tuple(sorted(context.store_texts)),
            categories={
                **{name: tuple(values) for name, values in categories.items()},
                **store_categories,
            },
            items=_coded(panel, panel.item_ids, panel.store_ids),
            stores=_coded(panel, panel.store_ids, panel.item_ids),
            horizon=horizon,
            reach=max(horizon, reach or 0),
        )


def feature_names(inputs: Inputs) -> list[str]:
    """The names of the columns that `features` returns, in their order."""
    return [
        *PER_AS_OF,
        *code_names(inputs),
        *store_names(inputs.store_numbers, inputs.store_texts),
        *PER_TARGET,
        *ahead_names(inputs.known_ahead),
        *effect_names(inputs.known_ahead, inputs.categories),
        *CALENDAR,
        *weather_names(inputs.weather),
    ]


def code_names(inputs: Inputs) -> list[str]:
    """The names of the features that `codes` makes."""
    return [
        name
        for name, ids in (("item_code", inputs.items), ("store_code", inputs.stores))
        if len(ids)
    ]


def codes(panel: Panel, inputs: Inputs) -> dict[str, Floats]:
    """The features `code_names`, each (n,): NaN for an id without a code."""
    features = {}
    for name, ids, known in (
        ("item_code", panel.item_ids, inputs.items),
        ("store_code", panel.store_ids, inputs.stores),
    ):
        if known:
            places = {value: float(place) for place, value in enumerate(known)}
            features[name] = np.array([places.get(value, np.nan) for value in ids])
    return features


def _coded(panel: Panel, ids: Texts, others: Texts) -> tuple[str, ...]:
    """The distinct ids, those of smaller mean sales first, ties by id.

    Empty if there are more than _MOST_CODES, if there is only one, or if an id has fewer than
    _FEWEST_SERIES series on average: then its code would name a series, and not what several have
    in common.
    """
    distinct, of_series = np.unique(ids.astype(np.str_), return_inverse=True)
    few = len(ids) < _FEWEST_SERIES * len(distinct)
    if not 1 < len(distinct) <= _MOST_CODES or few or len(set(others)) == 1:
        return ()
    known = ~np.isnan(panel.sales)
    sums = np.bincount(of_series, weights=np.where(known, panel.sales, 0.0).sum(axis=1))
    means = sums / np.maximum(np.bincount(of_series, weights=known.sum(axis=1)), 1)
    return tuple(str(distinct[place]) for place in np.lexsort((distinct, means)))


def _most_frequent(values: Texts) -> tuple[str, ...]:
    """Up to MAX_CATEGORIES values, the most frequent first, those of one frequency by name."""
    counts = Counter(value for value in values if value is not None)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(value for value, _ in ordered[:MAX_CATEGORIES])
