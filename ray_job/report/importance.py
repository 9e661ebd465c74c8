"""Which features a model lives on: permutation importance (Breiman 2001) on days it has not seen.

A feature's values are shuffled among the sampled rows, and the error that this adds is what the
model owes to it. Features that tell nearly the same stand in for each other, so that each of them
looks less important than both are; families are therefore also shuffled together.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from ray_job.bucket.errors import InputError
from ray_job.data.context import Context
from ray_job.data.panel import Floats, Floats32, Panel
from ray_job.evaluation.metrics import measures
from ray_job.features import Inputs, feature_names, features_at, summarise
from ray_job.features.ahead import CALENDAR, ahead_names, store_names, weather_names
from ray_job.model.model import Model
from ray_job.model.training import scored
from ray_job.settings import Settings

BASELINE = "baseline"
"""What the default model adds its answer to. Without it nothing is left, so it stays as it is."""

_FAMILY = "family:"
_AT_ONCE = 16
"""So many shuffled copies go into one call, which costs a call's overhead once."""
_NIGHTS = 14
_ROWS = 3000
_SEED = 17


@dataclass(frozen=True, slots=True)
class Importance:
    """By how much wape rises where a feature, or a family of them, is shuffled; largest first."""

    rows: int
    wape: float
    features: list[tuple[str, float]]
    families: list[tuple[str, float]]


def importance(
    panel: Panel, first: date, last: date, context: Context, model: Model, settings: Settings
) -> Importance:
    """On about 3,000 forecasts of `first` to `last`, 1 to horizon days ahead. The same each time.

    Raises InputError where no day can be forecast by the model.
    """
    matrix, actual = _sample(panel, first, last, context, model, settings)
    if not len(actual):
        raise InputError(f"from {first} to {last} there is nothing that the model forecasts")
    rng = np.random.default_rng(_SEED)
    order = rng.permutation(len(actual))
    names = feature_names(model.description.inputs)
    whole = _wape(actual, model.predict(matrix))

    used = [k for k in sorted(model.columns.tolist()) if names[k] != BASELINE]
    families = {
        family: [k for k in used if names[k] in members]
        for family, members in _families(model.description.inputs).items()
    }
    asked = {names[k]: [k] for k in used}
    asked |= {f"{_FAMILY}{name}": columns for name, columns in families.items() if columns}
    rise: dict[str, float] = {}
    for begin in range(0, len(asked), _AT_ONCE):
        some = list(asked.items())[begin : begin + _AT_ONCE]
        tries = np.tile(matrix, (len(some), 1))
        for place, (_, columns) in enumerate(some):
            rows = slice(place * len(actual), (place + 1) * len(actual))
            tries[rows, columns] = matrix[order][:, columns]
        for (name, _), predicted in zip(
            some, np.split(model.predict(tries), len(some)), strict=True
        ):
            rise[name] = _wape(actual, predicted) - whole
    return Importance(
        rows=len(actual),
        wape=whole,
        features=_ranked({name: rise[name] for name in asked if _FAMILY not in name}),
        families=_ranked(
            {name.removeprefix(_FAMILY): rise[name] for name in asked if _FAMILY in name}
        ),
    )


def _sample(
    panel: Panel, first: date, last: date, context: Context, model: Model, settings: Settings
) -> tuple[Floats32, Floats]:
    inputs = model.description.inputs
    horizon = min(settings.horizon, inputs.horizon)
    answers = scored(panel)
    rng = np.random.default_rng(_SEED)
    step = max(1, (last - first).days // _NIGHTS)
    targets = [first + timedelta(days=k) for k in range(0, (last - first).days + 1, step)]
    matrices, actuals = [], []
    for place, target in enumerate(targets):
        as_of = target - timedelta(days=1 + place % horizon)
        if as_of < panel.first_day:
            continue
        column = panel.column(target)
        series = np.flatnonzero(answers[:, column])
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
    known = {
        "weather": set(weather_names(inputs.weather)),
        "the store": set(store_names(inputs.store_numbers, inputs.store_texts)),
        "calendar and holidays": set(CALENDAR) | _about(inputs, "holiday"),
        "promotions": _about(inputs, "promo"),
        "closures": set(ahead_names(["open"])),
    }
    other = set(ahead_names(inputs.known_ahead)).difference(*known.values())
    rest = set(feature_names(inputs)).difference(other, *known.values())
    return {**known, "other known ahead": other, "past sales": rest}


def _about(inputs: Inputs, what: str) -> set[str]:
    return set(ahead_names([name for name in inputs.known_ahead if what in name]))


def _ranked(found: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def _wape(actual: Floats, predicted: Floats) -> float:
    return float(measures(actual, predicted)["wape"] or 0.0)
