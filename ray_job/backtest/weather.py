"""A context whose weather has the errors of a forecast."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date

import numpy as np

from ray_job.data.context import Context
from ray_job.data.panel import Floats, Floats32

_SEED = 17


def with_forecast_errors(context: Context, as_of: date, noise: float) -> Context:
    """The context as of a night, with errors in the weather of the days after it.

    Observed weather is a forecast without error. The error added to a column has a standard
    deviation of `noise` times that of the column's changes against its own month-long mean (what a
    forecast is there to tell), and grows with the square root of the days ahead. For temperatures
    of central Europe (deviations of about 4.5 degrees) 0.3 is 1.4 degrees on the next day and 3.6 a
    week ahead, about what weather services report of theirs. Values stay within those observed.
    The same night gets the same errors.
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
    return replace(context, weather=weather, digest=_digest(context, f"{as_of} {noise}"))


def _spread(weather: Floats32) -> Floats:
    """Per column, the standard deviation from the mean of the 31 days around."""
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


def _digest(context: Context, what: str) -> str:
    return hashlib.sha256(f"{context.digest} {what}".encode()).hexdigest()
