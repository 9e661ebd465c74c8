"""Stores whose newest sales are far off their own past: they keep their last good forecast. Pure.

A day of which the sales are a hundred times too high moves the forecast of its store, and the sums
of the chain. The store is `failed` until the day is corrected, or is a week old and moves nothing,
or until the next days say that this is its new level. The other stores are published.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.reasons import COVERED, Outcome, ReasonCode
from ray_job.data.arrays import Floats, matrix
from ray_job.publishing.row_order import take_rows

_FEWEST_DAYS = 10
"""Of three weeks; a store with fewer days with sales is not judged."""
_FEWEST_DAYS_BEFORE = 5
"""Else the days far off may be the past, and the others a new level."""
_FACTOR = 8.0
_SPREADS = 6.0
_MOST_DAYS = 5
"""More days far off are a new level."""
_FOLLOWS = 1.5
_BEYOND = 3.0
_GROSS_FACTOR = 20.0
_NEW_DAYS = 7


def without_implausible(outcomes: pa.Table, as_of: date) -> pa.Table:
    """The outcomes of stores (see `release_rows.combine`), `failed` where they are implausible."""
    judged = pc.and_(
        pc.is_in(outcomes["outcome"], pa.array(COVERED)),
        pc.greater(pc.fill_null(pc.list_value_length(outcomes["sold"]), 0), 0),
    )
    places = np.flatnonzero(judged.to_numpy(zero_copy_only=False))
    if not len(places):
        return outcomes
    chosen = take_rows(outcomes.select(["sold", "predicted"]), places)
    reasons = implausible(matrix(chosen["sold"]), matrix(chosen["predicted"]), as_of)
    if not reasons:
        return outcomes
    by_row = {int(places[row]): reason for row, reason in reasons.items()}
    for name, value in (("outcome", Outcome.FAILED), ("reason_code", ReasonCode.IMPLAUSIBLE)):
        outcomes = _put(outcomes, name, dict.fromkeys(by_row, str(value)))
    return _put(outcomes, "reason", by_row)


def implausible(sold: Floats, predicted: Floats, as_of: date) -> dict[int, str]:
    """The rows whose newest sales are far off and whose forecast follows them, with the reason.

    `sold` is (n, d): sales of the days up to the as-of, NaN where unknown; `predicted` is (n, h).
    A day is far off if it is 8 times above or below the median of the days with sales, further from
    it than six times the usual distance (in logs), and 3 times beyond all days that are nearer. At
    most 5 days may be far off, after at least 5 others. A store is implausible if a day is far off
    above the median and the forecast follows it (its mean is 1.5 times above the median), or if
    this day is 20 times above and of the last week. Below the median a day must be 20 times lower
    and the forecast follow it: sales that break down are often true.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.where(sold > 0, sold, np.nan))
        mean = np.log(_mean_of_open_days(predicted))
    number = (~np.isnan(logs)).sum(axis=1)
    reasons: dict[int, str] = {}
    rows = np.flatnonzero(number >= _FEWEST_DAYS)
    if not len(rows):
        return reasons
    # A quick test first: nearly no store has a day that is far off.
    medians = np.nanmedian(logs[rows], axis=1)
    distances = np.abs(logs[rows] - medians[:, None])
    for place in np.flatnonzero(np.nanmax(distances, axis=1) > np.log(_FACTOR)):
        row, median = int(rows[place]), medians[place]
        column = _farthest_day(logs[row], median, distances[place])
        if column is None or np.isnan(mean[row]):
            continue
        is_gross = distances[place, column] > np.log(_GROSS_FACTOR)
        if logs[row, column] > median:
            is_new = column >= sold.shape[1] - _NEW_DAYS
            is_implausible = (is_gross and is_new) or mean[row] - median > np.log(_FOLLOWS)
        else:
            is_implausible = is_gross and median - mean[row] > np.log(_FOLLOWS)
        if is_implausible:
            day = as_of - timedelta(days=sold.shape[1] - 1 - column)
            reasons[row] = (
                f"the sales of {day:%A %-d %B %Y} ({sold[row, column]:,.15g}) are"
                f" {np.exp(logs[row, column] - median):,.3g} times the usual"
                f" ({np.exp(median):,.6g} a day)"
            )
    return reasons


def _farthest_day(logs: Floats, median: float, distances: Floats) -> int | None:
    """The day that is farthest off, None where none is far off or too many are."""
    limit = max(np.log(_FACTOR), _SPREADS * float(np.nanmedian(distances)))
    far = np.flatnonzero(distances > limit)
    if not 0 < len(far) <= _MOST_DAYS or (~np.isnan(logs[: far[0]])).sum() < _FEWEST_DAYS_BEFORE:
        return None
    column = int(far[np.argmax(distances[far])])
    side = 1.0 if logs[column] > median else -1.0
    nearer = side * (logs - median)
    nearest = np.nanmax(np.where(distances > limit, 0.0, nearer))
    return column if distances[column] > nearest + np.log(_BEYOND) else None


def _mean_of_open_days(predicted: Floats) -> Floats:
    positive = predicted > 0
    total = np.where(positive, predicted, 0.0).sum(axis=1)
    return np.where(positive.any(axis=1), total / np.maximum(positive.sum(axis=1), 1), np.nan)


def _put(table: pa.Table, name: str, values: Mapping[int, str]) -> pa.Table:
    column = table[name].to_pylist()
    for row, value in values.items():
        column[row] = value
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), [pa.array(column, pa.string())])
