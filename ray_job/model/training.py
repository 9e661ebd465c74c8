"""Fitting the default model on a panel: the boosters, their blend, the calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from ray_job.bucket.errors import InputError
from ray_job.data.context import Context, Ints
from ray_job.data.panel import Floats, Floats32, Panel
from ray_job.evaluation.metrics import measures
from ray_job.features import Inputs
from ray_job.features.ahead import OF_OLDER_MODELS, OF_SEASON
from ray_job.features.kinds import KINDS, kinds_of
from ray_job.features.trading import weekly_data
from ray_job.model.blend import Blend, HeldOut, choose
from ray_job.model.boosters import LAGS, MEANS, BoosterRows, Layout
from ray_job.model.calibration import calibrate
from ray_job.model.ensemble import Budget, Ensemble, fit_ensemble, fit_judged
from ray_job.model.examples import (
    SILENT,
    Examples,
    calibration_days,
    calibration_set,
    evenly_spaced,
    scored,
    training_set,
)
from ray_job.model.intervals import Calibration, series_spread
from ray_job.model.item_levels import ItemLevels, item_levels
from ray_job.model.model import TrainedOn
from ray_job.progress import Progress
from ray_job.settings import Settings

_EARLY_ROWS = 450_000
_EARLY_SHARE = 0.6
"""The boosters that are fitted only for the blend and the calibration have fewer rows and trees."""
_ALL = 0.9
"""Boosters that stopped after more than this share of their trees would have needed more."""
_BINNED_ROWS = 200_000
"""HistGradientBoostingRegressor bins by a sample of so many rows."""
_FEWEST_KNOWN = 200
_ENOUGH_ROWS_OF_MEANS = 400_000
"""The booster of means is fitted on a sample of half the rows, but at least on so many: on few rows
it needs all of them, and of many its errors differ more.
"""
_LEAVES_OF_MEANS = 4
"""The booster of means has one leaf where the other has so many: noisy sales need less detail."""
_FEATURES = 0.5
"""The share of the features that each split tries. Reasons that came together only once, as the one
Christmas of a short history and its weekday, are then tried in turn instead of one for all."""
_FEW_ROWS = 300_000
"""With fewer rows, boosters with an eighth and a quarter of the leaves are tried as well. Of the
booster of lags they always are: it has few features, and is needed where sales are noisy."""
_LEAST_LEAVES = 4
_ROUNDING = 1e-9
"""A share that is not above it is 0, but for the rounding of 1 less the other two."""
_FEWEST_DAYS_OF_SEASONS = 365
"""Features of the season are learnt from examples of at least so many days."""


@dataclass(frozen=True, slots=True)
class Fitted:
    regressor: Ensemble
    features: tuple[str, ...]
    """The features that it was fitted on: those with any known value."""
    inputs: Inputs
    blend: Blend
    intervals: Calibration
    item_levels: ItemLevels
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
    left_out = _left_out(examples)
    thinned = evenly_spaced(before, _EARLY_ROWS)
    with progress.stage("fit the boosters that are judged", 1, "fits") as stage:
        budgets, forecasts = _fit_early(examples.at(thinned), held, inputs, settings, left_out)
        stage.advance()
    kinds = kinds_of(held.column("history_days"), held.column("share_without_sales"))
    blend = choose(
        HeldOut(
            np.maximum(held.sales, 0.0),
            forecasts,
            held.rules,
            kinds,
            held.days_ahead,
            held.target,
            _unit(held),
        ),
        len(thinned),
    )
    since = np.clip(held.column("days_since_sales"), 1, inputs.horizon)
    predicted = served(blend, forecasts, kinds, since.astype(np.float64), held.rules)
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
    with progress.stage("fit the boosters", 1, "fits") as stage:
        sample = _sample_of_means(len(examples.sales), settings)
        known = _known(examples, sample, left_out)
        names = [examples.names[place] for place in known]
        ensemble = fit_ensemble(
            _rows(examples, known, inputs),
            sample,
            budgets,
            kind=(names.index("history_days"), names.index("share_without_sales")),
            used=[
                [share > _ROUNDING for share in blend.of_kind(place).shares]
                for place in range(len(KINDS))
            ],
        )
        stage.advance()
    return Fitted(
        regressor=ensemble,
        features=tuple(names),
        inputs=inputs,
        blend=blend,
        intervals=intervals,
        item_levels=item_levels(panel.until(as_of), scored(panel.until(as_of))),
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
    blend: Blend, forecasts: Floats, kinds: Ints, days: Floats, rules: Mapping[str, Floats]
) -> Floats:
    """The forecasts (n,) that are served: those of the blend, or of the rule of a kind.

    `forecasts` is (n, 3), by the boosters; `rules` has the naive rules' forecasts by name. Where a
    rule has no forecast, the blend's is served.
    """
    predicted = blend.blended(forecasts, kinds, days)
    names, factors = blend.rule_of(kinds, days)
    for name in blend.rules:
        rows = (names == name) & ~np.isnan(rules[name])
        predicted[rows] = rules[name][rows] * factors[rows]
    return predicted


def _fit_early(
    examples: Examples, held: Examples, inputs: Inputs, settings: Settings, left_out: frozenset[str]
) -> tuple[list[Budget], Floats]:
    """The budgets of the boosters, and the forecasts of the held-out rows (m, 3) with them.

    The budgets are those with the least loss on the held-out rows. With many rows these boosters
    have fewer trees than the final ones may have: where they needed all of them, the final ones
    get all of theirs.
    """
    training = settings.training
    few = len(examples.sales) <= _FEW_ROWS
    trees = training.trees if few else max(1, round(training.trees * _EARLY_SHARE))
    sample = _sample_of_means(len(examples.sales), settings)
    known = _known(examples, sample, left_out)
    best, forecasts = fit_judged(
        _rows(examples, known, inputs),
        _rows(held, known, inputs),
        sample,
        [
            tried if few or booster == LAGS else tried[:1]
            for booster, tried in enumerate(_budgets(settings, trees))
        ],
    )
    final = [
        replace(budget, trees=training.trees) if budget.trees >= _ALL * trees else budget
        for budget in best
    ]
    return final, forecasts


def _budgets(settings: Settings, trees: int) -> list[list[Budget]]:
    """The budgets of each booster that are tried, the usual one first."""
    training = settings.training
    of_logs = [
        Budget(
            trees=trees,
            learning_rate=training.learning_rate,
            leaves=max(_LEAST_LEAVES, training.leaves // part),
            seed=training.seed,
            features=_FEATURES,
        )
        for part in (1, 8)
    ]
    of_means, of_lags = (
        [
            Budget(
                trees=trees,
                learning_rate=training.learning_rate,
                leaves=max(_LEAST_LEAVES, training.leaves // (part * _LEAVES_OF_MEANS)),
                seed=training.seed + place,
                features=_FEATURES,
            )
            for part in (1, 4)
        ]
        for place in (MEANS, LAGS)
    )
    return [of_logs, of_means, of_lags]


def _sample_of_means(rows: int, settings: Settings) -> Ints | None:
    """The rows that the booster of means is fitted on; None: all."""
    if rows <= _ENOUGH_ROWS_OF_MEANS:
        return None
    order = np.random.default_rng(settings.training.seed).permutation(rows)
    return np.sort(order[: max(_ENOUGH_ROWS_OF_MEANS, rows // 2)])


def _left_out(examples: Examples) -> frozenset[str]:
    """The names of the features that no booster is fitted on.

    In a single year a part of it is a few weeks, whose sales had other reasons as well.
    """
    days = int(np.ptp(examples.target)) + 1
    return frozenset((*OF_OLDER_MODELS, *(OF_SEASON if days < _FEWEST_DAYS_OF_SEASONS else ())))


def _known(examples: Examples, sample: Ints | None, left_out: frozenset[str]) -> Ints:
    """The columns that the boosters are fitted on.

    Columns without any known value are left out: HistGradientBoostingRegressor cannot bin them.
    """
    # Known in the rows of both boosters, and in the sample that is binned of very many rows.
    some = examples.features if sample is None else examples.features[sample]
    fewest = 1 if len(some) < _BINNED_ROWS else _FEWEST_KNOWN
    known = (~np.isnan(some)).sum(axis=0) >= fewest
    return np.flatnonzero(known & [name not in left_out for name in examples.names])


def _rows(examples: Examples, known: Ints, inputs: Inputs) -> BoosterRows:
    layout = Layout.of([examples.names[place] for place in known], inputs.known_ahead)
    ages = examples.target.max() - examples.target
    return BoosterRows(layout, _chosen(examples, known), examples.sales, ages)


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
