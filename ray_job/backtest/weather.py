"""Weather with the errors of a forecast, for backtests on observed weather."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date

import numpy as np

from ray_job.data.context import Context
from ray_job.data.panel import Floats, Floats32

_SEED = 17


def with_forecast_errors(context: Context, as_of: date, noise: float) -> Context:
    """The context of one night, with errors in the weather of the days after `as_of`.

    Observed weather is a forecast without error. The error added to a column is normal. Its
    standard deviation is `noise` times that of the column's differences from its own monthly mean,
    times the square root of the days ahead. For temperatures of central Europe (deviations of about
    4.5 degrees), 0.3 gives 1.4 degrees on the next day and 3.6 degrees a week ahead, about what
    weather services report of their forecasts. Values stay within the observed range. The same
    night always gets the same errors. Without noise or weather the context comes back as it is.
    """
    first = (as_of - context.first_day).days + 1
    days = context.weather.shape[1] - first
    if noise <= 0 or days <= 0 or first < 1 or not context.weather_columns:
        return context
    observed = context.weather[:-1] if len(context.regions) else context.weather
    spread = np.nan_to_num(_spread(observed))
    rng = np.random.default_rng([_SEED, as_of.toordinal()])
    growth = np.sqrt(np.arange(1, days + 1))[None, :, None]
    errors = rng.standard_normal((len(context.weather), days, spread.size))
    weather = context.weather.copy()
    weather[:, first:] = np.clip(
        weather[:, first:] + noise * growth * spread * errors,
        np.nanmin(observed, axis=(0, 1)),
        np.nanmax(observed, axis=(0, 1)),
    )
    digest = hashlib.sha256(f"{context.digest} {as_of} {noise}".encode()).hexdigest()
    return replace(context, weather=weather, digest=digest)


def _spread(weather: Floats32) -> Floats:
    """The standard deviation of each column from its mean of the 31 days around: (columns,)."""
    days = weather.shape[1]
    reach = min(15, (days - 1) // 2)
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    spreads = []
    for column in range(weather.shape[2]):
        values = weather[:, :, column].astype(np.float64)
        filled = np.where(np.isnan(values), np.nanmean(values), values)
        smooth = np.stack([np.convolve(row, kernel, mode="same") for row in filled])
        inside = slice(reach, days - reach)
        spreads.append(float(np.std(filled[:, inside] - smooth[:, inside])))
    return np.array(spreads)
