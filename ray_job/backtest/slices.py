"""Kinds of days on which forecasts often fail: holidays, the days around them, closures.

A few weeks of summer contain none of them, and the mean of a whole year hides them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.data.context import Context
from ray_job.data.context.calendar_days import days_from_christmas, days_from_easter
from ray_job.data.panel import Panel
from ray_job.evaluation.metrics import measures
from ray_job.features.naive import RULES

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_BEFORE_CHRISTMAS = (-14, -1)
_AFTER_CHRISTMAS = (1, 7)
_BEFORE_EASTER = (-7, -1)
_AFTER_EASTER = (1, 7)


def slices(rows: pa.Table, panel: Panel, context: Context) -> dict[str, dict[str, Any]]:
    """The measures (`metrics.measures`) of each kind of day that occurs, one day ahead, by name.

    `rows` are those of a backtest. `naive_wape` is added: the WAPE of the best naive rule on the
    rows of that kind.
    """
    ahead = pc.equal(rows["days_ahead"], 1)
    rows = rows.filter(ahead).combine_chunks()
    columns = {
        name: rows[name].to_numpy() for name in ("actual", "predicted", "lower", "upper", *RULES)
    }
    by_kind = {}
    for name, chosen in _kinds(rows, panel, context):
        if not chosen.any():
            continue
        part = {column: values[chosen] for column, values in columns.items()}
        rules = [measures(part["actual"], part[rule])["wape"] for rule in RULES]
        by_kind[name] = {
            **measures(part["actual"], part["predicted"], part["lower"], part["upper"]),
            "naive_wape": min((wape for wape in rules if wape is not None), default=None),
        }
    return by_kind


def _kinds(rows: pa.Table, panel: Panel, context: Context) -> Iterator[tuple[str, Flags]]:
    """The name of each kind of day, and which of the rows are of that kind."""
    days = rows["target_date"].to_pylist()
    distinct = sorted(set(days))
    at = np.searchsorted(np.array(distinct, dtype="datetime64[D]"), rows["target_date"].to_numpy())
    yield (
        "in the two weeks before Christmas",
        _within(distinct, at, days_from_christmas, _BEFORE_CHRISTMAS),
    )
    yield (
        "in the week after Christmas",
        _within(distinct, at, days_from_christmas, _AFTER_CHRISTMAS),
    )
    yield "in the week before Easter", _within(distinct, at, days_from_easter, _BEFORE_EASTER)
    yield "in the week after Easter", _within(distinct, at, days_from_easter, _AFTER_EASTER)
    regions = context.store_region[context.rows(np.array(rows["store_id"].to_pylist(), object))]
    around = np.stack([context.holidays_around(day, 3) for day in distinct])[at, regions]
    yield "on a public holiday", around[:, 3]
    yield "the day before a holiday", around[:, 4] & ~around[:, 3]
    yield (
        "two or three days before a holiday",
        around[:, 5:].any(axis=1) & ~around[:, 3:5].any(axis=1),
    )
    yield "the day after a holiday", around[:, 2] & ~around[:, 3]
    series = _series(rows, panel)
    columns = (rows["target_date"].to_numpy() - np.datetime64(panel.first_day)).astype(np.int64)
    known: Mapping[str, Any] = panel.known_ahead
    if "open" in known:
        closed = (known["open"] == 0)[series, np.maximum(columns - 1, 0)]
        yield "the day after a closed day", np.asarray(closed & (columns > 0))
    for name in sorted(known):
        if "school" in name:
            yield f"in {name.replace('_', ' ')}s", _is_set(known[name][series, columns])
    if "promo" in known:
        yield "on promotion", _is_set(known["promo"][series, columns])
        yield "without promotion", ~_is_set(known["promo"][series, columns])
    yield "on a Sunday", np.array([day.weekday() for day in distinct])[at] == 6  # noqa: PLR2004


def _within(
    distinct: list[date], at: Ints, days_from: Callable[[date], int], span: tuple[int, int]
) -> Flags:
    """For each row whether its day is within `span`, first and last, of a yearly feast.

    `at` is the place of each row's day among the `distinct` days.
    """
    inside = np.array([span[0] <= days_from(day) <= span[1] for day in distinct], dtype=np.bool_)
    return np.asarray(inside[at])


def _series(rows: pa.Table, panel: Panel) -> Ints:
    """The place in the panel of each row's series."""
    panel_ids = pa.array(
        [f"{s}\0{i}" for s, i in zip(panel.store_ids, panel.item_ids, strict=True)], pa.string()
    )
    row_ids = pc.binary_join_element_wise(rows["store_id"], rows["item_id"], "\0")
    return np.asarray(pc.index_in(row_ids, value_set=panel_ids).to_numpy(), dtype=np.int64)


def _is_set(values: npt.NDArray[np.float32]) -> Flags:
    """Which values are known and not 0."""
    return np.asarray(np.nan_to_num(values) != 0)
