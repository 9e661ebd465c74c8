"""Backtests: forecasts of past days, made as if on the evening before, and how good they were."""

from ray_job.backtest.rolling_origin import Backtest, backtest

__all__ = ["Backtest", "backtest"]
