"""Features of a series' sales themselves: means of sales, and how they change.

The features of `past` compare logs. A mean of logs lies below the log of the mean, far below it
where a series often sells nothing. These features are logs of means, so that a model sees the
amounts that are ordered. They need no year of history.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats, Floats32
from ray_job.features.day_statistics import Ranks, means_of_last, numbers_of

Flags = npt.NDArray[np.bool_]

MEAN_OF_LAST = (3, 7, 14, 28, 56)
"""Numbers of last days that count, for means of sales."""
MEAN_OF_WEEKDAY = (4, 12)
"""Numbers of last days of the target's weekday that count, for means of sales."""
LAGS = (0, 1, 2, 3, 4, 5, 6, 13, 20, 27)
"""Days before the as-of whose sales are features by themselves."""
LAGS_OF_WEEKDAY = (1, 2, 3, 4)
"""Days of the target's weekday, counted back from the as-of, whose sales are features as well."""

RECENT_DAYS = 210
_ZERO_DAYS = 28

AMOUNTS = (
    "mean_recent",
    *(f"mean_last_{k}" for k in MEAN_OF_LAST),
    "share_without_sales_28",
    "days_since_sold",
    "variation",
    *(f"lag_{k}" for k in LAGS),
)
AMOUNTS_OF_WEEKDAY = (
    *(f"mean_same_weekday_{k}" for k in MEAN_OF_WEEKDAY),
    *(f"lag_weekday_{k}" for k in LAGS_OF_WEEKDAY),
)


def amounts(values: Floats, counted: Flags, rank: Ranks) -> dict[str, Floats]:
    """The features AMOUNTS of the last RECENT_DAYS days, each (n,).

    `values` (n, RECENT_DAYS or fewer) are the sales of these days, at least 0, and 0 on days that
    do not count. `counted` marks the days that count, `rank` is `rank_from_end(counted)`.
    """
    days = numbers_of(counted)
    number = np.maximum(days, 1)
    mean = np.where(days > 0, values.sum(axis=1) / number, np.nan)
    recent = np.log1p(mean)
    columns = {"mean_recent": recent}
    for name, of_last in means_of_last(
        values, counted, {f"mean_last_{k}": k for k in MEAN_OF_LAST}, rank
    ).items():
        columns[name] = np.log1p(of_last) - recent
    last = counted & (rank <= _ZERO_DAYS)
    number_last = np.minimum(days, _ZERO_DAYS)
    columns["share_without_sales_28"] = np.where(
        number_last > 0, numbers_of(last & (values <= 0)) / np.maximum(number_last, 1), np.nan
    )
    sold = values > 0
    since = rank[:, ::-1]
    first = np.argmax(sold[:, ::-1], axis=1)
    columns["days_since_sold"] = np.where(
        sold.any(axis=1), since[np.arange(len(since)), first] - 1.0, np.nan
    )
    deviation = np.where(counted, values - np.nan_to_num(mean)[:, None], 0.0)
    spread = np.sqrt((deviation * deviation).sum(axis=1) / number)
    columns["variation"] = np.where(mean > 0, spread / np.where(mean > 0, mean, 1.0), np.nan)
    return columns | _lags(values, counted)


def _lags(values: Floats, counted: Flags) -> dict[str, Floats]:
    width = values.shape[1]
    unknown = np.full(len(values), np.nan)
    columns = {}
    for k in LAGS:
        day = width - 1 - k
        columns[f"lag_{k}"] = (
            np.where(counted[:, day], np.log1p(values[:, day]), np.nan) if day >= 0 else unknown
        )
    return columns


def amounts_of_weekday(of_weekday: Floats32, recent: Floats) -> dict[str, Floats]:
    """The features AMOUNTS_OF_WEEKDAY, each (n,).

    `of_weekday` is (n, w): the sales of the target's weekday, newest last, NaN where they do not
    count. `recent` is the feature `mean_recent`.
    """
    counted = ~np.isnan(of_weekday)
    values = np.where(counted, of_weekday, 0.0).astype(np.float64)
    means = means_of_last(values, counted, {f"mean_same_weekday_{k}": k for k in MEAN_OF_WEEKDAY})
    unknown = np.full(len(of_weekday), np.nan)
    return {name: np.log1p(mean) - recent for name, mean in means.items()} | {
        f"lag_weekday_{k}": (
            np.log1p(of_weekday[:, -k].astype(np.float64)) if k <= of_weekday.shape[1] else unknown
        )
        for k in LAGS_OF_WEEKDAY
    }
