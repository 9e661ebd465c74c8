"""What the predictions of a chunk's panels amount to: the part's rows, and each store's outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ray_job.bucket.parts import OUTCOME_SCHEMA, PART_SCHEMA
from ray_job.intervals import interval_terms
from ray_job.panel import Floats, Panel
from ray_job.plan import Basis
from ray_job.predict import CLOSED, FALLBACK, METHODS, MODEL, Predictions

ABSURD_FACTOR = 100.0
"""A prediction above this many times the most that the series ever sold in a day is refused."""

_WEEK = 7
_RECENT_WEEKS = 4
_METHODS = np.array(METHODS, dtype=np.object_)


@dataclass(frozen=True, slots=True)
class Share:
    """Rows of a part (PART_SCHEMA) and outcomes (OUTCOME_SCHEMA), both sorted by store."""

    rows: pa.Table
    outcomes: pa.Table


@dataclass(slots=True)
class Tally:
    """Takes one panel after the other, in order; a store may reach over several of them."""

    basis: Basis
    model_version: str
    stores: dict[str, _Store] = field(default_factory=dict)
    rows: list[pa.Table] = field(default_factory=list)
    counted: int = 0

    def add(self, panel: Panel, made: Predictions) -> None:
        """Count a panel's predictions. Series of which nothing at all is known get no rows."""
        sold_ever = np.asarray(~np.isnan(panel.sales).all(axis=1))
        known = np.asarray(sold_ever & ~np.isnan(made.predicted).all(axis=1))
        refused = _refused(panel, made) & sold_ever[:, None]
        terms = interval_terms(made.predicted, made.spread)
        usual = _usual(panel, self.basis.target_dates)
        sold = _sold(panel, self.basis.horizon + _WEEK)
        owners = panel.store_ids
        edges = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
        for first, end in zip(edges, np.append(edges[1:], len(owners)), strict=True):
            store = self.stores.setdefault(owners[first], _Store.empty(self.basis))
            here = slice(int(first), int(end))
            store.count(panel, made, here, known[here], refused)
            chosen = np.flatnonzero(known[here]) + first
            opened = made.method[chosen] != CLOSED
            store.sums += np.stack([term[chosen].sum(axis=0) for term in terms])
            store.usual += np.where(opened, np.nan_to_num(usual[chosen]), 0.0).sum(axis=0)
            store.sell(sold[here])
        self._rows(panel, made, np.flatnonzero(known))

    def share(self, stores: Sequence[str]) -> Share:
        """The rows and one outcome for each of `stores`, which come sorted."""
        rows = pa.concat_tables([*self.rows, PART_SCHEMA.empty_table()])
        told: list[dict[str, object]] = []
        bad: list[str] = []
        begin = 0
        for name in stores:
            store = self.stores.get(name) or _Store.empty(self.basis)
            count = store.items * self.basis.horizon
            outcome = store.outcome(self.basis)
            if outcome["outcome"] == "failed":
                bad.append(name)
            else:
                outcome |= {"first_row": begin, "rows": count}
                begin += count
            told.append({"store_id": name, **outcome})
        if bad:
            keep = ~np.isin(rows["store_id"].to_numpy(), np.array(bad, dtype=np.object_))
            rows = rows.filter(pa.array(keep))
        return Share(rows, pa.Table.from_pylist(told, OUTCOME_SCHEMA))

    def _rows(self, panel: Panel, made: Predictions, chosen: npt.NDArray[np.int64]) -> None:
        n, days = len(chosen), len(made.target_dates)
        through = made.data_through[chosen]
        columns = {
            "store_id": np.repeat(panel.store_ids[chosen], days),
            "item_id": np.repeat(panel.item_ids[chosen], days),
            "target_date": np.tile(np.array(made.target_dates, dtype="datetime64[D]"), n),
            "days_ahead": np.tile(np.arange(1, days + 1, dtype=np.int16), n),
            "predicted_sales": made.predicted[chosen].ravel(),
            "lower_80": made.lower[chosen].ravel(),
            "upper_80": made.upper[chosen].ravel(),
            "method": _METHODS[made.method[chosen]].ravel(),
            "data_through": np.repeat(through, days),
        }
        arrays = [pa.array(columns[name], PART_SCHEMA.field(name).type) for name in columns]
        arrays.append(pa.repeat(pa.scalar(self.model_version), n * days))
        self.rows.append(pa.table(arrays, schema=PART_SCHEMA))


@dataclass(slots=True)
class _Store:
    """Sums over a store's series. `sums` are Σp, Σ(1+p)s and Σ((1+p)s)² by target date."""

    sums: Floats
    usual: Floats
    sold: Floats
    methods: npt.NDArray[np.bool_]
    """(methods, days): which methods occur on a target date."""
    missing: list[set[str]]
    through: np.datetime64
    items: int = 0
    observations: int = 0
    refusal: str | None = None

    @classmethod
    def empty(cls, basis: Basis) -> _Store:
        days = basis.horizon
        return cls(
            sums=np.zeros((3, days)),
            usual=np.zeros(days),
            sold=np.full(days + _WEEK, np.nan),
            methods=np.zeros((len(METHODS), days), dtype=np.bool_),
            missing=[set() for _ in range(days)],
            through=np.datetime64("NaT", "D"),
        )

    def count(
        self,
        panel: Panel,
        made: Predictions,
        here: slice,
        known: npt.NDArray[np.bool_],
        refused: npt.NDArray[np.bool_],
    ) -> None:
        self.items += int(known.sum())
        self.observations += int((~np.isnan(panel.sales[here])).sum())
        through = made.data_through[here][known]
        if len(through):
            newest = through.max()
            self.through = newest if np.isnat(self.through) else max(self.through, newest)
        for method in range(len(METHODS)):
            self.methods[method] |= (made.method[here][known] == method).any(axis=0)
        first_target = panel.sales.shape[1]
        for name, values in panel.known_ahead.items():
            ahead = values[here, first_target:][known]
            if np.isnan(ahead).any() and not np.isnan(values[here, :first_target]).all():
                for column in np.flatnonzero(np.isnan(ahead).any(axis=0)):
                    self.missing[int(column)].add(name)
        for column in np.flatnonzero(made.weather_missing[here][known].any(axis=0)):
            self.missing[int(column)].add("weather")
        if self.refusal is None and refused[here].any():
            row, day = (int(k) for k in np.argwhere(refused[here])[0])
            item = panel.item_ids[here][row]
            named = f"item {item!r}" if item else "the store"
            self.refusal = (
                f"the model predicts {made.predicted[here][row, day]:g} for {named}"
                f" on {made.target_dates[day]}"
            )

    def sell(self, sold: Floats) -> None:
        for column in range(sold.shape[1]):
            known = sold[:, column][~np.isnan(sold[:, column])]
            if len(known):
                self.sold[column] = np.nan_to_num(self.sold[column]) + known.sum()

    def outcome(self, basis: Basis) -> dict[str, object]:
        told: dict[str, object] = {
            "items": self.items,
            "observations": self.observations,
            "sold": self.sold,
            "data_through": None if np.isnat(self.through) else self.through.astype(date),
        }
        if self.refusal is not None:
            return told | _reason("failed", "absurd", self.refusal)
        if self.items == 0:
            nothing = f"no sales are known of any day from {basis.first_day} to {basis.as_of}"
            return told | _reason("no_data", "no_data", nothing)
        told |= {
            "outcome": self._kind(),
            "predicted": self.sums[0],
            "spread": self.sums[1],
            "spread_squared": self.sums[2],
            "usual": self.usual,
            "method": self._methods(),
            "missing": [",".join(sorted(names)) for names in self.missing],
        }
        if told["outcome"] == "fallback":
            told["reason_code"] = "little_history"
            told["reason"] = (
                "every series has too little or too old history for the model:"
                f" {self.observations} observations, sales through {told['data_through']}"
            )
        return told

    def _kind(self) -> str:
        if self.methods[MODEL].any():
            return "ok"
        return "fallback" if self.methods[FALLBACK].any() else "closed"

    def _methods(self) -> list[str]:
        """By day: model if any series has it, else the simple rule, else closed."""
        order = (MODEL, FALLBACK, CLOSED)
        return [
            next(METHODS[method] for method in order if self.methods[method, day])
            for day in range(self.methods.shape[1])
        ]


def _reason(outcome: str, code: str, reason: str) -> dict[str, object]:
    return {"outcome": outcome, "reason_code": code, "reason": reason}


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
