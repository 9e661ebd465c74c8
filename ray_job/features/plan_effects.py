"""What a value of a plan has meant for a series before: effects of promotions, prices and events.

A plan is a known-ahead column. Each series is compared with its own past only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats, Floats32
from ray_job.features.day_statistics import mean_known, numbers_of

Flags = npt.NDArray[np.bool_]

_PRIOR = 4.0
"""An effect is drawn towards 0 as if by so many days without an effect."""
_USUAL_DAYS = 56
_UNUSUAL = 20.0
"""A relative change ends here: beyond it only its direction is of use."""


def effect_names(columns: Sequence[str], texts: Collection[str]) -> list[str]:
    """Names of the features that `plan_effects` makes of known-ahead columns.

    `texts` are the columns that have codes for texts.
    """
    names: list[str] = []
    for column in columns:
        if column != "open":
            names.append(f"residual_same_{column}")
            if column not in texts:
                names.append(f"{column}_relative")
    return names


def plan_effects(
    residuals: Floats32,
    ahead: Mapping[str, Floats32],
    columns: Sequence[int],
    texts: Collection[str],
) -> list[dict[str, Floats]]:
    """The features `effect_names`, each (n,), of each of the days with the indices `columns`.

    `residuals` is (n, d), up to the as-of; `ahead` has d or more days for each known-ahead column.
    """
    days = residuals.shape[1]
    features: list[dict[str, Floats]] = [{} for _ in columns]
    plans = {name: plan for name, plan in ahead.items() if name != "open"}
    if not plans or not columns:
        return features
    counted = ~np.isnan(residuals)
    values = np.where(counted, residuals, np.float32(0.0))
    for name, plan in plans.items():
        on_days = [plan[:, column] for column in columns]
        effects = _effects(counted, values, plan[:, :days], on_days)
        for of_day, effect in zip(features, effects, strict=True):
            of_day[f"residual_same_{name}"] = effect
        if name in texts:
            continue
        usual = mean_known(
            np.ascontiguousarray(plan[:, max(0, days - _USUAL_DAYS) : days], dtype=np.float64)
        )
        size = np.abs(usual)
        divisor = np.where(size > 0, size, 1.0)
        for of_day, today in zip(features, on_days, strict=True):
            change = np.where(size > 0, (today - usual) / divisor, 0.0)
            unknown = np.isnan(today) | np.isnan(usual)
            of_day[f"{name}_relative"] = np.where(
                unknown, np.nan, np.clip(change, -_UNUSUAL, _UNUSUAL)
            )
    return features


def _effects(
    counted: Flags, values: Floats32, plan: Floats32, on_days: Sequence[Floats32]
) -> list[Floats]:
    """For each of the days the mean residual of the days with the same value of the plan, (n,).

    A series whose plan has the same value on two of the days has the same effect on both: most
    plans have few values, and to compare a whole history with one is most of the work.
    """
    effects: list[Floats] = []
    for today in on_days:
        effect = np.full(len(today), np.nan)
        left = ~np.isnan(today)
        for earlier, known in zip(on_days, effects, strict=False):
            same = left & (earlier == today)
            effect[same] = known[same]
            left &= ~same
        rows = np.flatnonzero(left)
        if len(rows):
            chosen = slice(None) if len(rows) == len(today) else rows
            alike = counted[chosen] & (plan[chosen] == today[rows, None])
            sums = np.where(alike, values[chosen], np.float32(0.0)).sum(axis=1, dtype=np.float64)
            effect[rows] = sums / (numbers_of(alike) + _PRIOR)
        effects.append(effect)
    return effects
