"""The default model's regressor: three boosters of trees, see `boosters`. `Blend` makes one
forecast of theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor

from ray_job.data.panel import Floats, Floats32
from ray_job.features.kinds import kinds_of
from ray_job.model.boosters import BOOSTERS, LOGS, MEANS, BoosterRows, Layout, level

Ints = npt.NDArray[np.int64]

_PENALTY = 10.0
"""L2 penalty of leaves, in rows of mean weight: few rows move a leaf of logs of means less."""
_STEP = 10
"""The number of trees is chosen among multiples of this."""
_LEAST_LEARNT = 0.975
"""Each tree has the learning rate's share of the errors that are left. With fewer trees than this
share of them takes, forecasts lie between the mean of all series and what was learnt. Where there
is little to learn from before the held-out days, early stopping would choose so."""


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
class Ensemble:
    """The boosters; None: no kind of series needs it.

    `columns` has the places of `baseline`, `mean_recent` and `weekday_effect`. Artifacts of two
    boosters end after it.
    """

    of_logs: HistGradientBoostingRegressor | None
    of_means: HistGradientBoostingRegressor | None
    columns: tuple[int, int, int]
    of_lags: HistGradientBoostingRegressor | None = None
    layout: Layout | None = None
    unit: float = 1.0
    """The unit of sales of the booster of lags."""
    kind: tuple[int, int] = (0, 0)
    """The places of the features that decide the kind of a series."""
    used: tuple[tuple[bool, ...], ...] = ()
    """For each kind the boosters that its blend has a share of. Others are not computed."""

    def predict(self, X: Floats32, /) -> Floats:  # noqa: N803 - scikit-learn's name
        """Sales (n, 3) by the boosters, at least 0, from features (n, F); 0 where not computed."""
        layout: Layout | None = getattr(self, "layout", None)
        if layout is None:
            return self._of_two(X)
        used = np.array(self.used)[kinds_of(*(X[:, place] for place in self.kind))]
        sales = np.zeros((len(X), len(BOOSTERS)))
        for place, booster in enumerate((self.of_logs, self.of_means, self.of_lags)):
            rows = np.flatnonzero(used[:, place])
            if booster is not None and len(rows):
                part = X if len(rows) == len(X) else X[rows]
                predicted = booster.predict(layout.inputs(place, part))
                sales[rows, place] = layout.sales(place, part, predicted, self.unit)
        return sales

    def _of_two(self, features: Floats32) -> Floats:
        baseline, recent, effect = (features[:, at].astype(np.float64) for at in self.columns)
        assert self.of_logs is not None  # noqa: S101 - artifacts of two boosters have both
        assert self.of_means is not None  # noqa: S101
        logs, multiples = self.of_logs.predict(features), self.of_means.predict(features)
        predicted = np.empty((len(features), 2))
        predicted[:, LOGS] = np.maximum(np.expm1(logs + baseline), 0.0)
        predicted[:, MEANS] = multiples * level(recent, effect)
        return predicted


def fit_ensemble(
    examples: BoosterRows,
    rows_of_means: Ints | None,
    budgets: Sequence[Budget],
    kind: tuple[int, int],
    used: Sequence[Sequence[bool]],
) -> Ensemble:
    """The boosters that are used, those of means and of lags on `rows_of_means` of the examples.

    `rows_of_means`: None: all. `kind` and `used` are those of the `Ensemble`.
    """
    some: BoosterRows | None = None
    unit = examples.unit()
    boosters: list[HistGradientBoostingRegressor | None] = []
    for place, budget in enumerate(budgets):
        if not any(of_kind[place] for of_kind in used):
            boosters.append(None)
        elif place == LOGS:
            boosters.append(_fitted(place, examples, budget, unit))
        else:
            if some is None:
                some = examples if rows_of_means is None else examples.at(rows_of_means)
            boosters.append(_fitted(place, some, budget, unit))
    layout = examples.layout
    of_logs, of_means, of_lags = boosters
    return Ensemble(
        of_logs,
        of_means,
        (layout.baseline, layout.recent, layout.weekday_effect),
        of_lags,
        layout,
        unit,
        kind,
        tuple(tuple(bool(flag) for flag in of_kind) for of_kind in used),
    )


def fit_judged(
    examples: BoosterRows,
    held: BoosterRows,
    rows_of_means: Ints | None,
    budgets: Sequence[Sequence[Budget]],
) -> tuple[list[Budget], Floats]:
    """For each booster the budget with the least loss on held-out rows, and forecasts (m, 3).

    Of each booster all of its budgets are tried, with any number of trees up to the budget's (early
    stopping). The loss is the booster's own: squared errors of logs, and Poisson deviance.
    """
    unit = examples.unit()
    chosen: list[Budget] = []
    predicted = np.empty((len(held.sales), len(BOOSTERS)))
    for place, tried in enumerate(budgets):
        if place == MEANS and rows_of_means is not None:
            examples = examples.at(rows_of_means)
        inputs = held.layout.inputs(place, held.features)
        loss = _loss(place, held, unit)
        best = min(
            (
                _stopped(_fitted(place, examples, budget, unit), budget, inputs, loss)
                for budget in tried
            ),
            key=lambda judged: judged.loss,
        )
        chosen.append(best.budget)
        predicted[:, place] = held.layout.sales(place, held.features, best.predicted, unit)
    return chosen, predicted


def _fitted(
    booster: int, rows: BoosterRows, budget: Budget, unit: float
) -> HistGradientBoostingRegressor:
    target, weights = rows.target(booster, unit)
    regressor = HistGradientBoostingRegressor(
        loss="squared_error" if booster == LOGS else "poisson",
        max_iter=budget.trees,
        learning_rate=budget.learning_rate,
        max_leaf_nodes=budget.leaves,
        min_samples_leaf=budget.leaf_rows,
        max_features=budget.features,
        l2_regularization=0.0 if booster == LOGS else _PENALTY,
        early_stopping=False,
        random_state=budget.seed,
    )
    return regressor.fit(rows.layout.inputs(booster, rows.features), target, sample_weight=weights)


def _loss(booster: int, held: BoosterRows, unit: float) -> Callable[[Floats], float]:
    target, weights = held.target(booster, unit)

    def squared(predicted: Floats) -> float:
        return float(np.mean((predicted - target) ** 2))

    def deviance(predicted: Floats) -> float:
        least = np.maximum(predicted, 1e-9)
        return float(np.average(least - target * np.log(least), weights=weights))

    return squared if booster == LOGS else deviance


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
    """The booster with the number of trees that has the least loss, of those that learn enough."""
    least = math.log(1.0 - _LEAST_LEARNT) / math.log(1.0 - min(budget.learning_rate, 0.99))
    best = None
    for trees, predicted in enumerate(booster.staged_predict(features), start=1):
        if (trees % _STEP or trees < least) and trees < budget.trees:
            continue
        now = loss(predicted)
        if best is None or now < best.loss:
            best = _Judged(replace(budget, trees=trees), now, predicted.copy())
    assert best is not None  # noqa: S101 - a budget has a tree
    return best
