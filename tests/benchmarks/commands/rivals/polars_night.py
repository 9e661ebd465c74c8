# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "numpy>=2.3",
#   "polars>=2.1",
#   "scikit-learn>=1.8",
# ]
# ///
"""A night of one day with Polars and scikit-learn, all stores at once.

    polars_night.py fit BUCKET MODEL               once, on a small bucket
    polars_night.py run BUCKET MODEL OUT 1

A process of its own, as `mlforecast_night.py` is.
"""

from __future__ import annotations

import datetime as dt
import pickle
import sys
from pathlib import Path

import numpy as np
import polars as pl

KEY = "store_id"
LAGS = (1, 2, 3, 4, 5, 6, 7, 14, 21, 28, 35, 42, 364)
FIT_DAYS, RUN_DAYS, FIT_ROWS = 800, 400, 200_000


def histories(bucket: str, days: int) -> pl.LazyFrame:
    scan = pl.scan_parquet(f"{bucket}/batch_data/store_id=*/*.parquet", hive_partitioning=True)
    last = scan.select(pl.col("date").max()).collect().item()
    recent = scan.filter(pl.col("date") > last - dt.timedelta(days=days))
    return recent.select(KEY, "date", "sales", "open", "promo")


def features(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The table with the features of each row; of the day after the last one, too."""
    following = rows.group_by(KEY).agg(pl.col("date").max() + dt.timedelta(days=1))
    following = following.with_columns(
        sales=pl.lit(None, pl.Float64), open=pl.lit(1.0), promo=pl.lit(0.0)
    )
    rows = pl.concat([rows, following], how="vertical_relaxed").sort(KEY, "date")
    rows = rows.with_columns(
        weekday=pl.col("date").dt.weekday(), sold=pl.when(pl.col("open") > 0).then("sales")
    )
    before = pl.col("sold").shift(1)
    made = [pl.col("sales").shift(lag).over(KEY).alias(f"lag{lag}") for lag in LAGS]
    made += [
        before.rolling_mean(days, min_samples=1).over(KEY).alias(f"mean{days}")
        for days in (7, 14, 28, 56, 91, 182, 364)
    ]
    made += [
        before.rolling_std(days, min_samples=2).over(KEY).alias(f"std{days}") for days in (28, 91)
    ]
    for weeks in (4, 8, 26, 52):
        same = before.rolling_mean(weeks, min_samples=1).over(KEY, "weekday")
        made.append(same.alias(f"weekday{weeks}"))
    made.append(before.rolling_mean(14, min_samples=1).over(KEY, "promo").alias("promo14"))
    return rows.with_columns(made).with_columns(
        day=pl.col("date").dt.day(),
        month=pl.col("date").dt.month(),
        ordinal=pl.col("date").dt.ordinal_day(),
    )


def _names(table: pl.DataFrame) -> list[str]:
    return [name for name in table.columns if name not in {KEY, "date", "sales", "sold"}]


def fit(bucket: str, model: str) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415

    table = features(histories(bucket, FIT_DAYS)).filter(pl.col("sold").is_not_null()).collect()
    table = table.sample(min(FIT_ROWS, len(table)), seed=1)
    trees = HistGradientBoostingRegressor(max_iter=500, learning_rate=0.06, max_leaf_nodes=63)
    trees.fit(table.select(_names(table)).to_numpy(), np.log1p(table["sales"].to_numpy()))
    Path(model).write_bytes(pickle.dumps(trees))


def run(bucket: str, model: str, out: str) -> None:
    following = pl.col("date") == pl.col("date").max().over(KEY)
    table = features(histories(bucket, RUN_DAYS)).filter(following).collect()
    trees = pickle.loads(Path(model).read_bytes())  # noqa: S301 - made by `fit`
    made = np.expm1(trees.predict(table.select(_names(table)).to_numpy()))
    table.select(KEY, "date").with_columns(sales=pl.Series(made)).write_parquet(out)


if __name__ == "__main__":
    if sys.argv[1] == "fit":
        fit(*sys.argv[2:4])
    elif sys.argv[5] == "1":
        run(*sys.argv[2:5])
    else:
        sys.exit("one day ahead only")
