"""Fitting the default model on a panel: what it is trained on, and how it is calibrated.

Training asks the same question as the nightly run, of past days: the features as of day a, the
sales of day a + h. Nothing after the as-of of the training is looked at.
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
from ray_job.model.intervals import Calibration, calibrate, series_spread
from ray_job.model.model import TrainedOn
from ray_job.settings import Settings

WARM_UP_DAYS = 84
"""As-ofs with less history than this would teach what no nightly run meets."""

_MOST_QUESTIONS = 3
"""Per day: more numbers of days ahead would repeat the same sales, and tell little more."""
_FEWEST_CALIBRATION_DAYS = 7
_CALIBRATION_ROWS = 350_000
_LEAF_ROWS = 30
_EARLY_ROWS = 450_000
_EARLY_SHARE = 0.6
"""The model that is only fitted to be calibrated makes do with fewer rows and trees."""


@dataclass(frozen=True, slots=True)
class Examples:
    """m past questions with their answers."""

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
    """(n, d): the days that a forecast can be trained on or judged by.

    The series was open and its sales are known; days on which the whole store sold nothing tell
    that it was shut, whatever `open` says.
    """
    known = ~np.isnan(panel.sales)
    opened = panel.known_ahead.get("open")
    if opened is not None:
        known &= opened[:, : panel.sales.shape[1]] != 0
    _, store = np.unique(panel.store_ids.astype(np.str_), return_inverse=True)
    sold = np.zeros((int(store.max(initial=-1)) + 1, panel.sales.shape[1]), dtype=np.bool_)
    np.logical_or.at(sold, store, panel.sales > 0)
    return known & sold[store]


def training_set(
    panel: Panel, as_of: date, context: Context, inputs: Inputs, settings: Settings
) -> Examples:
    """Past days up to `as_of`, each asked from random days ahead: `settings.training.rows` at most.

    Every day is asked equally often, so that none of the few days before a yearly holiday is left
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
    wanted = settings.training.rows / one_each
    asked: dict[int, list[int]] = {}
    for target in targets:
        possible = min(inputs.horizon, target - WARM_UP_DAYS + 1)
        number = min(_MOST_QUESTIONS, max(1, int(wanted) + int(rng.random() < wanted % 1)))
        for ahead in rng.permutation(possible)[:number] + 1:
            asked.setdefault(target - int(ahead), []).append(int(ahead))
    questions = [
        (start, sorted(aheads), np.flatnonzero(rng.random(past.n_series) < wanted))
        for start, aheads in sorted(asked.items())
    ]
    return _ask(panel, answers, questions, context, inputs, settings)


def calibration_days(panel: Panel, as_of: date, settings: Settings) -> int:
    """How many of the last days are held out: what the settings say, but a third at most.

    Raises InputError where that would be less than a week.
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
    """The last `days` days up to `as_of`, each asked from every number of days ahead.

    So that a hard week counts alike for all of them. About `_CALIBRATION_ROWS` rows: of each as-of
    a random share of the stores, those whole.
    """
    rng = np.random.default_rng(settings.training.seed)
    past = panel.until(as_of)
    last = past.sales.shape[1] - 1
    first = last - days
    names, store = np.unique(past.store_ids.astype(np.str_), return_inverse=True)
    share = _CALIBRATION_ROWS / max(1, past.n_series * days * inputs.horizon)
    questions = []
    for start in range(first + 1 - inputs.horizon, last):
        ahead = [h for h in range(1, inputs.horizon + 1) if first < start + h <= last]
        chosen = rng.random(len(names)) < share
        questions.append((start, ahead, np.flatnonzero(chosen[store])))
    return _ask(panel, scored(past), questions, context, inputs, settings)


@dataclass(frozen=True, slots=True)
class Fitted:
    regressor: HistGradientBoostingRegressor
    features: tuple[str, ...]
    """What it was fitted on: those that were ever known."""
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

    Fitted twice: once without the calibration days, to see how far off it is on days it has not
    seen, and once on all. Nothing of the panel after `as_of` is looked at, and the same arguments
    give the same model. `categories` are those that the panel's codes were made with.
    """
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
    early, known = _fitted(examples.at(thinned), settings, _EARLY_SHARE)
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
    regressor, known = _fitted(examples, settings)
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
        metrics=_measured(held, intervals.corrected(predicted)),
    )


def _ask(
    panel: Panel,
    answers: Flags,
    questions: Sequence[tuple[int, Sequence[int], Ints]],
    context: Context,
    inputs: Inputs,
    settings: Settings,
) -> Examples:
    """The examples of (column of the as-of, days ahead, series); only scored days are answers."""
    names = feature_names(inputs)
    room = sum(
        int(answers[series, start + ahead].sum())
        for start, aheads, series in questions
        for ahead in aheads
    )
    found = Examples(
        names=names,
        features=np.empty((room, len(names)), dtype=np.float32),
        sales=np.empty(room),
        series=np.empty(room, dtype=np.int64),
        as_of=np.empty(room, dtype=np.int64),
        target=np.empty(room, dtype=np.int64),
    )
    filled = 0
    for start, aheads, series in questions:
        as_of = panel.first_day + timedelta(days=start)
        known = panel.window(as_of, settings.lookback_days, inputs.reach)
        if len(series) < panel.n_series:
            known = known.take(series)
        summary = summarise(known, context, inputs)
        enough = summary.enough(settings.run.minimum_history_days, settings.run.fallback_after_days)
        for ahead in aheads:
            target = as_of + timedelta(days=ahead)
            chosen = answers[series, start + ahead] & enough
            rows = slice(filled, filled + int(chosen.sum()))
            found.features[rows] = features_at(summary, target, context)[chosen]
            found.sales[rows] = panel.sales[series[chosen], start + ahead]
            found.series[rows] = series[chosen]
            found.as_of[rows] = as_of.toordinal()
            found.target[rows] = target.toordinal()
            filled = rows.stop
    return found.at(slice(filled))


def _fitted(
    examples: Examples, settings: Settings, share: float = 1.0
) -> tuple[HistGradientBoostingRegressor, Ints]:
    """A regressor with that share of the trees, and the columns that it was fitted on.

    Columns without any known value are left out: HistGradientBoostingRegressor cannot bin them.
    """
    training = settings.training
    known = np.flatnonzero([bool((~np.isnan(column)).any()) for column in examples.features.T])
    logs = np.log1p(np.maximum(examples.sales, 0.0))
    regressor = HistGradientBoostingRegressor(
        max_iter=max(1, round(training.trees * share)),
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


def _measured(held: Examples, predicted: Floats) -> dict[str, float]:
    found = {}
    for ahead in (1, int(held.days_ahead.max())):
        chosen = held.days_ahead == ahead
        for name, value in measures(held.sales[chosen], predicted[chosen]).items():
            if value is not None and name in ("rmspe", "wape", "bias"):
                found[f"{name}_{ahead}_ahead"] = float(value)
    return found
