"""What stands beside a forecast on the page: earlier sales, and what is special about a day.

Nothing here decides a prediction, and nothing says why a day will be as it is forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.context import Context
from ray_job.data.panel import Floats, Panel, Texts
from ray_job.evaluation.scoring import SOLD_DAYS
from ray_job.forecasting.recent_means import last_sales

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_WEEK = 7
_YEAR = 364
"""52 weeks: the same weekday a year earlier."""
_USUAL_REACH = 10
_USUAL_YEARS = 5
_MIN_USUAL_DAYS = 20
_FAR = 2.0
"""Weather is far from usual beyond so many standard deviations of the same weeks of earlier years.
"""
_NO_FLAGS = ("open", "in_stock")
"""Known-ahead columns whose 1 is nothing special."""
_SEPARATORS = frozenset(",=:")


class Comparisons:
    """Collects, panel by panel, what is compared of each of n stores on each target date.

    Without a context nothing is said of holidays and weather.
    """

    def __init__(
        self, stores: int, target_dates: Sequence[date], context: Context | None = None
    ) -> None:
        shape = (stores, len(target_dates))
        self._target_dates = target_dates
        self._context = context
        self._codes = (
            np.full((1, shape[1]), "", dtype=np.object_)
            if context is None
            else np.stack([region_codes(context, day) for day in target_dates], axis=1)
        )
        self.sold: Floats = np.full((stores, SOLD_DAYS), np.nan)
        self.last_week: Floats = np.full(shape, np.nan)
        self.last_year: Floats = np.full(shape, np.nan)
        self.special: Texts = np.full(shape, "", dtype=np.object_)
        self._flagged: dict[str, Ints] = {}

    def add(self, panel: Panel, known: Flags, at: Ints, edges: Ints) -> None:
        """`known` are the series that count, `at` the places of the stores, `edges` their rows."""
        targets = self._target_dates
        for total, values in (
            (self.sold, last_sales(panel, SOLD_DAYS)),
            (self.last_week, last_week_sales(panel, targets)),
            (self.last_year, _sales_at(panel, [panel.column(day) - _YEAR for day in targets])),
        ):
            _add_known(total, values, at, edges)
        if self._context is not None:
            rows = self._context.rows(panel.store_ids[edges])
            self.special[at] = self._codes[self._context.store_region[rows]]
        for name, flags in _flags(panel, targets).items():
            counts = self._flagged.setdefault(name, np.zeros(self.special.shape, dtype=np.int64))
            counts[at] += np.add.reduceat(flags & known[:, None], edges, dtype=np.int64)

    def columns(self, has_forecast: Flags) -> dict[str, pa.Array]:
        """The columns of OUTCOME_SCHEMA: null for stores without a forecast."""
        return {
            "last_week": lists(self.last_week, has_forecast, nan_is_null=True),
            "last_year": lists(self.last_year, has_forecast, nan_is_null=True),
            "special": lists(self.special_by_day(), has_forecast),
        }

    def special_by_day(self) -> Texts:
        """(stores, days): codes, comma-separated. A flag has the number of its series: `promo=12`.

        `holiday`; `weather_high:COLUMN=DIFFERENCE`, `weather_low:…`; the names of known-ahead
        columns of 0 and 1.
        """
        texts = self.special.copy()
        for name in sorted(self._flagged):
            counts = self._flagged[name]
            for place, day in np.argwhere(counts > 0):
                code = f"{name}={counts[place, day]}"
                before = texts[place, day]
                texts[place, day] = f"{before},{code}" if before else code
        return texts


def last_week_sales(panel: Panel, targets: Sequence[date]) -> Floats:
    """(n, h): the sales of the newest same weekday that is known; NaN where there is none."""
    newest = panel.sales.shape[1] - 1
    aheads = [panel.column(day) - newest for day in targets]
    return _sales_at(panel, [newest + ahead - _WEEK * -(-ahead // _WEEK) for ahead in aheads])


def region_codes(context: Context, day: date) -> Texts:
    """(r + 1,): for each region whether the day is a holiday, and its weather far from usual."""
    holidays = context.holidays_around(day, 0)[:, 0]
    codes = [["holiday"] if flag else [] for flag in holidays]
    column = (day - context.first_day).days
    years = range(1, _USUAL_YEARS + 1)
    centres = [column - _YEAR * year for year in years]
    usual_days = [
        place
        for centre in centres
        for place in range(centre - _USUAL_REACH, centre + _USUAL_REACH + 1)
        if 0 <= place < context.weather.shape[1]
    ]
    if len(usual_days) < _MIN_USUAL_DAYS or not context.weather_columns:
        return _joined(codes)
    missing = context.weather_missing_at(day)
    usual = context.weather[:, usual_days].astype(np.float64)
    mean, spread = usual.mean(axis=1), usual.std(axis=1)
    difference = context.weather_at(day).astype(np.float64) - mean
    with np.errstate(invalid="ignore"):
        far = (np.abs(difference) > _FAR * spread) & (spread > 0) & ~missing[:, None]
    for region, place in np.argwhere(far):
        name, value = context.weather_columns[place], float(difference[region, place])
        if not _SEPARATORS & set(name):
            direction = "high" if value > 0 else "low"
            codes[region].append(f"weather_{direction}:{name}={abs(value):.1f}")
    return _joined(codes)


def _joined(codes: Sequence[Sequence[str]]) -> Texts:
    texts = np.empty(len(codes), dtype=np.object_)
    texts[:] = [",".join(of_region) for of_region in codes]
    return texts


def _flags(panel: Panel, targets: Sequence[date]) -> dict[str, Flags]:
    """(n, h) for each known-ahead column: whether it is 1 on the target date, and usually is not.

    Only series count whose values of the last year are 0 or 1, and not always 1.
    """
    newest = panel.sales.shape[1]
    result = {}
    for name, values in panel.known_ahead.items():
        ahead = [column for column in map(panel.column, targets) if column < values.shape[1]]
        if name in _NO_FLAGS or _SEPARATORS & set(name) or len(ahead) < len(targets):
            continue
        on_targets = values[:, ahead] == 1
        if not on_targets.any():
            continue
        past = values[:, max(0, newest - _YEAR) : newest]
        is_zero = past == 0
        is_flag = (is_zero | (past == 1) | np.isnan(past)).all(axis=1) & is_zero.any(axis=1)
        result[name] = on_targets & is_flag[:, None]
    return result


def _sales_at(panel: Panel, columns: Sequence[int]) -> Floats:
    """(n, columns): the sales of these columns; NaN for columns outside of the panel."""
    places = np.array(columns, dtype=np.int64)
    inside = (places >= 0) & (places < panel.sales.shape[1])
    values = panel.sales[:, np.where(inside, places, 0)]
    return np.where(inside, values, np.nan)


def _add_known(total: Floats, values: Floats, at: Ints, edges: Ints) -> None:
    """Add the values of each store's series to its total, which is NaN while none is known."""
    known = ~np.isnan(values)
    added = np.add.reduceat(np.where(known, values, 0.0), edges)
    is_known = np.logical_or.reduceat(known, edges)
    before = total[at]
    total[at] = np.where(is_known, np.nan_to_num(before) + added, before)


def lists(
    values: npt.NDArray[np.generic], has_forecast: Flags, *, nan_is_null: bool = False
) -> pa.Array:
    """One list for each row; null where the row has no forecast."""
    width = values.shape[1]
    kind = pa.string() if values.dtype == np.object_ else None
    flat = pa.array(values.ravel(), kind, from_pandas=nan_is_null)
    listed = pa.FixedSizeListArray.from_arrays(flat, width).cast(pa.list_(flat.type))
    return listed if has_forecast.all() else pc.if_else(pa.array(has_forecast), listed, None)
