"""Fitting the default model on a panel: the training set, the fit, the calibration.

An example of the training set has the features as of a past day a, and the sales of day a + h: this
is what the nightly run predicts. Nothing after the as-of of the training is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from ray_job.bucket.errors import InputError
from ray_job.data.context import Context, Flags, Ints
from ray_job.data.panel import Floats, Floats32, Panel
from ray_job.evaluation.metrics import measures
from ray_job.features import Inputs, feature_names, features_at, summarise
from ray_job.features.trading import ended, weekly_data
from ray_job.model.intervals import Calibration, calibrate, series_spread
from ray_job.model.model import TrainedOn
from ray_job.settings import Settings

WARM_UP_DAYS = 84
"""Past as-ofs with less history than this are not used, since no nightly run has so little."""

_MOST_EXAMPLES_PER_DAY = 3
"""More numbers of days ahead would repeat the same sales and add little."""
_FEWEST_CALIBRATION_DAYS = 7
_CALIBRATION_ROWS = 350_000
_LEAF_ROWS = 30
_EARLY_ROWS = 450_000
_EARLY_SHARE = 0.6
"""The model that is fitted only for the calibration has fewer rows and trees."""


@dataclass(frozen=True, slots=True)
class Examples:
    """m past days of series: features and sales."""

    names: list[str]
    features: Floats32
    """(m, F)"""
    sales: Floats
    series: Ints
    """The series' place in the panel."""
    as_of: Ints
    target: Ints
    """Days as ordinals."""

    @property
    def days_ahead(self) -> Ints:
        return self.target - self.as_of

    def column(self, name: str) -> Floats32:
        return self.features[:, self.names.index(name)]

    def at(self, rows: Ints | slice) -> Examples:
        return Examples(
            self.names,
            self.features[rows],
            self.sales[rows],
            self.series[rows],
            self.as_of[rows],
            self.target[rows],
        )


def scored(panel: Panel) -> Flags:
    """(n, d): the days on which a forecast can be trained or judged.

    The series was open and its sales are known. A day on which the whole store sold nothing does
    not count: the store was closed, whatever `open` says.
    """
    known = ~np.isnan(panel.sales)
    is_open = panel.known_ahead.get("open")
    if is_open is not None:
        known &= is_open[:, : panel.sales.shape[1]] != 0
    _, store = np.unique(panel.store_ids.astype(np.str_), return_inverse=True)
    sold = np.zeros((int(store.max(initial=-1)) + 1, panel.sales.shape[1]), dtype=np.bool_)
    np.logical_or.at(sold, store, panel.sales > 0)
    return known & sold[store]


def training_set(
    panel: Panel, as_of: date, context: Context, inputs: Inputs, settings: Settings
) -> Examples:
    """Examples of past days up to `as_of`, with random days ahead: `settings.training.rows` at
    most.

    Every day occurs equally often, so that none of the few days before a yearly holiday is left
    out. The same arguments give the same rows. Raises InputError where there is nothing to train
    on.
    """
    rng = np.random.default_rng(settings.training.seed)
    past = panel.until(as_of)
    answers = scored(past)
    targets = range(WARM_UP_DAYS, past.sales.shape[1])
    one_each = int(answers[:, WARM_UP_DAYS:].sum())
    if not one_each:
        raise InputError(
            f"there is nothing to train on up to {as_of}: fewer than {WARM_UP_DAYS + 1} days"
        )
    examples_per_day = settings.training.rows / one_each
    aheads_by_start: dict[int, list[int]] = {}
    for target in targets:
        possible = min(inputs.horizon, target - WARM_UP_DAYS + 1)
        number = min(
            _MOST_EXAMPLES_PER_DAY,
            max(1, int(examples_per_day) + int(rng.random() < examples_per_day % 1)),
        )
        for ahead in rng.permutation(possible)[:number] + 1:
            aheads_by_start.setdefault(target - int(ahead), []).append(int(ahead))
    samples = [
        (start, sorted(aheads), np.flatnonzero(rng.random(past.n_series) < examples_per_day))
        for start, aheads in sorted(aheads_by_start.items())
    ]
    return _make_examples(panel, answers, samples, context, inputs, settings)


def calibration_days(panel: Panel, as_of: date, settings: Settings) -> int:
    """The number of last days that are held out: the setting, but at most a third of all days.

    Raises InputError where this is less than a week.
    """
    days = min(settings.training.calibration_days, (panel.column(as_of) + 1 - WARM_UP_DAYS) // 3)
    if days < _FEWEST_CALIBRATION_DAYS:
        needed = WARM_UP_DAYS + 3 * _FEWEST_CALIBRATION_DAYS
        raise InputError(
            f"there is too little history to train on up to {as_of}: fewer than {needed} days"
        )
    return days


def calibration_set(
    panel: Panel, as_of: date, days: int, context: Context, inputs: Inputs, settings: Settings
) -> Examples:
    """Examples of the last `days` days up to `as_of`, each with every number of days ahead.

    So a difficult week counts equally for all of them. There are about `_CALIBRATION_ROWS` rows:
    for each as-of a random fraction of the stores, with all of their items.
    """
    rng = np.random.default_rng(settings.training.seed)
    past = panel.until(as_of)
    last = past.sales.shape[1] - 1
    first = last - days
    names, store = np.unique(past.store_ids.astype(np.str_), return_inverse=True)
    fraction = _CALIBRATION_ROWS / max(1, past.n_series * days * inputs.horizon)
    samples = []
    for start in range(first + 1 - inputs.horizon, last):
        ahead = [h for h in range(1, inputs.horizon + 1) if first < start + h <= last]
        chosen = rng.random(len(names)) < fraction
        samples.append((start, ahead, np.flatnonzero(chosen[store])))
    return _make_examples(panel, scored(past), samples, context, inputs, settings)


@dataclass(frozen=True, slots=True)
class Fitted:
    regressor: HistGradientBoostingRegressor
    features: tuple[str, ...]
    """The features that it was fitted on: those with any known value."""
    inputs: Inputs
    intervals: Calibration
    trained_on: TrainedOn
    metrics: dict[str, float]
    """On the held-out days, of the model fitted before them."""


def fit(
    panel: Panel,
    as_of: date,
    context: Context,
    settings: Settings,
    *,
    categories: Mapping[str, Sequence[str]],
) -> Fitted:
    """The default model for nights after `as_of`, calibrated on the last days before it.

    The model is fitted twice: once without the calibration days, to measure its errors on days that
    it was not trained on, and once on all days. Nothing of the panel after `as_of` is used, and the
    same arguments give the same model. `categories` are those of the panel's codes. Raises
    InputError where there is too little to train on, and for weekly data.
    """
    sentence = weekly_data(panel.until(as_of).store_sold().sold, as_of)
    if sentence is not None:
        raise InputError(sentence)
    inputs = Inputs.of(
        panel,
        context,
        categories=categories,
        horizon=settings.horizon,
        reach=settings.sales.known_ahead_days,
    )
    days = calibration_days(panel, as_of, settings)
    examples = training_set(panel, as_of, context, inputs, settings)
    before = np.flatnonzero(examples.target <= as_of.toordinal() - days)
    held = calibration_set(panel, as_of, days, context, inputs, settings)
    if not len(before) or not len(held.sales):
        raise InputError(
            f"there is nothing to calibrate on: the {days} days up to {as_of}, or those before"
            " them, have no sales to learn from"
        )
    thinned = before[:: max(1, len(before) // _EARLY_ROWS)]
    early, known = _fit_regressor(examples.at(thinned), settings, _EARLY_SHARE)
    predicted = _sales(early, held, known)
    stores = np.unique(panel.store_ids.astype(np.str_), return_inverse=True)[1]
    intervals = calibrate(
        held.sales,
        predicted,
        series_spread(
            held.column("spread").astype(np.float64), held.column("spread_all").astype(np.float64)
        ),
        np.clip(held.column("days_since_sales"), 1, inputs.horizon).astype(np.int64),
        series=held.series,
        totals=np.ravel_multi_index(
            (stores[held.series], held.as_of - held.as_of.min(), held.days_ahead),
            (len(stores), int(np.ptp(held.as_of)) + 1, inputs.horizon + 1),
        ),
    )
    regressor, known = _fit_regressor(examples, settings)
    return Fitted(
        regressor=regressor,
        features=tuple(examples.names[place] for place in known),
        inputs=inputs,
        intervals=intervals,
        trained_on=TrainedOn(
            first=date.fromordinal(int(examples.target.min())),
            last=as_of,
            rows=len(examples.sales),
            stores=len(np.unique(stores[examples.series])),
        ),
        metrics=_held_out_metrics(held, intervals.corrected(predicted)),
    )


def _make_examples(
    panel: Panel,
    answers: Flags,
    samples: Sequence[tuple[int, Sequence[int], Ints]],
    context: Context,
    inputs: Inputs,
    settings: Settings,
) -> Examples:
    """The examples of `samples`: (column of the as-of, days ahead, series).

    Only days that `answers` (n, d) marks as scored become examples.
    """
    names = feature_names(inputs)
    n_rows = sum(
        int(answers[series, start + ahead].sum())
        for start, aheads, series in samples
        for ahead in aheads
    )
    examples = Examples(
        names=names,
        features=np.empty((n_rows, len(names)), dtype=np.float32),
        sales=np.empty(n_rows),
        series=np.empty(n_rows, dtype=np.int64),
        as_of=np.empty(n_rows, dtype=np.int64),
        target=np.empty(n_rows, dtype=np.int64),
    )
    filled = 0
    for start, aheads, series in samples:
        as_of = panel.first_day + timedelta(days=start)
        known = panel.window(as_of, settings.lookback_days, inputs.reach)
        if len(series) < panel.n_series:
            known = known.take(series)
        summary = summarise(known, context, inputs)
        enough = summary.enough(settings.run.minimum_history_days, settings.run.fallback_after_days)
        enough &= ~ended(known.sales, known.item_ids, known.store_sold(), known.without_stock)
        for ahead in aheads:
            target = as_of + timedelta(days=ahead)
            chosen = answers[series, start + ahead] & enough
            rows = slice(filled, filled + int(chosen.sum()))
            examples.features[rows] = features_at(summary, target, context)[chosen]
            examples.sales[rows] = panel.sales[series[chosen], start + ahead]
            examples.series[rows] = series[chosen]
            examples.as_of[rows] = as_of.toordinal()
            examples.target[rows] = target.toordinal()
            filled = rows.stop
    return examples.at(slice(filled))


def _fit_regressor(
    examples: Examples, settings: Settings, tree_fraction: float = 1.0
) -> tuple[HistGradientBoostingRegressor, Ints]:
    """A regressor with a fraction of the trees, and the columns that it was fitted on.

    Columns without any known value are left out: HistGradientBoostingRegressor cannot bin them.
    """
    training = settings.training
    known = np.flatnonzero([bool((~np.isnan(column)).any()) for column in examples.features.T])
    logs = np.log1p(np.maximum(examples.sales, 0.0))
    regressor = HistGradientBoostingRegressor(
        max_iter=max(1, round(training.trees * tree_fraction)),
        learning_rate=training.learning_rate,
        max_leaf_nodes=training.leaves,
        min_samples_leaf=_LEAF_ROWS,
        early_stopping=False,
        random_state=training.seed,
    )
    regressor.fit(_chosen(examples, known), logs - examples.column("baseline"))
    return regressor, known


def _sales(regressor: HistGradientBoostingRegressor, examples: Examples, columns: Ints) -> Floats:
    ratios = regressor.predict(_chosen(examples, columns)) + examples.column("baseline")
    return np.asarray(np.maximum(np.expm1(ratios), 0.0), dtype=np.float64)


def _chosen(examples: Examples, columns: Ints) -> Floats32:
    if len(columns) == examples.features.shape[1]:
        return examples.features
    return examples.features[:, columns]


def _held_out_metrics(held: Examples, predicted: Floats) -> dict[str, float]:
    values = {}
    for ahead in (1, int(held.days_ahead.max())):
        chosen = held.days_ahead == ahead
        for name, value in measures(held.sales[chosen], predicted[chosen]).items():
            if value is not None and name in ("rmspe", "wape", "bias"):
                values[f"{name}_{ahead}_ahead"] = float(value)
    return values
