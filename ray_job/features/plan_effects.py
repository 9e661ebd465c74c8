"""What a value of a plan has meant for a series before: effects of promotions, prices and events.

A plan is a known-ahead column. Each series is compared with its own past only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ray_job.data.panel import Floats, Floats32
from ray_job.features.day_statistics import mean_known

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
    column: int,
    texts: Collection[str],
) -> dict[str, Floats]:
    """The features `effect_names`, each (n,), of the day with the index `column`.

    `residuals` is (n, d), up to the as-of; `ahead` has d or more days for each known-ahead column.
    """
    days = residuals.shape[1]
    counted = ~np.isnan(residuals)
    values = np.where(counted, residuals, np.float32(0.0))
    features = {}
    for name, plan in ahead.items():
        if name == "open":
            continue
        today = plan[:, column]
        alike = counted & (plan[:, :days] == today[:, None])
        number = alike.sum(axis=1)
        total = np.where(alike, values, np.float32(0.0)).sum(axis=1, dtype=np.float64)
        effect = total / (number + _PRIOR)
        features[f"residual_same_{name}"] = np.where(np.isnan(today), np.nan, effect)
        if name in texts:
            continue
        usual = mean_known(
            np.ascontiguousarray(plan[:, max(0, days - _USUAL_DAYS) : days], dtype=np.float64)
        )
        size = np.abs(usual)
        change = np.where(size > 0, (today - usual) / np.where(size > 0, size, 1.0), 0.0)
        unknown = np.isnan(today) | np.isnan(usual)
        features[f"{name}_relative"] = np.where(
            unknown, np.nan, np.clip(change, -_UNUSUAL, _UNUSUAL)
        )
    return features
