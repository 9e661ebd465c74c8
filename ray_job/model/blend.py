"""Blends: how the boosters' forecasts become one, for each kind of series, on held-out days.

The shares minimise the error on held-out days that no booster was fitted on, as far as weeks agree
that they are better than the usual ones. The factors make the sum of a kind's forecasts the sum of
what was sold, since managers order by sums. Of intermittent series, small forecasts that are too
high are drawn down, within the same sum. Where a naive rule has the smaller error, the rule is
served instead. Rules are compared as they are served, with factors of their own: a rule that is far
too low in sum is no alternative.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ray_job.bucket.records import Record
from ray_job.data.panel import Flags, Floats
from ray_job.features.kinds import INTERMITTENT, KINDS
from ray_job.model.boosters import LAGS, LOGS, MEANS
from ray_job.model.shares import (
    EQUAL,
    TRIED,
    Shares,
    between,
    noise_of,
    usual_shares,
    worth_their_time,
)
from ray_job.model.sum_factors import FEW_ROWS, by_days, size_factors, sum_factors
from ray_job.model.week_agreement import kept_of_gain, weeks_of

Ints = npt.NDArray[np.int64]

_ENOUGH_EXAMPLES = 100_000
"""Boosters that learnt from fewer examples get shares nearer to equal ones: as far as their errors
are chance, they differ on the days to come, and a mean of boosters has less of them. See 0129."""
POWERS = (0.0, 0.05, 0.1, 0.15, 0.2)
"""The powers that are tried for intermittent series."""
_LEAST_OF_SOLD = 0.95
"""Forecasts are drawn down no further than that each quarter of them, by size, sums to so much of
what was sold: WAPE alone would have the median, which is 0 on most days, and who orders a slow item
would never have it."""
_FEW_WEEKS = 6
"""A kind with fewer held-out rows than FEW_ROWS gets the blend of all rows. So does a kind that
exists in fewer weeks, while others exist in more: in a chain of eight months series are long enough
to be smooth in the last weeks only, and what these share is no bias."""


class KindBlend(Record):
    """The blend of a kind of series. `wape` and `rule_wape` are those of the held-out days."""

    log_share: float = 0.5
    lag_share: float = 0.0
    """Of the boosters of logs and of lags; the booster of means has the rest."""
    factors: tuple[float, ...] = (1.0,)
    """By days ahead from 1. Of the rule's forecasts where there is a rule."""
    power: float = 0.0
    pivot: float = 1.0
    scale: float = 1.0
    """A forecast p of the model is multiplied by `scale`, and below `pivot` by (p / pivot)^power.

    Boosters draw forecasts towards the mean of similar rows, so that those of the slowest items are
    too high.
    """
    rule: str | None = None
    """The naive rule that is served instead of the model; None: the model is."""
    rows: int = 0
    wape: float | None = None
    rule_wape: float | None = None
    """Of the best naive rule."""

    @property
    def shares(self) -> Shares:
        """Of the boosters of logs, of means and of lags."""
        return self.log_share, 1.0 - self.log_share - self.lag_share, self.lag_share


class Blend(Record):
    """The blends by kind of series.

    `small_sizes` (sales a day), `small_factors`: a booster of logs is too low for items with few
    sales. Its forecasts of these sizes are multiplied by these factors, those between two sizes by
    factors between theirs, smaller and larger ones by the first and the last.
    """

    small_sizes: tuple[float, ...] = ()
    small_factors: tuple[float, ...] = ()
    kinds: dict[str, KindBlend] = Field(default_factory=dict)

    def of_kind(self, kind: int) -> KindBlend:
        return self.kinds.get(KINDS[kind], KindBlend())

    @property
    def rules(self) -> tuple[str, ...]:
        """The naive rules that any kind is served."""
        return tuple(sorted({kind.rule for kind in self.kinds.values() if kind.rule}))

    def of_logs(self, predicted: Floats) -> Floats:
        """The forecasts (n,) of the booster of logs as means."""
        if not self.small_sizes:
            return predicted
        factors = np.interp(np.log1p(predicted), np.log1p(self.small_sizes), self.small_factors)
        return np.asarray(predicted * factors, dtype=np.float64)

    def blended(self, predicted: Floats, kinds: Ints, days: Floats) -> Floats:
        """Sales (n,) from the boosters' forecasts (n, 3), or (n, 2) without the booster of lags.

        `days`: since newest sales.
        """
        of_logs = self.of_logs(predicted[:, LOGS])
        sales = np.empty(len(kinds))
        for kind in range(len(KINDS)):
            rows = kinds == kind
            if rows.any():
                blend = self.of_kind(kind)
                mixed = mix(blend.shares, of_logs[rows], predicted[rows])
                factors = 1.0 if blend.rule else by_days(blend.factors, days[rows])
                sales[rows] = drawn(mixed, blend.power, blend.pivot, blend.scale) * factors
        return sales

    def rule_of(self, kinds: Ints, days: Floats) -> tuple[npt.NDArray[np.object_], Floats]:
        """(n,) each: the rule that serves a row, None for the model, and the rule's factor."""
        rules = np.full(len(kinds), None, dtype=np.object_)
        factors = np.ones(len(kinds))
        for kind in range(len(KINDS)):
            blend = self.of_kind(kind)
            rows = kinds == kind
            if blend.rule and rows.any():
                rules[rows] = blend.rule
                factors[rows] = by_days(blend.factors, days[rows])
        return rules, factors


@dataclass(frozen=True, slots=True)
class HeldOut:
    """m held-out rows; arrays are (m,) unless stated otherwise.

    `predicted` is (m, 3), of all boosters. `rules` has the naive rules' forecasts by name; NaN
    where a rule has none. `unit` is the size of an error that counts as one, for each series.
    """

    actual: Floats
    predicted: Floats
    rules: Mapping[str, Floats]
    kinds: Ints
    days_ahead: Ints
    target: Ints
    unit: Floats

    def at(self, rows: Flags) -> HeldOut:
        return HeldOut(
            self.actual[rows],
            self.predicted[rows],
            {name: values[rows] for name, values in self.rules.items()},
            self.kinds[rows],
            self.days_ahead[rows],
            self.target[rows],
            self.unit[rows],
        )


def choose(held: HeldOut, examples: int = _ENOUGH_EXAMPLES) -> Blend:
    """The blend with the least errors on held-out days, by kind of series.

    `examples`: how many the boosters learnt from whose forecasts these are.
    """
    weight = min(examples / _ENOUGH_EXAMPLES, 1.0)
    sizes, factors = size_factors(held.actual, held.predicted[:, LOGS], held.target)
    blend = Blend(small_sizes=sizes, small_factors=factors)
    of_all = _choose_kind(held, blend, weight, POWERS[:1])
    fewest_weeks = min(_FEW_WEEKS, weeks_of(held.target))
    kinds = {}
    for place, name in enumerate(KINDS):
        rows = held.kinds == place
        few = rows.sum() < FEW_ROWS or weeks_of(held.target[rows]) < fewest_weeks
        powers = POWERS if place == INTERMITTENT else POWERS[:1]
        kinds[name] = of_all if few else _choose_kind(held.at(rows), blend, weight, powers)
    return blend.model_copy(update={"kinds": kinds})


def mix(shares: Sequence[float], of_logs: Floats, predicted: Floats) -> Floats:
    """The weighted mean (n,) of the boosters' forecasts (n, 3), or (n, 2) without that of lags.

    `of_logs` (n,) takes the place of the forecasts of the booster of logs.
    """
    mixed = shares[LOGS] * of_logs
    for booster in range(MEANS, predicted.shape[1]):
        mixed += shares[booster] * predicted[:, booster]
    return np.asarray(mixed, dtype=np.float64)


def drawn(predicted: Floats, power: float, pivot: float, scale: float) -> Floats:
    """The forecasts (n,) drawn down where they are small, see `KindBlend.power`."""
    if not power:
        return predicted
    below = np.minimum(np.maximum(predicted, 0.0) / max(pivot, 1e-9), 1.0)
    return np.asarray(predicted * below**power * scale, dtype=np.float64)


def _drawn_to_same_sum(mixed: Floats, power: float) -> tuple[Floats, float, float]:
    """The forecasts drawn down below their mean, with the same sum; the mean, and the scale."""
    if not power:
        return mixed, 1.0, 1.0
    pivot = float(mixed.mean())
    scale = float(mixed.sum()) / max(float(drawn(mixed, power, pivot, 1.0).sum()), 1e-9)
    return drawn(mixed, power, pivot, scale), pivot, scale


def _least_of_sold(actual: Floats, predicted: Floats) -> float:
    """Forecasts over what was sold, the least of four quarters of the rows, ordered by forecast."""
    ordered = np.argsort(predicted, kind="stable")
    quarters = np.array_split(ordered, 4)
    return min(
        float(predicted[rows].sum()) / max(float(actual[rows].sum()), 1e-9) for rows in quarters
    )


@dataclass(frozen=True, slots=True)
class _Candidate:
    blend: KindBlend
    predicted: Floats
    factors: tuple[float, ...]


def _choose_kind(held: HeldOut, blend: Blend, weight: float, powers: Sequence[float]) -> KindBlend:
    of_logs = blend.of_logs(held.predicted[:, LOGS])
    of_means = held.predicted[:, MEANS]

    def candidate(shares: Shares, power: float) -> _Candidate:
        mixed, pivot, scale = _drawn_to_same_sum(mix(shares, of_logs, held.predicted), power)
        made = KindBlend(
            log_share=shares[LOGS], lag_share=shares[LAGS], power=power, pivot=pivot, scale=scale
        )
        return _Candidate(made, *_unbiased(held, mixed))

    def leaves_enough(made: _Candidate) -> bool:
        return not made.blend.power or (
            _least_of_sold(held.actual, made.predicted) >= _LEAST_OF_SOLD
        )

    tried = itertools.starmap(candidate, itertools.product(TRIED, powers))
    candidates = [made for made in tried if leaves_enough(made)]
    rules = {}
    for name, values in held.rules.items():
        known = np.where(np.isnan(values), of_means, values)
        rules[name] = _unbiased(held, known)
    plain_wapes = [wape(held.actual, values) for values in held.rules.values()]
    everything = [
        *(made.predicted for made in candidates),
        *(predicted for predicted, _ in rules.values()),
    ]
    units = (
        min(wape(held.actual, predicted) for predicted in everything),
        min(_scaled_error(held, predicted) for predicted in everything),
    )

    def loss(predicted: Floats) -> float:
        return wape(held.actual, predicted) / max(units[0], 1e-9) + _scaled_error(
            held, predicted
        ) / max(units[1], 1e-9)

    best = min(candidates, key=lambda made: loss(made.predicted))
    best_rule = min(rules, key=lambda name: loss(rules[name][0]))
    others = [made for made in candidates if not made.blend.lag_share]
    without = min(others, key=lambda made: loss(made.predicted))
    one_week = weeks_of(held.target) == 1  # which agrees with itself
    noise = noise_of(held.actual, held.predicted[:, LOGS])
    chosen = without.blend.shares
    start = chosen if one_week else usual_shares(noise, chosen)
    usual = candidate(start, without.blend.power)

    def as_weeks_agree(now: Shares, worse: _Candidate, better: _Candidate) -> Shares:
        gains = _gains(held, worse.predicted, better.predicted, units)
        return between(now, better.blend.shares, kept_of_gain(gains, held.target))

    shares = as_weeks_agree(usual.blend.shares, usual, without)
    shares = as_weeks_agree(shares, without, best)
    shares = worth_their_time(between(EQUAL, shares, weight))
    nearer = candidate(shares, best.blend.power)
    if not leaves_enough(nearer):  # the power was chosen with other shares
        nearer = candidate(shares, 0.0)
    if loss(nearer.predicted) <= loss(rules[best_rule][0]):
        best = nearer
    is_rule = loss(rules[best_rule][0]) < loss(best.predicted)
    return best.blend.model_copy(
        update={
            "factors": rules[best_rule][1] if is_rule else best.factors,
            "rule": best_rule if is_rule else None,
            "rows": len(held.actual),
            "wape": wape(held.actual, best.predicted),
            "rule_wape": min(plain_wapes),
        }
    )


def wape(actual: Floats, predicted: Floats) -> float:
    """Σ|actual − predicted| / Σ actual over the rows with a forecast."""
    known = ~np.isnan(predicted)
    total = float(actual[known].sum())
    return float(np.abs(actual[known] - predicted[known]).sum()) / max(total, 1e-9)


def _scaled_error(held: HeldOut, predicted: Floats) -> float:
    ratios = (held.actual - predicted) / held.unit
    return float(np.sqrt(np.mean(ratios * ratios)))


def _gains(held: HeldOut, worse: Floats, better: Floats, units: tuple[float, float]) -> Floats:
    """How much smaller each row's part of the loss is: (m,), whose mean is the losses' difference.

    `units` are those of the WAPE and of the scaled error.
    """
    total = _scaled_error(held, worse) + _scaled_error(held, better)
    of_worse, of_better = held.actual - worse, held.actual - better
    absolute = (np.abs(of_worse) - np.abs(of_better)) / (units[0] * held.actual.mean() + 1e-9)
    squared = (of_worse**2 - of_better**2) / held.unit**2 / (units[1] * total + 1e-9)
    return np.asarray(absolute + squared)


def _unbiased(held: HeldOut, predicted: Floats) -> tuple[Floats, tuple[float, ...]]:
    """The forecasts times the factors by days ahead, and these factors."""
    factors = sum_factors(held.actual, predicted, held.days_ahead, held.target)
    return predicted * by_days(factors, held.days_ahead.astype(np.float64)), factors
