"""The inputs of the features: the columns that a model uses, and how texts become codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from ray_job.bucket.records import Record
from ray_job.data.context import Context
from ray_job.data.panel import Panel, Texts
from ray_job.features.ahead import CALENDAR, ahead_names, store_names, weather_names
from ray_job.features.past import PER_AS_OF, PER_TARGET

MAX_CATEGORIES = 200
"""A text column has codes for this many values, the most frequent ones. Other values are NaN."""


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
            horizon=horizon,
            reach=max(horizon, reach or 0),
        )


def feature_names(inputs: Inputs) -> list[str]:
    """The names of the columns that `features` returns, in their order."""
    return [
        *PER_AS_OF,
        *store_names(inputs.store_numbers, inputs.store_texts),
        *PER_TARGET,
        *ahead_names(inputs.known_ahead),
        *CALENDAR,
        *weather_names(inputs.weather),
    ]


def _most_frequent(values: Texts) -> tuple[str, ...]:
    """Up to MAX_CATEGORIES values, the most frequent first, those of one frequency by name."""
    counts = Counter(value for value in values if value is not None)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(value for value, _ in ordered[:MAX_CATEGORIES])
