"""Predictions of a panel: the one way from history to numbers, for runs and backtests alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from ray_job.bucket.errors import InputError
from ray_job.data.context import Context, Flags
from ray_job.data.panel import Floats, Panel
from ray_job.features import features_at, summarise
from ray_job.model.model import Model
from ray_job.settings import Settings

METHODS = ("model", "closed", "fallback")
MODEL, CLOSED, FALLBACK = range(len(METHODS))

_RULE_DAYS = 8
_RULE_SCALES = 2.0
"""The simple rule is trusted so much less than the model."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of n series for h target dates; arrays (n, h) unless said otherwise.

    A prediction is NaN where not even the simple rule knows anything; a regressor's NaN or absurd
    value is left as it is.
    """

    target_dates: tuple[date, ...]
    predicted: Floats
    lower: Floats
    upper: Floats
    spread: Floats
    """The interval's scale: see `intervals.interval_terms`."""
    method: npt.NDArray[np.int8]
    """Places in METHODS."""
    weather_missing: Flags
    """The weather is the region's usual one, not a forecast."""
    known_through: npt.NDArray[np.datetime64]
    """(n,): the newest day with known sales, 0 on a day that was declared closed; NaT if none."""


def predict_days(
    panel: Panel,
    as_of: date,
    target_dates: Sequence[date],
    context: Context,
    model: Model,
    settings: Settings,
) -> Predictions:
    """What `model` says at the end of `as_of`; nothing of the panel after it is looked at, but for
    what is known ahead.

    Raises InputError for a target date beyond that horizon.
    """
    inputs = model.description.inputs
    for target in target_dates:
        if not 1 <= (target - as_of).days <= inputs.horizon:
            raise InputError(
                f"model {model.description.version} forecasts {inputs.horizon} days ahead, "
                f"not {target} as of {as_of}"
            )
    known = panel.window(as_of, settings.lookback_days, inputs.reach)
    summary = summarise(known, context, inputs)
    enough = summary.enough(settings.run.minimum_history_days, settings.run.fallback_after_days)
    shape = (panel.n_series, len(target_dates))
    made = Predictions(
        target_dates=tuple(target_dates),
        predicted=np.zeros(shape),
        lower=np.zeros(shape),
        upper=np.zeros(shape),
        spread=np.zeros(shape),
        method=np.full(shape, CLOSED, dtype=np.int8),
        weather_missing=np.zeros(shape, dtype=np.bool_),
        known_through=_days(summary.sales.last_known, as_of),
    )
    for place, target in enumerate(target_dates):
        column = known.column(target)
        opened = np.ones(panel.n_series, dtype=np.bool_)
        if "open" in known.known_ahead and column < known.known_ahead["open"].shape[1]:
            opened = known.known_ahead["open"][:, column] != 0
        rows = np.flatnonzero(opened & enough)
        if len(rows):
            matrix = features_at(summary, target, context)
            matrix = matrix if len(rows) == len(matrix) else matrix[rows]
            predicted = model.predict(matrix)
            made.predicted[rows, place] = predicted
            made.lower[rows, place], made.upper[rows, place] = model.interval(matrix, predicted)
            made.spread[rows, place] = model.scale(matrix)
            made.method[rows, place] = MODEL
        rows = np.flatnonzero(opened & ~enough)
        if len(rows):
            _by_rule(made, rows, place, known, model)
        if inputs.weather:
            missing = context.weather_missing_at(target)
            made.weather_missing[:, place] = missing[summary.regions]
    return made


def _by_rule(
    made: Predictions, rows: npt.NDArray[np.int64], place: int, known: Panel, model: Model
) -> None:
    """The simple rule for `rows`, in place."""
    predicted, spread = simple_rule(known, rows, made.target_dates[place])
    calibration = model.description.intervals
    scale = np.fmax(spread, _RULE_SCALES * calibration.usual_spread)
    days = np.full(len(rows), float(model.description.inputs.horizon))
    made.predicted[rows, place] = predicted
    made.lower[rows, place], made.upper[rows, place] = calibration.interval(predicted, scale, days)
    made.spread[rows, place] = scale
    made.method[rows, place] = FALLBACK


def simple_rule(known: Panel, rows: npt.NDArray[np.int64], target: date) -> tuple[Floats, Floats]:
    """The mean of the last 8 open days of the target's weekday, else of the last 8 open days.

    Of the chosen series of a panel that ends with the as-of. Returns the mean, NaN where there was
    no open day, and the standard deviation of the logs of the days it is made of.
    """
    days = known.sales.shape[1]
    sales = known.sales[rows]
    counted = ~np.isnan(sales)
    if "open" in known.known_ahead:
        counted &= known.known_ahead["open"][rows, :days] != 0
    weekday = np.arange(days) % 7 == known.column(target) % 7
    chosen = np.where((counted & weekday).any(axis=1)[:, None], counted & weekday, counted)
    rank = np.cumsum(chosen[:, ::-1], axis=1)[:, ::-1]
    chosen &= rank <= _RULE_DAYS
    sales = np.maximum(np.where(chosen, sales, 0.0), 0.0)
    number = chosen.sum(axis=1)
    some = np.maximum(number, 1)
    mean = np.where(number > 0, sales.sum(axis=1) / some, np.nan)
    logs = np.log1p(sales)
    apart = np.where(chosen, logs - (logs.sum(axis=1) / some)[:, None], 0.0)
    return mean, np.sqrt((apart * apart).sum(axis=1) / some)


def _days(numbers: Floats, as_of: date) -> npt.NDArray[np.datetime64]:
    """Day numbers (0 is the as-of) as dates; NaN becomes NaT."""
    known = ~np.isnan(numbers)
    days = as_of.toordinal() - date(1970, 1, 1).toordinal()
    found = np.full(len(numbers), np.datetime64("NaT"), dtype="datetime64[D]")
    found[known] = (days + numbers[known].astype(np.int64)).astype("datetime64[D]")
    return found
