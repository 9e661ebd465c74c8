"""How a backtest went for each kind of series, for totals of stores, and from week to week."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.panel import Flags, Floats
from ray_job.evaluation.metrics import measures
from ray_job.features.kinds import KINDS
from ray_job.features.naive import RULES
from ray_job.model.intervals import Calibration, interval_terms, total_interval

_WEEK = 7
_MEASURED = ("actual", "predicted", "lower", "upper", "unit")


def by_kind(rows: pa.Table) -> dict[str, dict[str, Any]]:
    """The measures one day ahead of each kind of series that occurs.

    `rows` are those of a `Backtest`. `series` is the number of series, and `methods` has the number
    of forecasts by method. `naive_wape` and `naive_rmsse` are those of the best naive rule by each
    of the two.
    """
    rows = rows.filter(pc.equal(rows["days_ahead"], 1)).combine_chunks()
    kinds = {}
    for kind in KINDS:
        part = rows.filter(pc.equal(rows["kind"], kind))
        if not part.num_rows:
            continue
        columns = {name: part[name].to_numpy() for name in (*_MEASURED, *RULES)}
        kinds[kind] = {
            "series": part.group_by(["store_id", "item_id"]).aggregate([]).num_rows,
            **measures(*(columns[name] for name in _MEASURED)),
            **best_rule(columns),
            "methods": {
                row["values"]: row["counts"] for row in pc.value_counts(part["method"]).to_pylist()
            },
        }
    return kinds


def best_rule(columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, float | None]:
    """`naive_wape` and `naive_rmsse`: the least of all naive rules."""
    measured = [measures(columns["actual"], columns[rule], unit=columns["unit"]) for rule in RULES]
    return {
        f"naive_{name}": min(
            (value for row in measured if (value := row[name]) is not None), default=None
        )
        for name in ("wape", "rmsse")
    }


def totals(rows: pa.Table, calibration: Calibration) -> dict[str, dict[str, Any]]:
    """The measures of the totals of stores with several items, by days ahead.

    A total is the sum over the items that are scored. Empty where no store has several items.
    """
    number, first = _groups(rows, ("store_id", "as_of", "days_ahead"))
    several = np.bincount(number) > 1
    if not several.any():
        return {}
    columns = {name: rows[name].to_numpy() for name in ("actual", "predicted", "spread")}
    terms = interval_terms(columns["predicted"], columns["spread"])
    actual, *sums = (
        np.bincount(number, weights=values)[several].astype(np.float64)
        for values in (columns["actual"], *terms)
    )
    ahead = rows["days_ahead"].to_numpy()[first][several]
    low, high = total_interval(sums[0], sums[1], sums[2], ahead.astype(np.float64), calibration)
    by_days = {}
    for days in sorted({int(value) for value in ahead}):
        chosen = ahead == days
        by_days[str(days)] = measures(actual[chosen], sums[0][chosen], low[chosen], high[chosen])
    return by_days


def weeks(rows: pa.Table) -> list[dict[str, Any]]:
    """WAPE and bias of each seven days from the first target date on, one day ahead."""
    rows = rows.filter(pc.equal(rows["days_ahead"], 1)).combine_chunks()
    if not rows.num_rows:
        return []
    target = rows["target_date"].to_numpy().astype("datetime64[D]")
    week = (target - target.min()).astype(np.int64) // _WEEK
    actual, predicted = rows["actual"].to_numpy(), rows["predicted"].to_numpy()
    return [
        {"first": str(target.min() + int(place) * _WEEK), **_sums(actual, predicted, week == place)}
        for place in np.unique(week)
    ]


def _sums(actual: Floats, predicted: Floats, chosen: Flags) -> dict[str, float | int | None]:
    measured = measures(actual[chosen], predicted[chosen])
    return {name: measured[name] for name in ("rows", "wape", "bias")}


def _groups(rows: pa.Table, keys: tuple[str, ...]) -> tuple[npt.NDArray[np.int64], Any]:
    """The number of each row's group (n,), and a row of each group."""
    codes = [pc.dictionary_encode(rows[key].combine_chunks()).indices.to_numpy() for key in keys]
    _, first, number = np.unique(
        np.stack(codes, axis=1), axis=0, return_index=True, return_inverse=True
    )
    return number.ravel(), first
