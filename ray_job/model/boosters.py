"""What the three boosters of the default model learn, from which features, and with which loss.

- The booster of logs learns log(1 + sales) less the feature `baseline`, with squared errors. It is
  the better one where sales are smooth, and too low where they are not: a mean of logs is nearer to
  a median.
- The booster of means learns sales as a multiple of the series' own level, with the loss of counts
  (Poisson deviance), whose minimum is the mean.
- The booster of lags learns the sales themselves with the same loss, from few plain features: the
  last days' sales, means of sales, the calendar and the plans. Where most days sell nothing, many
  features are mostly chance; elsewhere its errors differ from those of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats, Floats32
from ray_job.features.ahead import CALENDAR, OF_OPEN

Ints = npt.NDArray[np.int64]

BOOSTERS = ("logs", "means", "lags")
LOGS, MEANS, LAGS = range(len(BOOSTERS))

_LEAST_LEVEL = 0.05
"""In units of sales. Levels below it would make a single sale a very large multiple."""
_MOST_MULTIPLE = 40.0
"""Larger multiples of the level count as this many: a mistyped day must not move a tree."""
_WEIGHT_OF_LEVEL = 1.0
"""A row's weight is its level to this power: between equal series (0) and equal units (1).

It is the weight that a Tweedie loss of power 1.3 gives to a series of this level.
"""
_HALF_LIFE = 500.0
"""In days: the weight of a row of the boosters of means and of lags halves with each of these.
Years ago a chain sold at another pace, which is an error of sums; of logs, each weighs the same."""
_PLAIN = (
    "mean_recent",
    "baseline",
    "share_without_sales_28",
    "days_since_sold",
    "days_since_sales",
    "item_code",
    "store_code",
    *OF_OPEN,
    *CALENDAR,
)
_LAG = "lag_"
_LESS_RECENT = ("mean_last_", "mean_same_weekday_")
"""Features that are less `mean_recent`."""
_LESS_BASELINE = ("residual_same_weekday_1", "residual_year_ago_day")
"""Features that are less a baseline, here nearly that of the target date."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The places, among the F features of a regressor, of those that boosters use."""

    baseline: int
    recent: int
    weekday_effect: int
    detailed: tuple[int, ...]
    """The features of the boosters of logs and of means."""
    plain: tuple[int, ...]
    """The features of the booster of lags, as they are."""
    less_recent: tuple[int, ...]
    less_baseline: tuple[int, ...]

    @classmethod
    def of(cls, names: Sequence[str], plans: Sequence[str]) -> Layout:
        """The layout of features `names`; `plans` are the known-ahead columns."""
        chosen = {*_PLAIN, *plans, *(f"{plan}_relative" for plan in plans)}

        def places(keep: Callable[[str], bool]) -> tuple[int, ...]:
            return tuple(place for place, name in enumerate(names) if keep(name))

        return cls(
            baseline=names.index("baseline"),
            recent=names.index("mean_recent"),
            weekday_effect=names.index("weekday_effect"),
            detailed=places(lambda name: not name.startswith(_LAG)),
            plain=places(lambda name: name in chosen or name.startswith(_LAG)),
            less_recent=places(lambda name: name.startswith(_LESS_RECENT)),
            less_baseline=places(lambda name: name in _LESS_BASELINE),
        )

    def inputs(self, booster: int, features: Floats32) -> Floats32:
        """What the booster takes, from features (n, F)."""
        if booster != LAGS:
            if len(self.detailed) == features.shape[1]:
                return features
            return features[:, self.detailed]
        return np.concatenate(
            [
                features[:, self.plain],
                features[:, self.less_recent] + features[:, [self.recent]],
                features[:, self.less_baseline] + features[:, [self.baseline]],
            ],
            axis=1,
        )

    def levels(self, features: Floats32) -> Floats:
        """The level (n,) of series on the target date, above 0, in units of sales."""
        return level(
            features[:, self.recent].astype(np.float64),
            features[:, self.weekday_effect].astype(np.float64),
        )

    def sales(self, booster: int, features: Floats32, predicted: Floats, unit: float) -> Floats:
        """Sales (n,), at least 0, from what the booster predicts of features (n, F).

        `unit` is the unit of sales of the booster of lags.
        """
        if booster == LOGS:
            baseline = features[:, self.baseline].astype(np.float64)
            return np.asarray(np.maximum(np.expm1(predicted + baseline), 0.0), dtype=np.float64)
        return np.asarray(
            predicted * (self.levels(features) if booster == MEANS else unit), dtype=np.float64
        )


def level(recent: Floats, weekday_effect: Floats) -> Floats:
    """The level (n,) of series on a target date, above 0, in units of sales.

    `recent` and `weekday_effect` are the features `mean_recent` and `weekday_effect`.
    """
    mean = np.nan_to_num(np.expm1(recent))
    effect = np.exp(np.clip(np.nan_to_num(weekday_effect), -2.0, 2.0))
    return np.asarray(np.maximum(mean, _LEAST_LEVEL) * effect, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class BoosterRows:
    """m rows: the features (m, F), the sales (m,) and their ages in days (m,)."""

    layout: Layout
    features: Floats32
    sales: Floats
    ages: Ints

    def at(self, rows: Ints) -> BoosterRows:
        return BoosterRows(self.layout, self.features[rows], self.sales[rows], self.ages[rows])

    def unit(self) -> float:
        """The unit of sales of the booster of lags: their mean."""
        return max(float(np.maximum(self.sales, 0.0).mean()), 1e-9)

    def target(self, booster: int, unit: float) -> tuple[Floats, Floats | None]:
        """What the booster learns, and the weights of the rows (None: all alike), each (m,)."""
        sold = np.maximum(self.sales, 0.0)
        if booster == LOGS:
            baseline = self.features[:, self.layout.baseline]
            return np.asarray(np.log1p(sold) - baseline, dtype=np.float64), None
        levels = self.layout.levels(self.features)
        multiples = np.minimum(sold / levels, _MOST_MULTIPLE)
        weights = 0.5 ** (self.ages / _HALF_LIFE)
        if booster == LAGS:
            return multiples * levels / unit, weights / weights.mean()
        weights = levels**_WEIGHT_OF_LEVEL * weights
        return multiples, weights / weights.mean()
