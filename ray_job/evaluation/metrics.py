"""How far forecasts were off."""

from __future__ import annotations

import numpy as np

from ray_job.data.panel import Floats


def measures(
    actual: Floats,
    predicted: Floats,
    lower: Floats | None = None,
    upper: Floats | None = None,
) -> dict[str, float | int | None]:
    """The measures of arrays of one length; rows without a prediction count in `rows` only.

    rmspe = sqrt(mean(((actual − predicted) / actual)²)) over rows with sales; wape = Σ|actual −
    predicted| / Σ actual; mae in units of sales; bias = Σ(predicted − actual) / Σ actual;
    coverage_80 = share of rows inside of the interval; width_80 = Σ(upper − lower) / Σ actual.
    None where there is nothing to divide by.
    """
    rows = len(actual)
    known = ~np.isnan(predicted)
    sold, said = actual[known], predicted[known]
    total = float(sold.sum())
    positive = sold > 0
    ratios = (sold[positive] - said[positive]) / sold[positive]
    found: dict[str, float | int | None] = {
        "rows": rows,
        "rmspe": float(np.sqrt(np.mean(ratios**2))) if len(ratios) else None,
        "wape": float(np.abs(sold - said).sum()) / total if total else None,
        "mae": float(np.abs(sold - said).mean()) if len(sold) else None,
        "bias": float((said - sold).sum()) / total if total else None,
    }
    if lower is not None and upper is not None:
        low, high = lower[known], upper[known]
        inside = (sold >= low) & (sold <= high)
        found["coverage_80"] = float(inside.mean()) if len(sold) else None
        found["width_80"] = float((high - low).sum()) / total if total else None
    return found
