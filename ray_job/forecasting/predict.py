"""Predictions of a panel: the one way from history to numbers, for runs and for backtests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt

from ray_job.bucket.errors import InputError
from ray_job.bucket.widths import IntervalWidths
from ray_job.data.context import Context, Flags, Ints
from ray_job.data.panel import Floats, Floats32, Panel
from ray_job.features import PanelSummary, features_for, summarise
from ray_job.features.naive import naive_forecasts
from ray_job.features.trading import closed_weekdays, ended, with_weekdays_of_chain
from ray_job.forecasting.similar import (
    SimilarSales,
    by_item_levels,
    by_similar_sales,
    is_new,
    new_items,
)
from ray_job.model.adaptive import adapted, of_series
from ray_job.model.intervals import Calibration
from ray_job.model.model import Model
from ray_job.settings import Settings

_MODEL_ROWS = 16_384
"""The model gets so many rows at once: a call of it costs as much as some hundred rows."""

METHODS = ("model", "closed", "fallback", "ended", "similar", "rule")
MODEL, CLOSED, FALLBACK, ENDED, SIMILAR, RULE = range(len(METHODS))

_RULE_DAYS = 8
_RULE_SCALES = 2.0
"""The simple rule's intervals are at least this many usual spreads wide: it is trusted less."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of n series for h target dates; arrays are (n, h) unless stated otherwise.

    A prediction is NaN where even the simple rule has no data. A NaN or absurd value of the
    regressor stays as it is.
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
    """Whether the weather is the region's usual one and not a forecast."""
    closed_weeks: Ints
    """0 but on days that are closed since the store does not sell on this weekday."""
    closed_sales: Ints
    """On such days: the store sold on so many days of the weekday in that many weeks."""
    kinds: Ints
    """(n,): the kind of each series, a place in KINDS."""
    known_through: npt.NDArray[np.datetime64]
    """(n,): the newest day with known sales, 0 on a day that was declared closed; NaT if none."""


def predict_days(
    panel: Panel,
    as_of: date,
    target_dates: Sequence[date],
    context: Context,
    model: Model,
    settings: Settings,
    closed_in_chain: Collection[int] = (),
    similar: Mapping[str, SimilarSales] | None = None,
) -> Predictions:
    """The model's predictions at the end of `as_of`, for every series of the panel.

    Of the days after `as_of` only what is known ahead is used. A series is closed on a target date
    if `open` is 0, or if `open` is unknown and its store does not sell on this weekday; for new
    stores `closed_in_chain` has the weekdays (Monday is 0) on which no other store sells, and
    `similar` what they are forecast by until they have enough days for the model. New items of old
    stores are forecast by the model's levels of items. Raises InputError for a target date beyond
    the model's horizon.
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
    sources = [] if enough.all() else _new_series(known, enough, model, settings, similar or {})
    stores = known.store_sold()
    weekdays = with_weekdays_of_chain(
        closed_weekdays(stores.sold), stores.sold, as_of, closed_in_chain
    )
    has_ended = ended(known.sales, known.item_ids, stores, known.without_stock)
    shape = (panel.n_series, len(target_dates))
    made = Predictions(
        target_dates=tuple(target_dates),
        predicted=np.zeros(shape),
        lower=np.zeros(shape),
        upper=np.zeros(shape),
        spread=np.zeros(shape),
        method=np.full(shape, CLOSED, dtype=np.int8),
        weather_missing=np.zeros(shape, dtype=np.bool_),
        closed_weeks=np.zeros(shape, dtype=np.int64),
        closed_sales=np.zeros(shape, dtype=np.int64),
        kinds=summary.kinds,
        known_through=_days(summary.sales.last_known, as_of),
    )
    by_model: list[tuple[int, Ints]] = []
    for place, target in enumerate(target_dates):
        column = known.column(target)
        weeks, sales = (rule[stores.rows] for rule in weekdays.of_target((target - as_of).days))
        if "open" in known.known_ahead and column < known.known_ahead["open"].shape[1]:
            declared = known.known_ahead["open"][:, column]
            weeks = np.where(np.isnan(declared), weeks, 0)
            is_open = (declared != 0) & (weeks == 0)
        else:
            is_open = weeks == 0
        made.closed_weeks[:, place], made.closed_sales[:, place] = weeks, sales
        made.method[is_open & has_ended, place] = ENDED
        is_open &= ~has_ended
        rows = np.flatnonzero(is_open & enough)
        if len(rows):
            by_model.append((place, rows))
        left = is_open & ~enough
        for new, sales_of_similar in sources:
            rows = np.flatnonzero(is_open & new)
            if len(rows):
                _apply_similar_sales(made, rows, place, known, model, sales_of_similar)
            left &= ~new
        rows = np.flatnonzero(left)
        if len(rows):
            _apply_simple_rule(made, rows, place, known, model)
        if inputs.weather:
            missing = context.weather_missing_at(target)
            made.weather_missing[:, place] = missing[summary.regions]
    _predict_by_model(made, by_model, known, summary, context, model)
    return made


def widened(made: Predictions, widths: IntervalWidths, calibration: Calibration) -> Predictions:
    """The predictions with intervals of these widths; without factors they keep their bits.

    The target dates are those from 1 day ahead on. Bounds of counts stay counts.
    """
    if widths.is_neutral:
        return made
    factors = of_series(made.predicted, widths, np.arange(1, len(made.target_dates) + 1))
    lower, upper = adapted(made.predicted, made.lower, made.upper, factors, calibration)
    return replace(made, lower=lower, upper=upper)


def _predict_by_model(
    made: Predictions,
    by_model: Sequence[tuple[int, Ints]],
    known: Panel,
    summary: PanelSummary,
    context: Context,
    model: Model,
) -> None:
    """Write the model's predictions into `made`; `by_model` has places of target dates and rows."""
    targets = [made.target_dates[place] for place, _ in by_model]
    matrices = features_for(summary, targets, context)
    pending: list[tuple[int, Ints, Floats32]] = []
    for (place, rows), matrix in zip(by_model, matrices, strict=True):
        pending.append((place, rows, matrix if len(rows) == len(matrix) else matrix[rows]))
        if sum(len(rows) for _, rows, _ in pending) >= _MODEL_ROWS:
            _apply_model(made, pending, known, summary, model)
            pending = []
    if pending:
        _apply_model(made, pending, known, summary, model)


def _apply_model(
    made: Predictions,
    by_model: Sequence[tuple[int, Ints, Floats32]],
    known: Panel,
    summary: PanelSummary,
    model: Model,
) -> None:
    """Write the model's predictions into `made`, or those of a rule that serves a kind.

    `by_model` has, for each target date, its place, m rows, and their features (m, F). A series of
    which the rule knows no day gets the model's prediction.
    """
    rows = np.concatenate([rows for _, rows, _ in by_model])
    places = np.repeat([place for place, _, _ in by_model], [len(rows) for _, rows, _ in by_model])
    matrix = np.concatenate([matrix for *_, matrix in by_model])
    predicted = model.predict(matrix)
    made.method[rows, places] = MODEL
    if model.description.blend.rules:
        names, factors = model.rules(matrix)
        for place in np.unique(places):
            forecasts = naive_forecasts(known, summary.sales, made.target_dates[place])
            for name in model.description.blend.rules:
                served = np.flatnonzero((places == place) & (names == name))
                values = forecasts[name][rows[served]]
                is_known = ~np.isnan(values)
                served = served[is_known]
                predicted[served] = values[is_known] * factors[served]
                made.method[rows[served], place] = RULE
    made.predicted[rows, places] = predicted
    made.lower[rows, places], made.upper[rows, places] = model.interval(matrix, predicted)
    made.spread[rows, places] = model.scale(matrix, predicted)


def _apply_simple_rule(
    made: Predictions, rows: npt.NDArray[np.int64], place: int, known: Panel, model: Model
) -> None:
    """Write the simple rule's predictions of `rows` into `made`."""
    predicted, spread = simple_rule(known, rows, made.target_dates[place])
    calibration = model.description.intervals
    scale = np.fmax(spread, _RULE_SCALES * calibration.usual_spread)
    days = np.full(len(rows), float(model.description.inputs.horizon))
    made.predicted[rows, place] = predicted
    made.lower[rows, place], made.upper[rows, place] = calibration.interval(predicted, scale, days)
    made.spread[rows, place] = scale
    made.method[rows, place] = FALLBACK


def _apply_similar_sales(
    made: Predictions,
    rows: npt.NDArray[np.int64],
    place: int,
    known: Panel,
    model: Model,
    similar: Mapping[str, SimilarSales],
) -> None:
    """Write the predictions of new series, by the usual sales of similar ones, into `made`."""
    description = model.description
    target, horizon = made.target_dates[place], description.inputs.horizon
    computed = by_similar_sales(known, rows, target, similar, description.intervals, horizon)
    for array, values in zip(
        (made.predicted, made.lower, made.upper, made.spread), computed, strict=True
    ):
        array[rows, place] = values
    made.method[rows, place] = SIMILAR


def _new_series(
    known: Panel,
    enough: Flags,
    model: Model,
    settings: Settings,
    similar: Mapping[str, SimilarSales],
) -> list[tuple[Flags, Mapping[str, SimilarSales]]]:
    """The new series (n,) that are forecast by similar ones, and by what.

    They are those of new stores, and new items of old stores: those that the model's levels of
    items know, and the others.
    """
    days = settings.run.minimum_history_days
    new = ~enough & is_new(known, similar, days)
    sources: list[tuple[Flags, Mapping[str, SimilarSales]]] = [(new, similar)]
    levels = model.description.item_levels
    if settings.run.similar_stores and levels.items:
        items = ~enough & ~new & new_items(known, days)
        is_known = np.array([item in levels.items for item in known.item_ids], dtype=np.bool_)
        sources += [
            (part, by_item_levels(known, np.flatnonzero(part), levels))
            for part in (items & is_known, items & ~is_known)
        ]
    return sources


def simple_rule(known: Panel, rows: npt.NDArray[np.int64], target: date) -> tuple[Floats, Floats]:
    """The mean of the last 8 open days of the target's weekday, else of the last 8 open days.

    `rows` chooses series of a panel that ends with the as-of. Returns two arrays of their length:
    the mean, NaN where there was no open day, and the standard deviation of the logs of these days.
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
    divisor = np.maximum(number, 1)
    mean = np.where(number > 0, sales.sum(axis=1) / divisor, np.nan)
    logs = np.log1p(sales)
    deviations = np.where(chosen, logs - (logs.sum(axis=1) / divisor)[:, None], 0.0)
    return mean, np.sqrt((deviations * deviations).sum(axis=1) / divisor)


def _days(numbers: Floats, as_of: date) -> npt.NDArray[np.datetime64]:
    """Day numbers (0 is the as-of) as dates; NaN becomes NaT."""
    known = ~np.isnan(numbers)
    days = as_of.toordinal() - date(1970, 1, 1).toordinal()
    dates = np.full(len(numbers), np.datetime64("NaT", "D"))
    dates[known] = (days + numbers[known].astype(np.int64)).astype("datetime64[D]")
    return dates
