"""The default model's regressor: two boosters of trees on the same features.

The booster of logs learns log(1 + sales) less the feature `baseline`, with squared errors. It is
the better one where sales are smooth, and too low where they are not: a mean of logs is nearer to
a median. The booster of means learns sales as a multiple of the series' own level, with the loss of
counts (Poisson deviance), whose minimum is the mean. `Blend` makes one forecast of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor

from ray_job.data.panel import Floats, Floats32

Ints = npt.NDArray[np.int64]

_LEAST_LEVEL = 0.05
"""In units of sales. Levels below it would make a single sale a very large multiple."""
_MOST_MULTIPLE = 40.0
"""Larger multiples of the level count as this many: a mistyped day must not move a tree."""
_WEIGHT_OF_LEVEL = 1.0
"""A row's weight is its level to this power: between equal series (0) and equal units (1).

It is the weight that a Tweedie loss of power 1.3 gives to a series of this level.
"""
_PENALTY = 10.0
"""L2 penalty of leaves, in rows of mean weight: few rows move a leaf of logs of means less."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a booster may cost. `features` is the share of the features that a split tries."""

    trees: int
    learning_rate: float
    leaves: int
    seed: int
    features: float = 0.5
    leaf_rows: int = 30


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Both boosters. `columns` has the places of `baseline`, `mean_recent` and `weekday_effect`."""

    of_logs: HistGradientBoostingRegressor
    of_means: HistGradientBoostingRegressor
    columns: tuple[int, int, int]

    def predict(self, X: Floats32, /) -> Floats:  # noqa: N803 - scikit-learn's name
        """Sales (n, 2) by both boosters, at least 0, from features (n, F)."""
        predicted = np.empty((len(X), 2))
        baseline, recent, effect = (X[:, place].astype(np.float64) for place in self.columns)
        predicted[:, 0] = np.maximum(np.expm1(self.of_logs.predict(X) + baseline), 0.0)
        predicted[:, 1] = self.of_means.predict(X) * level(recent, effect)
        return predicted


def level(recent: Floats, weekday_effect: Floats) -> Floats:
    """The level (n,) of series on a target date, above 0, in units of sales.

    `recent` and `weekday_effect` are the features `mean_recent` and `weekday_effect`.
    """
    mean = np.nan_to_num(np.expm1(recent))
    effect = np.exp(np.clip(np.nan_to_num(weekday_effect), -2.0, 2.0))
    return np.asarray(np.maximum(mean, _LEAST_LEVEL) * effect, dtype=np.float64)


def fit_ensemble(
    names: Sequence[str],
    features: Floats32,
    sales: Floats,
    rows: tuple[Ints | slice, Ints | slice],
    of_logs: Budget,
    of_means: Budget,
) -> Ensemble:
    """Both boosters, fitted on their `rows` of the features (m, F) and the sales (m,)."""
    places = [names.index(name) for name in ("baseline", "mean_recent", "weekday_effect")]
    baseline, recent, effect = places
    sold = np.maximum(sales, 0.0)
    chosen = features[rows[0]]
    logs = np.log1p(sold[rows[0]]) - chosen[:, baseline]
    first = _regressor(of_logs, "squared_error", 0.0).fit(chosen, logs)
    chosen = features[rows[1]]
    levels = level(chosen[:, recent].astype(np.float64), chosen[:, effect].astype(np.float64))
    multiples = np.minimum(sold[rows[1]] / levels, _MOST_MULTIPLE)
    weights = levels**_WEIGHT_OF_LEVEL
    second = _regressor(of_means, "poisson", _PENALTY).fit(
        chosen, multiples, sample_weight=weights / weights.mean()
    )
    return Ensemble(first, second, (baseline, recent, effect))


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
