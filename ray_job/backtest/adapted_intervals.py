"""The intervals of a backtest as its nights would have served them: adapted from day to day."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ray_job.bucket.widths import CALIBRATED
from ray_job.model.adaptive import DayOfScores, adapted, after_day, of_series
from ray_job.model.intervals import Calibration

_AS_OF_AFTER_TARGET = 1
"""A run scores its as-of after it has forecast: the next night is the first that counts it."""


def with_adapted_intervals(
    rows: pa.Table, horizon: int, calibration: Calibration, late: int = 0, *, adapt: bool = True
) -> pa.Table:
    """The rows of a backtest with `calibrated_lower` and `calibrated_upper`, the bounds until now.

    `lower` and `upper` become those of a chain that began to run on the backtest's first day: each
    as-of counts the target dates before it, without the last `late` days. Without `adapt` they
    stay. The factors are those of single series.
    """
    names = ("actual", "predicted", "lower", "upper")
    actual, predicted, lower, upper = (rows[name].to_numpy() for name in names)
    served = np.stack([lower, upper])
    unrounded = calibration.before_rounding(lower, upper, predicted)
    if adapt and len(actual):
        ahead = rows["days_ahead"].to_numpy().astype(np.int64)
        as_of = rows["as_of"].to_numpy().astype("datetime64[D]").astype(np.int64)
        target = as_of + ahead
        targets = np.unique(target).tolist()
        widths = CALIBRATED
        for night in np.unique(as_of):
            while targets and targets[0] <= night - _AS_OF_AFTER_TARGET - late:
                of_day = target == targets.pop(0)
                day = DayOfScores(
                    ahead[of_day],
                    actual[of_day],
                    predicted[of_day],
                    unrounded[0][of_day],
                    unrounded[1][of_day],
                    np.zeros(int(of_day.sum()), dtype=np.bool_),
                )
                widths = after_day(widths, day, horizon)
            made = as_of == night
            factors = of_series(predicted[made], widths, ahead[made])
            served[:, made] = adapted(
                predicted[made], lower[made], upper[made], factors, calibration
            )
    for name, bound in zip(("lower", "upper"), served, strict=True):
        rows = rows.append_column(f"calibrated_{name}", rows[name].combine_chunks())
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(bound))
    return rows
