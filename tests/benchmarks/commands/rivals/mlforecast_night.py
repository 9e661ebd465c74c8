# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "lightgbm>=4.7",
#   "mlforecast>=1.1",
#   "polars>=2.1",
#   "pyarrow>=24",
# ]
# ///
"""A night with mlforecast, Polars and LightGBM on one machine, as one would write it today.

    mlforecast_night.py fit BUCKET MODEL               once, on a small bucket
    mlforecast_night.py run BUCKET MODEL OUT HORIZON

All histories are in memory at once. It has about as many features and trees as our model, works
recursively from day to day, and knows neither weather and holidays nor intervals, failed stores or
releases. A process of its own: nothing of the project is imported.
"""

from __future__ import annotations

import datetime as dt
import os
import sys

import lightgbm as lgb
import polars as pl
from mlforecast import MLForecast
from mlforecast.lag_transforms import RollingMean, RollingStd, SeasonalRollingMean

CORES = os.cpu_count() or 1
LAGS = [1, 2, 3, 4, 5, 6, 7, 14, 21, 28, 35, 42, 364]
FIT_DAYS, RUN_DAYS = 800, 400


def histories(bucket: str, days: int) -> tuple[pl.DataFrame, dt.date]:
    """The last `days` of all stores, sorted, and the newest day."""
    scan = pl.scan_parquet(f"{bucket}/batch_data/store_id=*/*.parquet", hive_partitioning=True)
    last = scan.select(pl.col("date").max()).collect().item()
    rows = scan.filter(pl.col("date") > last - dt.timedelta(days=days)).select(
        unique_id="store_id", ds="date", y=pl.col("sales").fill_null(0), open="open", promo="promo"
    )
    return rows.collect().sort("unique_id", "ds"), last


def fit(bucket: str, model: str) -> None:
    rows, _ = histories(bucket, FIT_DAYS)
    transforms = [
        *(RollingMean(days, 1) for days in (7, 14, 28, 56, 91, 182, 364)),
        *(RollingStd(days, 2) for days in (28, 91)),
        *(SeasonalRollingMean(7, weeks, 1) for weeks in (4, 8, 26, 52)),
    ]
    trees = lgb.LGBMRegressor(
        n_estimators=500, learning_rate=0.06, num_leaves=63, verbose=-1, n_jobs=CORES
    )
    forecast = MLForecast(
        models={"sales": trees},
        freq="1d",
        lags=LAGS,
        lag_transforms={1: transforms},
        date_features=["weekday", "day", "month", "ordinal_day"],
        num_threads=CORES,
    )
    forecast.fit(rows, static_features=[], dropna=False, validate_data=False)
    forecast.save(model)


def run(bucket: str, model: str, out: str, horizon: int) -> None:
    rows, last = histories(bucket, RUN_DAYS)
    forecast = MLForecast.load(model)
    rows = rows.filter(pl.col("ds").max().over("unique_id") == last)
    days = pl.DataFrame({"ds": [last + dt.timedelta(days=ahead + 1) for ahead in range(horizon)]})
    known = rows.select(pl.col("unique_id").unique()).join(days, how="cross")
    known = known.with_columns(open=pl.lit(1.0), promo=pl.lit(0.0))
    forecast.predict(horizon, new_df=rows, X_df=known).write_parquet(out)


if __name__ == "__main__":
    if sys.argv[1] == "fit":
        fit(*sys.argv[2:4])
    else:
        run(*sys.argv[2:5], int(sys.argv[5]))
