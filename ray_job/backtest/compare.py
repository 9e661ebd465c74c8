"""Comparison of two models on the same days: which has the smaller error, and is that chance?

The test is that of Diebold and Mariano (1995, "Comparing predictive accuracy"), with the small
sample correction and the t distribution of Harvey, Leybourne and Newbold (1997). It is a test over
days: the errors of the stores on one day have much in common, so that a day is one observation,
however many stores there are. The variance of the mean takes the correlation of neighbouring days
into account (Newey and West 1987, Bartlett weights). The number of lags is that of their rule of
1994, and at least days ahead less 1, because forecasts several days ahead overlap.
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
from ray_job.features.kinds import KINDS
from ray_job.model.model import Model

LEAST_DAYS = 7
"""A comparison needs each weekday at least once."""

_KEYS = ["store_id", "item_id", "as_of", "target_date", "days_ahead"]
_SIGNIFICANT = 0.05
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the test, over `days` days with `lags` lags.

    `difference`: WAPE of the second model less WAPE of the first; negative where the second is
    better. `low` and `high`: its 95 % confidence interval. `statistic`: the corrected statistic of
    the two-sided test.
    """

    days: int
    lags: int
    difference: float
    low: float
    high: float
    statistic: float
    p_value: float
    days_better: int
    """The number of days on which the second model had the smaller error."""


def common_days(first: Model, second: Model, last: date, days: int) -> tuple[date, date]:
    """The first and the last of up to `days` days until `last` that neither model was trained on.

    Raises InputError where they are fewer than LEAST_DAYS.
    """
    trained = max(first.description.trained_on.last, second.description.trained_on.last)
    begin = max(last - (days - 1) * _DAY, trained + _DAY)
    common = (last - begin).days + 1
    if common < LEAST_DAYS:
        raise InputError(
            f"models {first.description.version} and {second.description.version} were trained on"
            f" days up to {trained}, which leaves {max(common, 0)} days until {last} that neither"
            f" was trained on; a comparison needs {LEAST_DAYS}"
        )
    return begin, last


def compare(first: pa.Table, second: pa.Table) -> dict[str, Any]:
    """The measures of two backtests on the rows that both have, and the test.

    `first` and `second` are rows of `Backtest`. The result has `first`, `second`, `test` and
    `better` of one day ahead, and the same for each number of days ahead in `by_days_ahead`.
    `kinds` has the same for each kind of series, one day ahead. `better` is "first" or "second"
    where the test's p value is below 0.05, else None.
    Raises InputError where the backtests have no row one day ahead in common.
    """
    both = _join(first, second)
    ahead = both["days_ahead"].to_numpy()
    by_days_ahead = {
        str(days): _compare_rows(both.filter(pc.equal(both["days_ahead"], days)), int(days))
        for days in np.unique(ahead)
    }
    if "1" not in by_days_ahead:
        raise InputError("the two backtests have no forecast one day ahead in common")
    one_ahead = both.filter(pc.equal(both["days_ahead"], 1))
    return {
        **by_days_ahead["1"],
        "by_days_ahead": by_days_ahead,
        "kinds": {
            kind: _compare_rows(one_ahead.filter(pc.equal(one_ahead["kind"], kind)), 1)
            for kind in KINDS
            if pc.any(pc.equal(one_ahead["kind"], kind)).as_py()
        },
    }


def diebold_mariano(losses: Floats, others: Floats, sold: float, days_ahead: int) -> Verdict:
    """The test of two series of daily losses (Σ|error| over the stores): (days,), oldest first.

    `sold` is the sum of the sales of all days.
    """
    n = len(losses)
    daily = (others - losses) / (sold / n)
    mean = float(daily.mean())
    lags = min(n - 1, max(days_ahead - 1, math.floor(4 * (n / 100) ** (2 / 9))))
    error = math.sqrt(_long_run_variance(daily, lags) / n)
    correction = (n + 1 - 2 * days_ahead + days_ahead * (days_ahead - 1) / n) / n
    error /= math.sqrt(max(correction, 1 / n))
    statistic = mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0
    margin = error * float(special.stdtrit(n - 1, 1 - _SIGNIFICANT / 2))
    return Verdict(
        days=n,
        lags=lags,
        difference=mean,
        low=mean - margin,
        high=mean + margin,
        statistic=statistic,
        p_value=2 * float(special.stdtr(n - 1, -abs(statistic))),
        days_better=int((daily < 0).sum()),
    )


def _join(first: pa.Table, second: pa.Table) -> pa.Table:
    """The rows that both have a forecast of, sorted; columns of the second end with `_second`."""
    values = ["actual", "predicted", "lower", "upper"]
    joined = first.select([*_KEYS, *values, "kind", "unit"]).join(
        second.select([*_KEYS, *values[1:]]),
        keys=_KEYS,
        join_type="inner",
        right_suffix="_second",
    )
    known = pc.and_(pc.is_finite(joined["predicted"]), pc.is_finite(joined["predicted_second"]))
    return joined.filter(known).sort_by([(key, "ascending") for key in _KEYS])


def _compare_rows(rows: pa.Table, days_ahead: int) -> dict[str, Any]:
    column = {name: rows[name].to_numpy() for name in rows.column_names if name not in _KEYS}
    actual, unit = column["actual"], column["unit"]
    _, day = np.unique(rows["target_date"].to_numpy(), return_inverse=True)
    losses = [
        np.bincount(day, weights=np.abs(column[name] - actual)).astype(np.float64)
        for name in ("predicted", "predicted_second")
    ]
    verdict = diebold_mariano(losses[0], losses[1], float(actual.sum()), days_ahead)
    better = "second" if verdict.difference < 0 else "first"
    first, second = (
        measures(
            actual,
            column[f"predicted{suffix}"],
            column[f"lower{suffix}"],
            column[f"upper{suffix}"],
            unit,
        )
        for suffix in ("", "_second")
    )
    return {
        "first": first,
        "second": second,
        "test": asdict(verdict),
        "better": better if verdict.p_value < _SIGNIFICANT else None,
    }


def _long_run_variance(values: Floats, lags: int) -> float:
    """The long-run variance of Newey and West, at least 0."""
    deviation = values - values.mean()
    n = len(values)
    total = float(deviation @ deviation) / n
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * float(deviation[lag:] @ deviation[:-lag]) / n
    return max(total, 0.0)
