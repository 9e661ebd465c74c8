"""Features: what the model is told about a series and a target date.

`features` is the contract, for training and for prediction alike: it sees a panel that ends with
the as-of, what is known ahead of the days until the horizon's end, and the context. Whoever wants
several target dates of one as-of calls `summarise` once and `features_at` for each of them.

Everything is local to a series and to its store's row in the context, and every sum runs along the
days of one series in float64, so that a chunk of one series gives bit for bit what a chunk of ten
thousand gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from pydantic import Field

from ray_job.bucket.errors import InputError
from ray_job.bucket.records import Record
from ray_job.data.context import Context, Flags, Ints
from ray_job.data.panel import Floats32, Panel
from ray_job.features.ahead import (
    CALENDAR,
    ahead_features,
    ahead_names,
    calendar_features,
    store_features,
    store_names,
    weather_features,
    weather_names,
)
from ray_job.features.past import PER_AS_OF, PER_TARGET, History, history_features, read_history

MAX_CATEGORIES = 200
"""More values of a text column than this are told apart by their frequency no longer."""


class Inputs(Record):
    """Which columns the features are made of, and how texts become codes.

    `categories` holds the values of each text column; the code is the place in the list. Columns
    of the stores table are named `store_<column>` in it. `horizon` is the most days ahead that the
    model was made for; `reach` how many days after the as-of the known-ahead columns are looked at:
    as far as they are delivered on a usual night, lest a model rely on what it will not be told.
    """

    known_ahead: tuple[str, ...]
    weather: tuple[str, ...] = ()
    store_numbers: tuple[str, ...] = ()
    store_texts: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = Field(default_factory=dict)
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
        """All columns there are. `categories` are those that the panel's codes were made with.

        `reach` is the horizon unless it is more.
        """
        texts = {
            f"store_{name}": tuple(
                value
                for value, _ in sorted(
                    Counter(value for value in values if value is not None).items(),
                    key=lambda item: (-item[1], item[0]),
                )[:MAX_CATEGORIES]
            )
            for name, values in sorted(context.store_texts.items())
        }
        return cls(
            known_ahead=tuple(panel.known_ahead),
            weather=context.weather_columns,
            store_numbers=tuple(sorted(context.store_numbers)),
            store_texts=tuple(sorted(context.store_texts)),
            categories={**{name: tuple(values) for name, values in categories.items()}, **texts},
            horizon=horizon,
            reach=max(horizon, reach or 0),
        )


def feature_names(inputs: Inputs) -> list[str]:
    """The columns of what `features` returns, in order."""
    return [
        *PER_AS_OF,
        *store_names(inputs.store_numbers, inputs.store_texts),
        *PER_TARGET,
        *ahead_names(inputs.known_ahead),
        *CALENDAR,
        *weather_names(inputs.weather),
    ]


@dataclass(frozen=True, slots=True)
class Summary:
    """What all target dates of one as-of share, of n series."""

    as_of: date
    inputs: Inputs
    history: History
    ahead: Mapping[str, Floats32]
    """(n, days of the history + reach) each; NaN where nothing was delivered."""
    regions: Ints
    shared: Floats32
    """(n, k): the first k features."""

    def enough(self, minimum_days: int, maximum_age: int) -> Flags:
        """(n,): which series have a history that is long and new enough for a model."""
        return (self.history.days >= minimum_days) & (-self.history.last_known <= maximum_age)


def summarise(panel: Panel, context: Context, inputs: Inputs) -> Summary:
    """The summary as of the panel's last day.

    Known-ahead columns that the panel lacks count as never delivered; what lies beyond the
    reach is left out.
    """
    days = panel.sales.shape[1]
    ahead = {
        name: _reaching(panel.known_ahead.get(name), panel.n_series, days + inputs.reach)
        for name in inputs.known_ahead
    }
    history = read_history(panel.sales, ahead.get("open"), ahead.get("promo"), panel.last_day)
    rows = context.rows(panel.store_ids)
    about = store_features(
        context, rows, inputs.store_numbers, inputs.store_texts, inputs.categories
    )
    return Summary(
        as_of=panel.last_day,
        inputs=inputs,
        history=history,
        ahead=ahead,
        regions=context.store_region[rows],
        shared=np.stack([*history.per_as_of.values(), *about.values()], axis=1, dtype=np.float32),
    )


def features_at(summary: Summary, target_date: date, context: Context) -> Floats32:
    """The features of every series for `target_date`: (n, F), C-contiguous, NaN where unknown.

    The columns are `feature_names(summary.inputs)`. Raises InputError for a target date that does
    not lie between the as-of and the horizon's end.
    """
    inputs = summary.inputs
    days_ahead = (target_date - summary.as_of).days
    if not 1 <= days_ahead <= inputs.horizon:
        raise InputError(
            f"{target_date} is not 1 to {inputs.horizon} days ahead of the as-of {summary.as_of}"
        )
    column = summary.history.residuals.shape[1] - 1 + days_ahead
    promo = summary.ahead.get("promo")
    n, shared = summary.shared.shape
    promoted = np.zeros(n, dtype=np.bool_)
    if promo is not None:
        promoted = np.nan_to_num(promo[:, column]) != 0
    found = {
        **history_features(summary.history, target_date, promoted),
        **ahead_features(summary.ahead, column),
        **calendar_features(target_date, context, summary.regions),
        **weather_features(target_date, context, summary.regions, inputs.weather),
    }
    names = feature_names(inputs)[shared:]
    matrix = np.empty((n, shared + len(names)), dtype=np.float32)
    matrix[:, :shared] = summary.shared
    for place, name in enumerate(names, start=shared):
        matrix[:, place] = found[name]
    return matrix


def features(
    panel: Panel, as_of: date, target_date: date, context: Context, inputs: Inputs
) -> Floats32:
    """The features as they could be known at the end of `as_of`; see `features_at`."""
    reach = as_of + timedelta(days=inputs.reach)
    return features_at(summarise(panel.until(as_of, reach), context, inputs), target_date, context)


def _reaching(values: Floats32 | None, n: int, days: int) -> Floats32:
    """`values` over exactly so many days."""
    if values is not None and values.shape[1] >= days:
        return values[:, :days]
    longer = np.full((n, days), np.nan, dtype=np.float32)
    if values is not None:
        longer[:, : values.shape[1]] = values
    return longer
