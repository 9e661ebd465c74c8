"""Fitting the default model on a panel: the boosters, their blend, the calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from ray_job.bucket.errors import InputError
from ray_job.data.context import Context, Ints
from ray_job.data.panel import Floats, Floats32, Panel
from ray_job.evaluation.metrics import measures
from ray_job.features import Inputs
from ray_job.features.kinds import KINDS, kinds_of
from ray_job.features.trading import weekly_data
from ray_job.model.blend import Blend, HeldOut, choose
from ray_job.model.calibration import calibrate
from ray_job.model.ensemble import Budget, Ensemble, fit_ensemble
from ray_job.model.examples import (
    SILENT,
    Examples,
    calibration_days,
    calibration_set,
    training_set,
)
from ray_job.model.intervals import Calibration, series_spread
from ray_job.model.model import TrainedOn
from ray_job.progress import Progress
from ray_job.settings import Settings

_EARLY_ROWS = 450_000
_EARLY_SHARE = 0.6
"""The boosters that are fitted only for the blend and the calibration have fewer rows and trees."""
_BINNED_ROWS = 200_000
"""HistGradientBoostingRegressor bins by a sample of so many rows."""
_FEWEST_KNOWN = 200
_EACH_ROW_OF_MEANS = 2
"""The booster of means is fitted on every second row: it needs fewer, and its errors differ more.
"""
_LEAVES_OF_MEANS = 4
"""The booster of means has one leaf where the other has so many: noisy sales need less detail."""


@dataclass(frozen=True, slots=True)
class Fitted:
    regressor: Ensemble
    features: tuple[str, ...]
    """The features that it was fitted on: those with any known value."""
    inputs: Inputs
    blend: Blend
    intervals: Calibration
    trained_on: TrainedOn
    series: dict[str, int]
    """How many series of each kind there are on the held-out days."""
    metrics: dict[str, float]
    """On the held-out days, of the model fitted before them."""


def fit(
    panel: Panel,
    as_of: date,
    context: Context,
    settings: Settings,
    *,
    categories: Mapping[str, Sequence[str]],
    progress: Progress = SILENT,
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
        panel.until(as_of),
        context,
        categories=categories,
        horizon=settings.horizon,
        reach=settings.sales.known_ahead_days,
    )
    days = calibration_days(panel, as_of, settings)
    examples = training_set(panel, as_of, context, inputs, settings, progress)
    before = np.flatnonzero(examples.target <= as_of.toordinal() - days)
    held = calibration_set(panel, as_of, days, context, inputs, settings, progress)
    if not len(before) or not len(held.sales):
        raise InputError(
            f"there is nothing to calibrate on: the {days} days up to {as_of}, or those before"
            " them, have no sales to learn from"
        )
    thinned = before[:: max(1, len(before) // _EARLY_ROWS)]
    with progress.stage("fit the boosters that are judged", 1, "fits") as stage:
        early, known = _fit(examples.at(thinned), settings, _EARLY_SHARE)
        stage.advance()
    kinds = kinds_of(held.column("history_days"), held.column("share_without_sales"))
    both = early.predict(_chosen(held, known))
    blend = choose(
        HeldOut(
            np.maximum(held.sales, 0.0),
            both,
            held.rules,
            kinds,
            held.days_ahead,
            held.target,
            _unit(held),
        )
    )
    since = np.clip(held.column("days_since_sales"), 1, inputs.horizon)
    predicted = served(blend, both, kinds, since.astype(np.float64), held.rules)
    stores = np.unique(panel.store_ids.astype(np.str_), return_inverse=True)[1]
    intervals = calibrate(
        held.sales,
        predicted,
        series_spread(
            held.column("spread").astype(np.float64), held.column("spread_all").astype(np.float64)
        ),
        since.astype(np.int64),
        series=held.series,
        totals=np.ravel_multi_index(
            (stores[held.series], held.as_of - held.as_of.min(), held.days_ahead),
            (len(stores), int(np.ptp(held.as_of)) + 1, inputs.horizon + 1),
        ),
        kinds=kinds,
    )
    del early
    with progress.stage("fit the boosters", 1, "fits") as stage:
        ensemble, known = _fit(examples, settings)
        stage.advance()
    return Fitted(
        regressor=ensemble,
        features=tuple(examples.names[place] for place in known),
        inputs=inputs,
        blend=blend,
        intervals=intervals,
        trained_on=TrainedOn(
            first=date.fromordinal(int(examples.target.min())),
            last=as_of,
            rows=len(examples.sales),
            stores=len(np.unique(stores[examples.series])),
        ),
        series={
            name: len(np.unique(held.series[kinds == place])) for place, name in enumerate(KINDS)
        },
        metrics=_held_out_metrics(held, predicted),
    )


def served(
    blend: Blend, both: Floats, kinds: Ints, days: Floats, rules: Mapping[str, Floats]
) -> Floats:
    """The forecasts (n,) that are served: those of the blend, or of the rule of a kind.

    `both` is (n, 2), by both boosters; `rules` has the naive rules' forecasts by name. Where a rule
    has no forecast, the blend's is served.
    """
    predicted = blend.blended(both, kinds, days)
    names, factors = blend.rule_of(kinds, days)
    for name in blend.rules:
        rows = (names == name) & ~np.isnan(rules[name])
        predicted[rows] = rules[name][rows] * factors[rows]
    return predicted


def _fit(examples: Examples, settings: Settings, share: float = 1.0) -> tuple[Ensemble, Ints]:
    """Boosters with a share of the trees, and the columns that they were fitted on.

    Columns without any known value are left out: HistGradientBoostingRegressor cannot bin them.
    """
    training = settings.training
    order = np.random.default_rng(training.seed).permutation(len(examples.sales))
    # Known in the rows of both boosters, and in the sample that is binned of very many rows.
    some = examples.features[order[::_EACH_ROW_OF_MEANS]]
    fewest = 1 if len(some) < _BINNED_ROWS else _FEWEST_KNOWN
    known = np.flatnonzero((~np.isnan(some)).sum(axis=0) >= fewest)
    del some
    ensemble = fit_ensemble(
        [examples.names[place] for place in known],
        _chosen(examples, known),
        examples.sales,
        (slice(None), np.sort(order[::_EACH_ROW_OF_MEANS])),
        Budget(
            trees=max(1, round(training.trees * share)),
            learning_rate=training.learning_rate,
            leaves=training.leaves,
            seed=training.seed,
        ),
        Budget(
            trees=max(1, round(training.trees * share)),
            learning_rate=training.learning_rate,
            leaves=max(2, training.leaves // _LEAVES_OF_MEANS),
            seed=training.seed + 1,
        ),
    )
    return ensemble, known


def _unit(examples: Examples) -> Floats:
    """The usual error of each row's series (n,): the standard deviation of its sales."""
    mean = np.expm1(examples.column("mean_recent").astype(np.float64))
    spread = mean * examples.column("variation").astype(np.float64)
    return np.asarray(np.maximum(np.nan_to_num(spread), 0.1 * np.sqrt(1.0 + np.nan_to_num(mean))))


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
