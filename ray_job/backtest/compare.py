"""Two models on the same days: which is nearer to the sales, and could that be chance?

The test is that of Diebold and Mariano (1995, "Comparing predictive accuracy"), with the small
sample correction and the t distribution of Harvey, Leybourne and Newbold (1997), over days: the
stores' errors of one day have much in common, so that a day counts as one observation, however many
stores it has. The variance of the mean takes neighbouring days' correlation into account (Newey and
West 1987, Bartlett weights; as many lags as their rule of 1994 says, at least days ahead less one,
as forecasts several days ahead overlap).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special  # type: ignore[import-untyped]

from ray_job.bucket.errors import InputError
from ray_job.data.panel import Floats
from ray_job.evaluation.metrics import measures
from ray_job.model.model import Model

LEAST_DAYS = 7
"""Fewer days than a week say nothing of a business that lives by weekdays."""

_KEYS = ["store_id", "item_id", "as_of", "target_date", "days_ahead"]
_SIGNIFICANT = 0.05
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`difference`: WAPE of the second less that of the first; negative where the second is better.

    `low` and `high` bound it with 95 % confidence. `statistic` is the corrected one; two-sided.
    """

    days: int
    lags: int
    difference: float
    low: float
    high: float
    statistic: float
    p_value: float
    days_better: int
    """Days on which the second was nearer."""


def common_days(first: Model, second: Model, last: date, days: int) -> tuple[date, date]:
    """Up to `days` days until `last` that neither model was trained on.

    Raises InputError where they are fewer than LEAST_DAYS.
    """
    trained = max(first.description.trained_on.last, second.description.trained_on.last)
    begin = max(last - (days - 1) * _DAY, trained + _DAY)
    found = (last - begin).days + 1
    if found < LEAST_DAYS:
        raise InputError(
            f"models {first.description.version} and {second.description.version} were trained on"
            f" days up to {trained}, which leaves {max(found, 0)} days until {last} that neither"
            f" has seen; it takes {LEAST_DAYS}"
        )
    return begin, last


def compare(first: pa.Table, second: pa.Table) -> dict[str, Any]:
    """The measures of two backtests' rows where both have a forecast, and the test.

    The plain figures are those of one day ahead. `better` is "first" or "second" where the test's
    p value is below 0.05, else None.
    """
    both = _joined(first, second)
    ahead = both["days_ahead"].to_numpy()
    by_days_ahead = {
        str(days): _compared(both.filter(pc.equal(both["days_ahead"], days)), int(days))
        for days in np.unique(ahead)
    }
    if "1" not in by_days_ahead:
        raise InputError("the two backtests have no forecast one day ahead in common")
    return {**by_days_ahead["1"], "by_days_ahead": by_days_ahead}


def diebold_mariano(losses: Floats, others: Floats, sold: float, days_ahead: int) -> Verdict:
    """The test of two series of daily losses (Σ|error| over the stores), oldest day first.

    `sold` is the sum of sales over all the days.
    """
    n = len(losses)
    daily = (others - losses) / (sold / n)
    mean = float(daily.mean())
    lags = min(n - 1, max(days_ahead - 1, math.floor(4 * (n / 100) ** (2 / 9))))
    error = math.sqrt(_long_run_variance(daily, lags) / n)
    correction = (n + 1 - 2 * days_ahead + days_ahead * (days_ahead - 1) / n) / n
    error /= math.sqrt(max(correction, 1 / n))
    statistic = mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0
    reach = error * float(special.stdtrit(n - 1, 1 - _SIGNIFICANT / 2))
    return Verdict(
        days=n,
        lags=lags,
        difference=mean,
        low=mean - reach,
        high=mean + reach,
        statistic=statistic,
        p_value=2 * float(special.stdtr(n - 1, -abs(statistic))),
        days_better=int((daily < 0).sum()),
    )


def _joined(first: pa.Table, second: pa.Table) -> pa.Table:
    values = ["actual", "predicted", "lower", "upper"]
    joined = first.select([*_KEYS, *values]).join(
        second.select([*_KEYS, *values[1:]]),
        keys=_KEYS,
        join_type="inner",
        right_suffix="_second",
    )
    known = pc.and_(pc.is_finite(joined["predicted"]), pc.is_finite(joined["predicted_second"]))
    return joined.filter(known).sort_by([(key, "ascending") for key in _KEYS])


def _compared(rows: pa.Table, days_ahead: int) -> dict[str, Any]:
    column = {name: rows[name].to_numpy() for name in rows.column_names if name not in _KEYS}
    actual = column["actual"]
    _, day = np.unique(rows["target_date"].to_numpy(), return_inverse=True)
    losses = [
        np.bincount(day, weights=np.abs(column[name] - actual)).astype(np.float64)
        for name in ("predicted", "predicted_second")
    ]
    tested = diebold_mariano(losses[0], losses[1], float(actual.sum()), days_ahead)
    better = "second" if tested.difference < 0 else "first"
    return {
        "first": measures(actual, column["predicted"], column["lower"], column["upper"]),
        "second": measures(
            actual, column["predicted_second"], column["lower_second"], column["upper_second"]
        ),
        "test": asdict(tested),
        "better": better if tested.p_value < _SIGNIFICANT else None,
    }


def _long_run_variance(values: Floats, lags: int) -> float:
    """Newey and West's, never negative."""
    apart = values - values.mean()
    n = len(values)
    total = float(apart @ apart) / n
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * float(apart[lag:] @ apart[:-lag]) / n
    return max(total, 0.0)
