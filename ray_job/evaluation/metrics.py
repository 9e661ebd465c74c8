"""Error measures of forecasts."""

from __future__ import annotations

import numpy as np

from ray_job.data.panel import Floats

_LOWER, _UPPER = 0.1, 0.9
RATED = 0.95
"""A relative error is a measure where at least this share of the rows has sales."""


def pinball(actual: Floats, quantile: Floats, level: float) -> Floats:
    """The pinball loss (n,) of forecasts of the quantile `level`."""
    off = actual - quantile
    return np.asarray(np.maximum(level * off, (level - 1.0) * off), dtype=np.float64)


def measures(
    actual: Floats,
    predicted: Floats,
    lower: Floats | None = None,
    upper: Floats | None = None,
    unit: Floats | None = None,
) -> dict[str, float | int | None]:
    """The measures by name, of arrays (n,). A row without a prediction (NaN) counts in `rows` only.

    - rows: n
    - rmspe: sqrt(mean(((actual − predicted) / actual)²)) over the rows with sales
    - wape: Σ|actual − predicted| / Σ actual
    - mae: mean |actual − predicted|, in units of sales
    - bias: Σ(predicted − actual) / Σ actual
    - coverage_80: the share of the rows whose sales are inside the interval
    - width_80: Σ(upper − lower) / Σ actual

    - pinball_80: Σ(pinball loss of the lower bound for 10 %, and of the upper for 90 %) / Σ actual
    - rmsse: sqrt(mean(((actual − predicted) / unit)²)) over the rows with a unit above 0; the unit
      is the root mean square of the changes from day to day of the series before (Hyndman and
      Koehler, 2006, squared as in the M5 competition)

    rmspe is None where more than one row in twenty has no sales: what is left would be no measure
    of the forecast. The three of the interval only with `lower` and `upper`, rmsse only with
    `unit`. None where the divisor is 0.
    """
    rows = len(actual)
    known = ~np.isnan(predicted)
    sold, forecast = actual[known], predicted[known]
    total = float(sold.sum())
    positive = sold > 0
    ratios = (sold[positive] - forecast[positive]) / sold[positive]
    rated = len(ratios) > 0 and len(ratios) >= RATED * len(sold)
    measured: dict[str, float | int | None] = {
        "rows": rows,
        "rmspe": float(np.sqrt(np.mean(ratios**2))) if rated else None,
        "wape": float(np.abs(sold - forecast).sum()) / total if total else None,
        "mae": float(np.abs(sold - forecast).mean()) if len(sold) else None,
        "bias": float((forecast - sold).sum()) / total if total else None,
    }
    if lower is not None and upper is not None:
        low, high = lower[known], upper[known]
        inside = (sold >= low) & (sold <= high)
        measured["coverage_80"] = float(inside.mean()) if len(sold) else None
        measured["width_80"] = float((high - low).sum()) / total if total else None
        losses = pinball(sold, low, _LOWER).sum() + pinball(sold, high, _UPPER).sum()
        measured["pinball_80"] = float(losses) / total if total else None
    if unit is not None:
        known_unit = unit[known]
        scaled = known_unit > 0
        errors = (sold[scaled] - forecast[scaled]) / known_unit[scaled]
        measured["rmsse"] = float(np.sqrt(np.mean(errors**2))) if len(errors) else None
    return measured
