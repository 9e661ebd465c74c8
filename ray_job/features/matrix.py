"""The feature matrix of a panel and a target date, for training and for prediction alike.

`features` is the contract: it uses a panel that ends with the as-of, what is known ahead of the
days within the reach, and the context. For several target dates of one as-of, call `summarise`
once and `features_for`, which computes once what several target dates have in common.

A row depends on its own series and on its store's row in the context only. Each sum runs along the
days of one series in float64. A chunk of one series therefore gives bit for bit the values that a
chunk of ten thousand series gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from ray_job.bucket.errors import InputError
from ray_job.data.context import Context, Flags, Ints
from ray_job.data.panel import Floats32, Panel
from ray_job.features.ahead import (
    ahead_features,
    calendar_features,
    store_features,
    weather_features,
)
from ray_job.features.inputs import Inputs, codes, feature_names
from ray_job.features.kinds import kinds_of
from ray_job.features.past import SalesSummary, history_features, summarise_sales
from ray_job.features.plan_effects import plan_effects


@dataclass(frozen=True, slots=True)
class PanelSummary:
    """What all target dates of one as-of have in common, of n series."""

    as_of: date
    inputs: Inputs
    sales: SalesSummary
    ahead: Mapping[str, Floats32]
    """(n, days of the panel + reach) for each known-ahead column; NaN where not delivered."""
    regions: Ints
    """(n,): each series' row in the arrays by region of the context."""
    shared: Floats32
    """(n, k): the first k features. They are the same for all target dates."""

    def take(self, rows: Ints) -> PanelSummary:
        """The summary of these series."""
        return PanelSummary(
            as_of=self.as_of,
            inputs=self.inputs,
            sales=self.sales.take(rows),
            ahead={name: values[rows] for name, values in self.ahead.items()},
            regions=self.regions[rows],
            shared=self.shared[rows],
        )

    @property
    def kinds(self) -> Ints:
        """(n,): the kind of each series, a place in KINDS, as a model sees it."""
        of = self.sales.per_as_of
        return kinds_of(
            of["history_days"].astype(np.float32), of["share_without_sales"].astype(np.float32)
        )

    def enough(self, minimum_days: int, maximum_age: int) -> Flags:
        """(n,): whether a series has enough days, and new enough sales, for a model."""
        return (self.sales.days >= minimum_days) & (-self.sales.last_known <= maximum_age)


def summarise(panel: Panel, context: Context, inputs: Inputs) -> PanelSummary:
    """The summary as of the panel's last day.

    A known-ahead column of `inputs` that the panel lacks counts as never delivered. Days beyond
    the reach are not used.
    """
    days = panel.sales.shape[1]
    ahead = {
        name: _over_days(panel.known_ahead.get(name), panel.n_series, days + inputs.reach)
        for name in inputs.known_ahead
    }
    sales = summarise_sales(panel.sales, ahead.get("open"), ahead.get("promo"), panel.last_day)
    rows = context.rows(panel.store_ids)
    of_store = store_features(
        context, rows, inputs.store_numbers, inputs.store_texts, inputs.categories
    )
    return PanelSummary(
        as_of=panel.last_day,
        inputs=inputs,
        sales=sales,
        ahead=ahead,
        regions=context.store_region[rows],
        shared=np.stack(
            [*sales.per_as_of.values(), *codes(panel, inputs).values(), *of_store.values()],
            axis=1,
            dtype=np.float32,
        ),
    )


def features_at(summary: PanelSummary, target_date: date, context: Context) -> Floats32:
    """The features of every series for `target_date`: (n, F), C-contiguous, NaN where unknown.

    The columns are `feature_names(summary.inputs)`. Raises InputError for a target date that is
    not 1 to horizon days after the as-of.
    """
    return next(features_for(summary, [target_date], context))


def features_for(
    summary: PanelSummary, target_dates: Sequence[date], context: Context
) -> Iterator[Floats32]:
    """Yield `features_at` for each of the target dates. Raises the same errors."""
    inputs = summary.inputs
    aheads = [(target_date - summary.as_of).days for target_date in target_dates]
    for target_date, days_ahead in zip(target_dates, aheads, strict=True):
        if not 1 <= days_ahead <= inputs.horizon:
            raise InputError(
                f"{target_date} is not 1 to {inputs.horizon} days ahead of the as-of"
                f" {summary.as_of}"
            )
    as_of_column = summary.sales.residuals.shape[1] - 1
    places = [as_of_column + days_ahead for days_ahead in aheads]
    effects = plan_effects(summary.sales.residuals, summary.ahead, places, inputs.categories)
    promo = summary.ahead.get("promo")
    n, shared = summary.shared.shape
    names = feature_names(inputs)[shared:]
    for target_date, column, of_plans in zip(target_dates, places, effects, strict=True):
        promoted = np.zeros(n, dtype=np.bool_)
        if promo is not None:
            promoted = np.nan_to_num(promo[:, column]) != 0
        columns = {
            **history_features(summary.sales, target_date, promoted),
            **ahead_features(summary.ahead, column),
            **of_plans,
            **calendar_features(target_date, context, summary.regions),
            **weather_features(target_date, context, summary.regions, inputs.weather),
        }
        matrix = np.empty((n, shared + len(names)), dtype=np.float32)
        matrix[:, :shared] = summary.shared
        for place, name in enumerate(names, start=shared):
            matrix[:, place] = columns[name]
        yield matrix


def features(
    panel: Panel, as_of: date, target_date: date, context: Context, inputs: Inputs
) -> Floats32:
    """The features as they are known at the end of `as_of`; the shape is that of `features_at`."""
    reach = as_of + timedelta(days=inputs.reach)
    return features_at(summarise(panel.until(as_of, reach), context, inputs), target_date, context)


def _over_days(values: Floats32 | None, n: int, days: int) -> Floats32:
    """`values` cut, or filled up with NaN, to exactly `days` days: (n, days)."""
    if values is not None and values.shape[1] >= days:
        return values[:, :days]
    longer = np.full((n, days), np.nan, dtype=np.float32)
    if values is not None:
        longer[:, : values.shape[1]] = values
    return longer
