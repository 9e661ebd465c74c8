"""The boosters' shares of a forecast: those that are tried, and those without evidence."""

from __future__ import annotations

import numpy as np

from ray_job.data.panel import Floats

Shares = tuple[float, float, float]
"""Of the boosters of logs, of means and of lags: each from 0 to 1, their sum is 1."""

_STEPS = 4
TRIED: tuple[Shares, ...] = tuple(
    (logs / _STEPS, (_STEPS - logs - lags) / _STEPS, lags / _STEPS)
    for lags in range(_STEPS + 1)
    for logs in range(_STEPS + 1 - lags)
)
EQUAL: Shares = (1 / 3, 1 / 3, 1 / 3)
_USUAL: Shares = (0.75, 0.25, 0.0)
_STEADY, _NOISY = 0.02, 0.05
"""Sales are steady up to the first noise, and noisy from the second one on."""
_LEAST = 0.05
"""A booster with a smaller share is not computed."""


def usual_shares(noise: float, chosen: Shares) -> Shares:
    """The shares from which held-out weeks have to agree to leave, see 0134.

    Of steady sales they are three quarters for logs and a quarter for means. The more `noise` there
    is, the nearer they are to those that the held-out days have `chosen`.
    """
    weight = (noise - _STEADY) / (_NOISY - _STEADY)
    return between(_USUAL, chosen, min(max(weight, 0.0), 1.0))


def noise_of(actual: Floats, predicted: Floats) -> float:
    """By how much means lie above means of logs: 0.05 is 5 %, about half the variance of a log.

    `actual` and `predicted` are sales (m,), the latter by the booster of logs. The result is Duan's
    smearing estimate (1983) less 1, weighted by the forecasts. Neither a bias nor the pace of the
    weeks counts as noise.
    """
    sold = 1.0 + np.maximum(predicted, 0.0)
    errors = np.log((1.0 + np.maximum(actual, 0.0)) / sold)
    return float(np.average(np.exp(errors - np.average(errors, weights=sold)), weights=sold)) - 1.0


def between(first: Shares, second: Shares, weight: float) -> Shares:
    """The first shares for a weight of 0, the second ones for a weight of 1."""
    pairs = zip(first, second, strict=True)
    logs, means, lags = ((1.0 - weight) * low + weight * high for low, high in pairs)
    return logs, means, lags


def worth_their_time(shares: Shares) -> Shares:
    """The shares without those under 5 %, whose boosters would be computed for next to nothing."""
    logs, means, lags = (share if share >= _LEAST else 0.0 for share in shares)
    total = logs + means + lags
    return logs / total, means / total, lags / total
