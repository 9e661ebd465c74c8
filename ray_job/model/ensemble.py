"""The default model's regressor: two boosters of trees on the same features.

The booster of logs learns log(1 + sales) less the feature `baseline`, with squared errors. It is
the better one where sales are smooth, and too low where they are not: a mean of logs is nearer to
a median. The booster of means learns sales as a multiple of the series' own level, with the loss of
counts (Poisson deviance), whose minimum is the mean. `Blend` makes one forecast of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor

from ray_job.data.panel import Floats, Floats32

Ints = npt.NDArray[np.int64]

_LEAST_LEVEL = 0.05
"""In units of sales. Levels below it would make a single sale a very large multiple."""
_MOST_MULTIPLE = 40.0
"""Larger multiples of the level count as this many: a mistyped day must not move a tree."""
_OF_LEVEL = ("baseline", "mean_recent", "weekday_effect")
_WEIGHT_OF_LEVEL = 1.0
"""A row's weight is its level to this power: between equal series (0) and equal units (1).

It is the weight that a Tweedie loss of power 1.3 gives to a series of this level.
"""
_HALF_LIFE = 500.0
"""In days: the weight of a row of the booster of means halves with each of these. Years ago a chain
sold at another pace, which is an error of sums; of logs, each weighs the same."""
_PENALTY = 10.0
"""L2 penalty of leaves, in rows of mean weight: few rows move a leaf of logs of means less."""


_STEP = 10
"""The number of trees is chosen among multiples of this."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a booster may cost. `features` is the share of the features that a split tries."""

    trees: int
    learning_rate: float
    leaves: int
    seed: int
    features: float = 1.0
    leaf_rows: int = 30


@dataclass(frozen=True, slots=True)
class BoosterRows:
    """m rows: the features (m, F) named `names`, the sales (m,) and their ages in days (m,)."""

    names: Sequence[str]
    features: Floats32
    sales: Floats
    ages: Ints

    @property
    def columns(self) -> tuple[int, int, int]:
        """The places of `baseline`, `mean_recent` and `weekday_effect`."""
        baseline, recent, effect = map(self.names.index, _OF_LEVEL)
        return baseline, recent, effect

    def at(self, rows: Ints) -> BoosterRows:
        return BoosterRows(self.names, self.features[rows], self.sales[rows], self.ages[rows])

    def logs(self) -> Floats:
        """What the booster of logs learns (m,)."""
        baseline = self.features[:, self.columns[0]]
        return np.asarray(np.log1p(np.maximum(self.sales, 0.0)) - baseline, dtype=np.float64)

    def multiples(self) -> tuple[Floats, Floats]:
        """What the booster of means learns, and the weights of the rows, each (m,)."""
        _, *places = self.columns
        levels = level(*(self.features[:, place].astype(np.float64) for place in places))
        multiples = np.minimum(np.maximum(self.sales, 0.0) / levels, _MOST_MULTIPLE)
        weights = levels**_WEIGHT_OF_LEVEL * 0.5 ** (self.ages / _HALF_LIFE)
        return multiples, weights / weights.mean()


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Both boosters. `columns` has the places of `baseline`, `mean_recent` and `weekday_effect`."""

    of_logs: HistGradientBoostingRegressor
    of_means: HistGradientBoostingRegressor
    columns: tuple[int, int, int]

    def predict(self, X: Floats32, /) -> Floats:  # noqa: N803 - scikit-learn's name
        """Sales (n, 2) by both boosters, at least 0, from features (n, F)."""
        return as_sales(X, self.columns, self.of_logs.predict(X), self.of_means.predict(X))


def as_sales(
    features: Floats32, columns: tuple[int, int, int], logs: Floats, multiples: Floats
) -> Floats:
    """Sales (n, 2), at least 0, from what both boosters say of features (n, F)."""
    predicted = np.empty((len(features), 2))
    baseline, recent, effect = (features[:, place].astype(np.float64) for place in columns)
    predicted[:, 0] = np.maximum(np.expm1(logs + baseline), 0.0)
    predicted[:, 1] = multiples * level(recent, effect)
    return predicted


def level(recent: Floats, weekday_effect: Floats) -> Floats:
    """The level (n,) of series on a target date, above 0, in units of sales.

    `recent` and `weekday_effect` are the features `mean_recent` and `weekday_effect`.
    """
    mean = np.nan_to_num(np.expm1(recent))
    effect = np.exp(np.clip(np.nan_to_num(weekday_effect), -2.0, 2.0))
    return np.asarray(np.maximum(mean, _LEAST_LEVEL) * effect, dtype=np.float64)


def fit_ensemble(
    examples: BoosterRows, rows_of_means: Ints | None, of_logs: Budget, of_means: Budget
) -> Ensemble:
    """Both boosters, the one of means on `rows_of_means` of the examples; None: on all of them."""
    first = _regressor(of_logs, "squared_error", 0.0).fit(examples.features, examples.logs())
    if rows_of_means is not None:
        examples = examples.at(rows_of_means)
    multiples, weights = examples.multiples()
    second = _regressor(of_means, "poisson", _PENALTY).fit(
        examples.features, multiples, sample_weight=weights
    )
    return Ensemble(first, second, examples.columns)


def fit_judged(
    examples: BoosterRows,
    held: BoosterRows,
    rows_of_means: Ints | None,
    of_logs: Sequence[Budget],
    of_means: Sequence[Budget],
) -> tuple[Budget, Budget, Floats]:
    """The budgets with the least loss on held-out rows, and the forecasts (m, 2) with them.

    Of each booster all budgets are tried, with any number of trees up to the budget's (early
    stopping). The loss is the booster's own: squared errors of logs, and Poisson deviance.
    """
    logs = held.logs()
    multiples, weights = held.multiples()

    def squared(predicted: Floats) -> float:
        return float(np.mean((predicted - logs) ** 2))

    def deviance(predicted: Floats) -> float:
        least = np.maximum(predicted, 1e-9)
        return float(np.mean(weights * (least - multiples * np.log(least))))

    target = examples.logs()
    first = [
        _stopped(
            _regressor(budget, "squared_error", 0.0).fit(examples.features, target),
            budget,
            held.features,
            squared,
        )
        for budget in of_logs
    ]
    if rows_of_means is not None:
        examples = examples.at(rows_of_means)
    target, weights_then = examples.multiples()
    second = [
        _stopped(
            _regressor(budget, "poisson", _PENALTY).fit(
                examples.features, target, sample_weight=weights_then
            ),
            budget,
            held.features,
            deviance,
        )
        for budget in of_means
    ]
    best = [min(tried, key=lambda judged: judged.loss) for tried in (first, second)]
    predicted = as_sales(held.features, held.columns, best[0].predicted, best[1].predicted)
    return best[0].budget, best[1].budget, predicted


@dataclass(frozen=True, slots=True)
class _Judged:
    budget: Budget
    loss: float
    predicted: Floats


def _stopped(
    booster: HistGradientBoostingRegressor,
    budget: Budget,
    features: Floats32,
    loss: Callable[[Floats], float],
) -> _Judged:
    """The booster with the number of trees that has the least loss."""
    best = None
    for trees, predicted in enumerate(booster.staged_predict(features), start=1):
        if trees % _STEP and trees < budget.trees:
            continue
        now = loss(predicted)
        if best is None or now < best.loss:
            best = _Judged(replace(budget, trees=trees), now, predicted.copy())
    assert best is not None  # noqa: S101 - a budget has a tree
    return best


def _regressor(budget: Budget, loss: str, penalty: float) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        loss=loss,
        max_iter=budget.trees,
        learning_rate=budget.learning_rate,
        max_leaf_nodes=budget.leaves,
        min_samples_leaf=budget.leaf_rows,
        max_features=budget.features,
        l2_regularization=penalty,
        early_stopping=False,
        random_state=budget.seed,
    )
