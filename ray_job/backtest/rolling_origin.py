"""Backtest with a rolling origin: each past day is forecast from each of the nights before it.

The forecasts come from the function that the nightly run uses. Beside each forecast stand those of
four naive rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ray_job.backtest.adapted_intervals import with_adapted_intervals
from ray_job.backtest.weather import with_forecast_errors
from ray_job.bucket.errors import InputError
from ray_job.data.context import Context, Flags
from ray_job.data.panel import Floats, Panel, StoreSold
from ray_job.evaluation.metrics import measures
from ray_job.features.kinds import KINDS
from ray_job.features.naive import RULES, naive_forecasts
from ray_job.features.past import summarise_sales
from ray_job.features.trading import closed_weekdays_of_chain
from ray_job.forecasting.predict import METHODS, predict_days
from ray_job.model.examples import scored
from ray_job.model.model import Model
from ray_job.settings import Settings

_CALIBRATED = ("calibrated_lower", "calibrated_upper")
_MEASURED = ("actual", "predicted", "lower", "upper", "unit")


@dataclass(frozen=True, slots=True)
class Backtest:
    """`rows`: store_id, item_id, as_of, target_date, days_ahead, actual, predicted, lower, upper,
    calibrated_lower, calibrated_upper, spread, method, weather_missing, kind (of the series), unit
    (of a scaled error: see `metrics`) and one column for each of RULES.

    `lower` and `upper` are as a run would have served them: see `adapted_intervals`.

    There is a row for each series, as-of and target date for which `examples.scored` holds.
    """

    rows: pa.Table

    def report(self) -> dict[str, Any]:
        """The measures one day ahead, those by days ahead, and those of the naive rules.

        The naive rules are measured one day ahead. `calibrated_coverage_80` and
        `calibrated_width_80` are those of the intervals that are not adapted.
        """
        ahead = self.rows["days_ahead"].to_numpy()
        columns = {name: self.rows[name].to_numpy() for name in (*_MEASURED, *_CALIBRATED, *RULES)}
        first = _masked(columns, ahead == 1)
        return {
            **_measures(first),
            "by_days_ahead": {
                str(days): _measures(_masked(columns, ahead == days))
                for days in sorted({int(value) for value in ahead})
            },
            "naive": {
                rule: {
                    name: value
                    for name, value in measures(
                        first["actual"], first[rule], unit=first["unit"]
                    ).items()
                    if name in ("rmspe", "wape", "rmsse", "bias")
                }
                for rule in RULES
            },
        }


def backtest(
    panel: Panel,
    first: date,
    last: date,
    context: Context,
    model: Model,
    settings: Settings,
    *,
    late: int = 0,
    weather_noise: float = 0.0,
) -> Backtest:
    """Forecasts of `first` to `last`, each 1 to horizon days ahead.

    The sales of the last `late` days before each as-of are withheld. `weather_noise` adds errors to
    the weather after the as-of: see `weather.with_forecast_errors`. Raises InputError where the
    model was trained on one of the days, and where no night has a history.
    """
    trained = model.description.trained_on
    if first <= trained.last and last >= trained.first:
        raise InputError(
            f"model {model.description.version} was trained on days up to {trained.last};"
            f" a backtest from {first} would show errors that are too small"
        )
    judged = scored(panel)
    units = _units(panel.until(min(trained.last, panel.last_day)), judged)
    horizon = min(settings.horizon, model.description.inputs.horizon)
    tables = []
    as_of = max(first - timedelta(days=horizon), panel.first_day)
    while as_of < last:
        targets = [
            target
            for target in (as_of + timedelta(days=ahead) for ahead in range(1, horizon + 1))
            if first <= target <= last
        ]
        known = _without_last_days(
            panel.window(as_of, settings.lookback_days, model.description.inputs.reach), late
        )
        noisy = with_forecast_errors(context, as_of, weather_noise)
        tables.append(_forecast_night(known, panel, judged, targets, noisy, model, settings, units))
        as_of += timedelta(days=1)
    if not tables:
        raise InputError(f"there is no history before {last} to forecast from; take later days")
    rows = pa.concat_tables(tables)
    return Backtest(
        with_adapted_intervals(
            rows,
            horizon,
            model.description.intervals,
            late,
            adapt=settings.intervals.adapt,
        )
    )


def _forecast_night(
    known: Panel,
    panel: Panel,
    judged: Flags,
    targets: list[date],
    context: Context,
    model: Model,
    settings: Settings,
    units: Floats,
) -> pa.Table:
    """The rows of one as-of, the last day of `known`. The sales of `targets` come from `panel`."""
    as_of = known.last_day
    closed_in_chain = closed_weekdays_of_chain(known.store_sold().sold, as_of)
    predictions = predict_days(known, as_of, targets, context, model, settings, closed_in_chain)
    summary = summarise_sales(
        known.sales, known.known_ahead.get("open"), known.known_ahead.get("promo"), as_of
    )
    kinds = np.array(KINDS, dtype=np.object_)[predictions.kinds]
    tables = []
    for place, target in enumerate(targets):
        column = panel.column(target)
        rows = np.flatnonzero(judged[:, column])
        naive = naive_forecasts(known, summary, target)
        tables.append(
            pa.table(
                {
                    "store_id": pa.array(panel.store_ids[rows], pa.string()),
                    "item_id": pa.array(panel.item_ids[rows], pa.string()),
                    "as_of": pa.array([as_of] * len(rows), pa.date32()),
                    "target_date": pa.array([target] * len(rows), pa.date32()),
                    "days_ahead": np.full(len(rows), (target - as_of).days, dtype=np.int32),
                    "actual": np.maximum(panel.sales[rows, column], 0.0),
                    "predicted": predictions.predicted[rows, place],
                    "lower": predictions.lower[rows, place],
                    "upper": predictions.upper[rows, place],
                    "method": pa.array(
                        np.array(METHODS, dtype=np.object_)[predictions.method[rows, place]],
                        pa.string(),
                    ),
                    "spread": predictions.spread[rows, place],
                    "kind": pa.array(kinds[rows], pa.string()),
                    "unit": units[rows],
                    "weather_missing": predictions.weather_missing[rows, place],
                    **{rule: naive[rule][rows] for rule in RULES},
                }
            )
        )
    return pa.concat_tables(tables)


def _units(past: Panel, judged: Flags) -> Floats:
    """(n,): the root mean square of the changes of sales between days that are judged."""
    units = np.full(past.n_series, np.nan)
    sales = np.maximum(past.sales, 0.0)
    for row in range(past.n_series):
        changes = np.diff(sales[row, judged[row, : sales.shape[1]]])
        if len(changes):
            units[row] = np.sqrt(np.mean(changes * changes))
    return units


def _without_last_days(known: Panel, late: int) -> Panel:
    """The panel without the sales of its last `late` days."""
    if not late:
        return known
    sales = known.sales.copy()
    sales[:, -late:] = np.nan
    store_sold = known.store_sold()
    sold = store_sold.sold.copy()
    sold[:, -late:] = False
    stores = StoreSold(sold, store_sold.rows)
    return replace(known, sales=sales, stores=stores)


def _measures(columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, float | int | None]:
    """The measures of rows, and how wide and how good the intervals are that are not adapted."""
    actual, predicted = columns["actual"], columns["predicted"]
    calibrated = measures(actual, predicted, *(columns[name] for name in _CALIBRATED))
    return {
        **measures(*(columns[name] for name in _MEASURED)),
        **{f"calibrated_{name}": calibrated[name] for name in ("coverage_80", "width_80")},
    }


def _masked(columns: Mapping[str, npt.NDArray[Any]], rows: Flags) -> dict[str, npt.NDArray[Any]]:
    return {name: values[rows] for name, values in columns.items()}
