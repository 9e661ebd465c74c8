"""Feature importance: permutation importance (Breiman 2001) on days after the training.

A feature's values are shuffled among the sampled rows. The rise of the error is the feature's
importance. Features that contain nearly the same information replace each other, so that each of
them has less importance than both together. Families of features are therefore shuffled, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from ray_job.bucket.errors import InputError
from ray_job.data.context import Context
from ray_job.data.panel import Floats, Floats32, Panel
from ray_job.evaluation.metrics import measures
from ray_job.features import Inputs, feature_names, features_at, summarise
from ray_job.features.ahead import CALENDAR, ahead_names, store_names, weather_names
from ray_job.features.plan_effects import effect_names
from ray_job.model.examples import scored
from ray_job.model.model import Model
from ray_job.settings import Settings

BASELINE = "baseline"
"""The feature that the default model adds its answer to. It is not shuffled."""

_FAMILY = "family:"
_AT_ONCE = 16
"""The number of shuffled copies of the rows that one call of the model predicts."""
_NIGHTS = 14
_ROWS = 3000
_SEED = 17


@dataclass(frozen=True, slots=True)
class Importance:
    """The rise of WAPE when a feature or a family is shuffled, as (name, rise), largest first.

    `rows`: the number of forecasts. `wape`: their error without shuffling.
    """

    rows: int
    wape: float
    features: list[tuple[str, float]]
    families: list[tuple[str, float]]


def importance(
    panel: Panel, first: date, last: date, context: Context, model: Model, settings: Settings
) -> Importance:
    """The importance on about 3,000 forecasts of `first` to `last`, 1 to horizon days ahead.

    The same arguments give the same result. Raises InputError where the model can forecast none of
    the days.
    """
    matrix, actual = _sample(panel, first, last, context, model, settings)
    if not len(actual):
        raise InputError(f"from {first} to {last} there is no day that the model can forecast")
    rng = np.random.default_rng(_SEED)
    order = rng.permutation(len(actual))
    names = feature_names(model.description.inputs)
    whole = _wape(actual, model.predict(matrix))

    used = [k for k in sorted(model.columns.tolist()) if names[k] != BASELINE]
    families = {
        family: [k for k in used if names[k] in members]
        for family, members in _families(model.description.inputs).items()
    }
    groups = {names[k]: [k] for k in used}
    groups |= {f"{_FAMILY}{name}": columns for name, columns in families.items() if columns}
    rise: dict[str, float] = {}
    for begin in range(0, len(groups), _AT_ONCE):
        batch = list(groups.items())[begin : begin + _AT_ONCE]
        shuffled = np.tile(matrix, (len(batch), 1))
        for place, (_, columns) in enumerate(batch):
            rows = slice(place * len(actual), (place + 1) * len(actual))
            shuffled[rows, columns] = matrix[order][:, columns]
        for (name, _), predicted in zip(
            batch, np.split(model.predict(shuffled), len(batch)), strict=True
        ):
            rise[name] = _wape(actual, predicted) - whole
    return Importance(
        rows=len(actual),
        wape=whole,
        features=_ranked({name: rise[name] for name in groups if _FAMILY not in name}),
        families=_ranked(
            {name.removeprefix(_FAMILY): rise[name] for name in groups if _FAMILY in name}
        ),
    )


def _sample(
    panel: Panel, first: date, last: date, context: Context, model: Model, settings: Settings
) -> tuple[Floats32, Floats]:
    """The features (m, F) and the sales (m,) of forecasts that the model can make."""
    inputs = model.description.inputs
    horizon = min(settings.horizon, inputs.horizon)
    judged = scored(panel)
    rng = np.random.default_rng(_SEED)
    step = max(1, (last - first).days // _NIGHTS)
    targets = [first + timedelta(days=k) for k in range(0, (last - first).days + 1, step)]
    matrices, actuals = [], []
    for place, target in enumerate(targets):
        as_of = target - timedelta(days=1 + place % horizon)
        if as_of < panel.first_day:
            continue
        column = panel.column(target)
        series = np.flatnonzero(judged[:, column])
        series = np.sort(rng.permutation(series)[: _ROWS // len(targets) + 1])
        known = panel.window(as_of, settings.lookback_days, inputs.reach).take(series)
        summary = summarise(known, context, inputs)
        enough = summary.enough(settings.run.minimum_history_days, settings.run.fallback_after_days)
        matrices.append(features_at(summary, target, context)[enough])
        actuals.append(np.maximum(panel.sales[series, column], 0.0)[enough])
    if not matrices:
        return np.empty((0, len(feature_names(inputs))), dtype=np.float32), np.empty(0)
    return np.concatenate(matrices), np.concatenate(actuals)


def _families(inputs: Inputs) -> dict[str, set[str]]:
    """The names of the features of each family. Each feature is in one family."""
    families = {
        "weather": set(weather_names(inputs.weather)),
        "the store": set(store_names(inputs.store_numbers, inputs.store_texts)),
        "calendar and holidays": set(CALENDAR) | _of_columns_with(inputs, "holiday"),
        "promotions": _of_columns_with(inputs, "promo"),
        "closures": set(ahead_names(["open"])),
    }
    other = _of_columns(inputs, inputs.known_ahead).difference(*families.values())
    rest = set(feature_names(inputs)).difference(other, *families.values())
    return {**families, "other known ahead": other, "past sales": rest}


def _of_columns_with(inputs: Inputs, part: str) -> set[str]:
    """The features of known-ahead columns that have `part` in their name."""
    return _of_columns(inputs, [name for name in inputs.known_ahead if part in name])


def _of_columns(inputs: Inputs, columns: Sequence[str]) -> set[str]:
    return {*ahead_names(columns), *effect_names(columns, inputs.categories)}


def _ranked(rises: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(rises.items(), key=lambda pair: (-pair[1], pair[0]))


def _wape(actual: Floats, predicted: Floats) -> float:
    return float(measures(actual, predicted)["wape"] or 0.0)
