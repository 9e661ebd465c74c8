"""Features of what is known ahead of a target date: plans, calendar, weather and the store."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from ray_job.data.context import Context, Ints
from ray_job.data.context.calendar_days import (
    days_around_christmas,
    days_around_easter,
    days_in_christmas_season,
    days_in_easter_season,
)
from ray_job.data.panel import Floats, Floats32

_REACH = 14
"""Days before and after the target date in which a change of a plan is searched."""
_CLOSURE_REACH = 28
"""Days after the target date in which a long closure is searched."""
_LONG_CLOSURE = 3
"""A closure of at least so many days is long."""
_HOLIDAY_REACH = 28
"""Days before and after the target date in which a holiday is searched."""
_WEATHER_BEFORE = 7
"""Days before the target date with whose mean its weather is compared."""

OF_OPEN = (
    "closed_days_before",
    "closed_days_after",
    "days_since_closed",
    "days_until_long_closure",
)
CALENDAR = (
    "weekday",
    "day_of_month",
    "days_to_month_end",
    "month_of_quarter",
    "day_of_year",
    "days_from_christmas",
    "days_from_easter",
    "days_around_christmas",
    "days_around_easter",
    "holiday_today",
    "days_since_holiday",
    "days_until_holiday",
)
OF_OLDER_MODELS = ("days_from_christmas", "days_from_easter")
"""Features that models which were trained before still use, and new ones do not."""
OF_SEASON = ("day_of_year", "month_of_quarter")
"""Features that say which part of the year a day is in."""


def ahead_names(columns: Sequence[str]) -> list[str]:
    """Names of the features that `ahead_features` makes of known-ahead columns."""
    names: list[str] = []
    for column in columns:
        if column == "open":
            names += OF_OPEN
        else:
            names += [
                column,
                *(f"{column}_{suffix}" for suffix in ("before", "after", "since", "until")),
            ]
    return names


def ahead_features(ahead: Mapping[str, Floats32], column: int) -> dict[str, Floats32]:
    """The features `ahead_names`, each (n,), of the day with the index `column`.

    `ahead`: (n, days) for each known-ahead column. The dictionary has the meaning of each feature.
    """
    features = {}
    for name, values in ahead.items():
        before = _reversed(values, column)
        after = np.ascontiguousarray(values[:, column + 1 : column + 1 + _REACH])
        if name == "open":
            features["closed_days_before"] = _run(before == 0)
            features["closed_days_after"] = _run(after == 0)
            features["days_since_closed"] = _place(before == 0)
            features["days_until_long_closure"] = _long_closure(
                np.ascontiguousarray(values[:, column + 1 : column + 1 + _CLOSURE_REACH]) == 0
            )
            continue
        today = values[:, column]
        features[name] = today
        features[f"{name}_before"] = _first(before)
        features[f"{name}_after"] = _first(after)
        features[f"{name}_since"] = _place(before != today[:, None])
        features[f"{name}_until"] = _place((after != today[:, None]) & ~np.isnan(after))
    return features


def calendar_features(
    day: date, context: Context, regions: Ints
) -> dict[str, Floats | Floats32 | float]:
    """The features CALENDAR of the target date `day`.

    A scalar depends on the day alone. An array (n,) depends on the holidays of each series' region.
    """
    around = context.holidays_around(day, _HOLIDAY_REACH)
    since = _place(around[:, : _HOLIDAY_REACH + 1][:, ::-1]) - 1
    until = _place(around[:, _HOLIDAY_REACH:]) - 1
    return {
        "weekday": day.weekday(),
        "day_of_month": day.day,
        "days_to_month_end": monthrange(day.year, day.month)[1] - day.day,
        "month_of_quarter": (day.month - 1) % 3,
        "day_of_year": day.timetuple().tm_yday,
        "days_from_christmas": days_in_christmas_season(day),
        "days_from_easter": days_in_easter_season(day),
        "days_around_christmas": days_around_christmas(day),
        "days_around_easter": days_around_easter(day),
        "holiday_today": around[:, _HOLIDAY_REACH].astype(np.float64)[regions],
        "days_since_holiday": since[regions],
        "days_until_holiday": until[regions],
    }


def weather_names(columns: Sequence[str]) -> list[str]:
    """Names of the features that `weather_features` makes of weather columns."""
    return [f"{prefix}_{name}" for prefix in ("weather", "weather_change") for name in columns]


def weather_features(
    day: date, context: Context, regions: Ints, columns: Sequence[str]
) -> dict[str, Floats32]:
    """The features `weather_names`, each (n,), of the target date `day`."""
    today = _chosen(context.weather_at(day), context, columns)
    week = [
        _chosen(context.weather_at(day - timedelta(days=back)), context, columns)
        for back in range(_WEATHER_BEFORE, 0, -1)
    ]
    total = np.zeros(today.shape)
    for values in week:
        total += values
    change = today - total / _WEATHER_BEFORE
    features = {}
    for place, name in enumerate(columns):
        features[f"weather_{name}"] = today[regions, place]
        features[f"weather_change_{name}"] = change[regions, place].astype(np.float32)
    return features


def store_names(numbers: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Names of the features that `store_features` makes of columns of the stores table."""
    return [f"store_{name}" for name in (*numbers, *texts)]


def store_features(
    context: Context,
    rows: Ints,
    numbers: Sequence[str],
    texts: Sequence[str],
    categories: Mapping[str, Sequence[str]],
) -> dict[str, Floats]:
    """The features `store_names`, each (n,).

    `rows`: each series' row in the arrays by store of the context. A text becomes its place in
    `categories`.
    """
    features = {}
    unknown = np.full(len(rows), np.nan)
    for name in numbers:
        known = context.store_numbers.get(name)
        features[f"store_{name}"] = unknown if known is None else known[rows]
    for name in texts:
        codes = {value: float(code) for code, value in enumerate(categories[f"store_{name}"])}
        values = context.store_texts.get(name)
        # Only the stores of the chunk: the context has those of the whole chain.
        features[f"store_{name}"] = (
            unknown
            if values is None
            else np.array([codes.get(value, np.nan) for value in values[rows]], np.float64)
        )
    return features


def _chosen(weather: Floats32, context: Context, columns: Sequence[str]) -> Floats32:
    """The weather columns of a model: (r + 1, columns); NaN where the context lacks the column."""
    chosen = np.full((len(weather), len(columns)), np.nan, dtype=np.float32)
    for place, name in enumerate(columns):
        if name in context.weather_columns:
            chosen[:, place] = weather[:, context.weather_columns.index(name)]
    return chosen


def _reversed(values: Floats32, column: int) -> Floats32:
    """The days before `column`, nearest first: (n, at most _REACH)."""
    return np.ascontiguousarray(values[:, max(0, column - _REACH) : column][:, ::-1])


def _first(values: Floats32) -> Floats32:
    """The first column (n,); NaN where there is no column."""
    if values.shape[1]:
        return values[:, 0]
    return np.full(len(values), np.nan, dtype=np.float32)


def _run(flags: npt.NDArray[np.bool_]) -> Floats32:
    """The number of flagged days before the first day that is not flagged: (n,)."""
    if not flags.shape[1]:
        return np.zeros(len(flags), dtype=np.float32)
    length = np.where(flags.all(axis=1), flags.shape[1], np.argmin(flags, axis=1))
    run: Floats32 = length.astype(np.float32)
    return run


def _long_closure(closed: npt.NDArray[np.bool_]) -> Floats32:
    """The place, counted from 1, where the first long closure begins; NaN where none begins."""
    starts = closed.shape[1] - _LONG_CLOSURE + 1
    if starts < 1:
        return np.full(len(closed), np.nan, dtype=np.float32)
    flags = closed[:, :starts].copy()
    for further in range(1, _LONG_CLOSURE):
        flags &= closed[:, further : starts + further]
    return _place(flags)


def _place(flags: npt.NDArray[np.bool_]) -> Floats32:
    """The place, counted from 1, of the first flagged day: (n,); NaN where no day is flagged."""
    if not flags.shape[1]:
        return np.full(len(flags), np.nan, dtype=np.float32)
    place = np.where(flags.any(axis=1), np.argmax(flags, axis=1) + 1.0, np.nan)
    return place.astype(np.float32)
