"""The boosters' shares of a forecast: those that are tried, and those without evidence."""

from __future__ import annotations

Shares = tuple[float, float, float]
"""Of the boosters of logs, of means and of lags."""

_STEPS = 4
TRIED: tuple[Shares, ...] = tuple(
    (logs / _STEPS, (_STEPS - logs - lags) / _STEPS, lags / _STEPS)
    for lags in range(_STEPS + 1)
    for logs in range(_STEPS + 1 - lags)
)
EQUAL: Shares = (1 / 3, 1 / 3, 1 / 3)
_OF_SMOOTH: Shares = (0.75, 0.25, 0.0)
_NOISY = 0.05
_LEAST = 0.05


def usual_shares(factor: float, chosen: Shares) -> Shares:
    """The shares that are served unless held-out weeks agree that `chosen` are better, see 0134.

    `factor` is that which makes the sum of the forecasts of the booster of logs one of means. The
    noisier sales are, the larger it is: from 5 % on, the chosen ones are the usual ones.
    """
    return between(_OF_SMOOTH, chosen, min(abs(factor - 1.0) / _NOISY, 1.0))


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
