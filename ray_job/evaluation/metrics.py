"""Error measures of forecasts."""

from __future__ import annotations

import numpy as np

from ray_job.data.panel import Floats


def measures(
    actual: Floats,
    predicted: Floats,
    lower: Floats | None = None,
    upper: Floats | None = None,
) -> dict[str, float | int | None]:
    """The measures by name, of arrays (n,). A row without a prediction (NaN) counts in `rows` only.

    - rows: n
    - rmspe: sqrt(mean(((actual − predicted) / actual)²)) over the rows with sales
    - wape: Σ|actual − predicted| / Σ actual
    - mae: mean |actual − predicted|, in units of sales
    - bias: Σ(predicted − actual) / Σ actual
    - coverage_80: the share of the rows whose sales are inside the interval
    - width_80: Σ(upper − lower) / Σ actual

    The last two only with `lower` and `upper`. None where the divisor is 0.
    """
    rows = len(actual)
    known = ~np.isnan(predicted)
    sold, forecast = actual[known], predicted[known]
    total = float(sold.sum())
    positive = sold > 0
    ratios = (sold[positive] - forecast[positive]) / sold[positive]
    measured: dict[str, float | int | None] = {
        "rows": rows,
        "rmspe": float(np.sqrt(np.mean(ratios**2))) if len(ratios) else None,
        "wape": float(np.abs(sold - forecast).sum()) / total if total else None,
        "mae": float(np.abs(sold - forecast).mean()) if len(sold) else None,
        "bias": float((forecast - sold).sum()) / total if total else None,
    }
    if lower is not None and upper is not None:
        low, high = lower[known], upper[known]
        inside = (sold >= low) & (sold <= high)
        measured["coverage_80"] = float(inside.mean()) if len(sold) else None
        measured["width_80"] = float((high - low).sum()) / total if total else None
    return measured
