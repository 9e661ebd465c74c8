"""What the predictions of a chunk's panels amount to: the part's rows, and each store's outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.parts import OUTCOME_SCHEMA, PART_SCHEMA
from ray_job.data.panel import Floats, Panel
from ray_job.evaluation.scoring import SOLD_DAYS
from ray_job.forecasting.data_through import data_through
from ray_job.forecasting.predict import CLOSED, FALLBACK, METHODS, MODEL, Predictions
from ray_job.model.intervals import interval_terms
from ray_job.plan import Basis

ABSURD_FACTOR = 100.0
"""A prediction above this many times the most that the series ever sold in a day is refused."""

_WEEK = 7
_RECENT_WEEKS = 4
_METHODS = np.array(METHODS, dtype=np.object_)
_NEVER = np.iinfo(np.int64).min
"""How numpy writes NaT."""

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Days = npt.NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """Rows of a part (PART_SCHEMA) and outcomes (OUTCOME_SCHEMA), both sorted by store."""

    rows: pa.Table
    outcomes: pa.Table


class StoreOutcomes:
    """Takes one panel after the other, in order; a store may reach over several of them.

    All that is counted is an array with a row for each of `stores`, which come sorted.
    """

    def __init__(self, stores: Sequence[str], basis: Basis, model_version: str) -> None:
        self.stores = list(stores)
        self.basis = basis
        self.model_version = model_version
        self.place = {store: index for index, store in enumerate(self.stores)}
        n, days = len(self.stores), basis.horizon
        self.items: Ints = np.zeros(n, dtype=np.int64)
        self.observations: Ints = np.zeros(n, dtype=np.int64)
        self.through: Ints = np.full(n, _NEVER)
        self.known_through: Ints = np.full(n, _NEVER)
        self.sums: tuple[Floats, ...] = tuple(np.zeros((n, days)) for _ in range(3))
        """Σp, Σ(1+p)s and Σ((1+p)s)²."""
        self.usual: Floats = np.zeros((n, days))
        self.sold: Floats = np.full((n, SOLD_DAYS), np.nan)
        self.methods: Flags = np.zeros((len(METHODS), n, days), dtype=np.bool_)
        self.missing: dict[str, Flags] = {}
        self.refusals: dict[int, str] = {}
        self.rows: list[pa.Table] = []

    def add(self, panel: Panel, made: Predictions) -> None:
        """Count a panel's predictions. Series of which nothing at all is known get no rows."""
        observed: Flags = ~np.isnan(panel.sales)
        sold_ever: Flags = np.asarray(observed.any(axis=1), dtype=np.bool_)
        # Where the simple rule knows nothing of one day it has never seen the series open.
        unseen = (np.isnan(made.predicted) & (made.method != MODEL)).any(axis=1)
        known: Flags = np.asarray(sold_ever & ~unseen, dtype=np.bool_)
        edges = _edges(panel)
        at = np.array([self.place[store] for store in panel.store_ids[edges]], dtype=np.int64)
        self.items[at] += np.add.reduceat(known, edges, dtype=np.int64)
        self.observations[at] += np.add.reduceat(observed.sum(axis=1), edges)
        through = data_through(panel, made.known_through)
        for kept, days in (
            (self.through, through),
            (self.known_through, made.known_through),
        ):
            last = np.where(known, days.astype(np.int64), _NEVER)
            kept[at] = np.maximum(kept[at], np.maximum.reduceat(last, edges))
        for total, term in zip(self.sums, interval_terms(made.predicted, made.spread), strict=True):
            total[at] += np.add.reduceat(term * known[:, None], edges)
        opened = known[:, None] & (made.method != CLOSED)
        usual = np.where(opened, np.nan_to_num(_usual(panel, self.basis.target_dates)), 0.0)
        self.usual[at] += np.add.reduceat(usual, edges)
        self._sell(_sold(panel, SOLD_DAYS), at, edges)
        for method, there in enumerate(self.methods):
            used = known[:, None] & (made.method == method)
            there[at] |= np.logical_or.reduceat(used, edges)
        self._miss(panel, made, known, at, edges)
        self._refuse(panel, made, _refused(panel, made) & sold_ever[:, None])
        self._rows(panel, made, through, np.flatnonzero(known))

    def share(self) -> ChunkOutput:
        """The rows, and one outcome for each store."""
        rows = pa.concat_tables([*self.rows, PART_SCHEMA.empty_table()])
        if self.refusals:
            bad = np.array([self.stores[k] for k in self.refusals], dtype=np.object_)
            keep = ~np.isin(rows["store_id"].to_numpy(), bad)
            rows = rows.filter(pa.array(keep))
        return ChunkOutput(rows, self._outcomes())

    def _sell(self, sold: Floats, at: Ints, edges: Ints) -> None:
        known = ~np.isnan(sold)
        total = np.add.reduceat(np.where(known, sold, 0.0), edges)
        some = np.logical_or.reduceat(known, edges)
        before = self.sold[at]
        self.sold[at] = np.where(some, np.nan_to_num(before) + total, before)

    def _miss(self, panel: Panel, made: Predictions, known: Flags, at: Ints, edges: Ints) -> None:
        """What was delivered of a store before, but not for the target date."""
        first, days = panel.sales.shape[1], self.basis.horizon
        absent = {"weather": made.weather_missing}
        for name, values in panel.known_ahead.items():
            nothing = np.isnan(values[:, first : first + days])
            if nothing.any():
                before = np.logical_or.reduceat(~np.isnan(values[:, :first]).all(axis=1), edges)
                ever = np.repeat(before, np.diff(np.append(edges, len(known))))
                absent[name] = nothing & ever[:, None]
        for name, flags in absent.items():
            there = self.missing.setdefault(
                name, np.zeros((len(self.stores), days), dtype=np.bool_)
            )
            there[at] |= np.logical_or.reduceat(flags & known[:, None], edges)

    def _refuse(self, panel: Panel, made: Predictions, refused: Flags) -> None:
        for row, day in np.argwhere(refused):
            item = panel.item_ids[row]
            named = f"item {item!r}" if item else "the store"
            self.refusals.setdefault(
                self.place[panel.store_ids[row]],
                f"the model predicts {made.predicted[row, day]:g} for {named}"
                f" on {made.target_dates[day]}",
            )

    def _rows(self, panel: Panel, made: Predictions, data_through: Days, chosen: Ints) -> None:
        n, days = len(chosen), len(made.target_dates)
        columns = {
            "store_id": np.repeat(panel.store_ids[chosen], days),
            "item_id": np.repeat(panel.item_ids[chosen], days),
            "target_date": np.tile(np.array(made.target_dates, dtype="datetime64[D]"), n),
            "days_ahead": np.tile(np.arange(1, days + 1, dtype=np.int16), n),
            "predicted_sales": made.predicted[chosen].ravel(),
            "lower_80": made.lower[chosen].ravel(),
            "upper_80": made.upper[chosen].ravel(),
            "method": _METHODS[made.method[chosen]].ravel(),
            "data_through": np.repeat(data_through[chosen], days),
        }
        arrays = [pa.array(columns[name], PART_SCHEMA.field(name).type) for name in columns]
        arrays.append(pa.repeat(pa.scalar(self.model_version), n * days))
        self.rows.append(pa.table(arrays, schema=PART_SCHEMA))

    def _outcomes(self) -> pa.Table:
        kinds = self._kinds()
        failed, nothing = kinds == "failed", kinds == "no_data"
        forecast = ~failed & ~nothing
        counts = np.where(forecast, self.items * self.basis.horizon, 0)
        begins = np.cumsum(counts) - counts
        columns = {
            "store_id": pa.array(self.stores, pa.string()),
            "outcome": pa.array(kinds, pa.string()),
            **self._reasons(kinds),
            "data_through": pa.array(self.through.astype("datetime64[D]")),
            "known_through": pa.array(self.known_through.astype("datetime64[D]")),
            "first_row": pa.array(begins, mask=~forecast),
            "rows": pa.array(counts, mask=~forecast),
            "items": pa.array(self.items),
            "observations": pa.array(self.observations),
            "predicted": _lists(self.sums[0], forecast),
            "spread": _lists(self.sums[1], forecast),
            "spread_squared": _lists(self.sums[2], forecast),
            "usual": _lists(self.usual, forecast),
            "method": _lists(self._told_methods(), forecast),
            "missing": _lists(self._told_missing(), forecast),
            "sold": _lists(self.sold, np.ones(len(self.stores), dtype=np.bool_)),
        }
        return pa.table(
            [columns[field.name].cast(field.type) for field in OUTCOME_SCHEMA],
            schema=OUTCOME_SCHEMA,
        )

    def _kinds(self) -> npt.NDArray[np.object_]:
        refused = np.zeros(len(self.stores), dtype=np.bool_)
        refused[list(self.refusals)] = True
        by_model = self.methods[MODEL].any(axis=1)
        by_rule = self.methods[FALLBACK].any(axis=1)
        return np.select(
            [refused, self.items == 0, by_model, by_rule],
            ["failed", "no_data", "ok", "fallback"],
            "closed",
        ).astype(np.object_)

    def _reasons(self, kinds: npt.NDArray[np.object_]) -> dict[str, pa.Array]:
        codes: list[str | None] = [None] * len(kinds)
        told: list[str | None] = [None] * len(kinds)
        for place in np.flatnonzero((kinds != "ok") & (kinds != "closed")):
            index = int(place)
            if kinds[index] == "failed":
                codes[index], told[index] = "absurd", self.refusals[index]
            elif kinds[index] == "no_data":
                codes[index] = "no_data"
                told[index] = (
                    f"no sales are known of any open day from {self.basis.first_day}"
                    f" to {self.basis.as_of}"
                )
            else:
                codes[index] = "little_history"
                through = self.through[index].astype("datetime64[D]").astype(date)
                told[index] = (
                    "every series has too little or too old history for the model:"
                    f" {self.observations[index]} observations, sales through {through}"
                )
        return {"reason_code": pa.array(codes, pa.string()), "reason": pa.array(told, pa.string())}

    def _told_methods(self) -> npt.NDArray[np.object_]:
        """By day: model if any series has it, else the simple rule, else closed."""
        used = [self.methods[MODEL], self.methods[FALLBACK]]
        place = np.select(used, [MODEL, FALLBACK], CLOSED)
        return np.asarray(_METHODS[place])

    def _told_missing(self) -> npt.NDArray[np.object_]:
        told = np.full((len(self.stores), self.basis.horizon), "", dtype=np.object_)
        for name in sorted(self.missing):
            flags = self.missing[name]
            if flags.any():
                told[flags] = [f"{text},{name}" if text else name for text in told[flags]]
        return told


def _edges(panel: Panel) -> Ints:
    """Where each store's series begin."""
    owners = panel.store_ids
    return np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))


def _lists(values: npt.NDArray[np.generic], known: Flags) -> pa.Array:
    """One list per row; null where the row is not known."""
    width = values.shape[1]
    flat = pa.array(values.ravel(), pa.string() if values.dtype == np.object_ else None)
    lists = pa.FixedSizeListArray.from_arrays(flat, width).cast(pa.list_(flat.type))
    return lists if known.all() else pc.if_else(pa.array(known), lists, None)


def _refused(panel: Panel, made: Predictions) -> npt.NDArray[np.bool_]:
    """Predictions that are not numbers, negative, or beyond anything that was ever sold."""
    most = np.fmax.reduce(np.where(np.isnan(panel.sales), 0.0, panel.sales), axis=1, initial=1.0)
    with np.errstate(invalid="ignore"):
        absurd = (made.predicted < 0) | (made.predicted > ABSURD_FACTOR * most[:, None])
    by_model = made.method == MODEL
    return np.asarray(absurd | (by_model & ~np.isfinite(made.predicted)))


def _usual(panel: Panel, targets: Sequence[date]) -> Floats:
    """(n, h): the mean of the target's weekday in the last four weeks, over days with sales."""
    days = panel.sales.shape[1]
    found = np.full((panel.n_series, len(targets)), np.nan)
    for place, target in enumerate(targets):
        ahead = panel.column(target) - (days - 1)
        newest = days - 1 + ahead - _WEEK * (-(-ahead // _WEEK))
        columns = [k for k in range(newest, newest - _WEEK * _RECENT_WEEKS, -_WEEK) if k >= 0]
        values = panel.sales[:, columns]
        counted = values > 0
        number = counted.sum(axis=1)
        total = np.where(counted, values, 0.0).sum(axis=1)
        found[:, place] = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return found


def _sold(panel: Panel, days: int) -> Floats:
    """(n, days): the newest days' sales, oldest first; NaN before the panel begins."""
    there = panel.sales[:, -days:]
    if there.shape[1] == days:
        return there
    missing = np.full((panel.n_series, days - there.shape[1]), np.nan)
    return np.concatenate([missing, there], axis=1)
