"""From the predictions of a chunk's panels to the part's rows and each store's outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ray_job.bucket.parts import OUTCOME_SCHEMA, PART_SCHEMA
from ray_job.bucket.reasons import Outcome, ReasonCode
from ray_job.data.context import Context
from ray_job.data.panel import Floats, Panel
from ray_job.features.kinds import KINDS
from ray_job.features.trading import closed_weekday_sentence
from ray_job.forecasting.comparisons import Comparisons, last_week_sales, lists
from ray_job.forecasting.data_through import data_through
from ray_job.forecasting.predict import (
    CLOSED,
    ENDED,
    FALLBACK,
    METHODS,
    MODEL,
    RULE,
    SIMILAR,
    Predictions,
)
from ray_job.forecasting.recent_means import recent_weekday_mean
from ray_job.forecasting.series_counts import ORDER, counted_series
from ray_job.forecasting.similar import SimilarSales
from ray_job.model.intervals import interval_terms
from ray_job.plan import Basis

ABSURD_FACTOR = 100.0
"""A prediction above this many times the most that the series ever sold in a day is refused."""

_ROW_ORDER = ("store_id", "item_id", "target_date")
_METHODS = np.array(METHODS, dtype=np.object_)
_NEVER = np.iinfo(np.int64).min
"""The integer that numpy uses for NaT."""

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Days = npt.NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """Rows of a part (PART_SCHEMA) and outcomes (OUTCOME_SCHEMA), both sorted by store."""

    rows: pa.Table
    outcomes: pa.Table


class StoreOutcomes:
    """Collects predictions panel by panel, in order; a store may span several panels.

    Each array that is collected has a row for each of `stores`, which are sorted.
    """

    def __init__(
        self,
        stores: Sequence[str],
        basis: Basis,
        model_version: str,
        similar: Mapping[str, SimilarSales] | None = None,
        context: Context | None = None,
    ) -> None:
        self.stores = list(stores)
        self.similar = similar or {}
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
        self.recent_weekday_mean: Floats = np.zeros((n, days))
        self.comparisons = Comparisons(n, basis.target_dates, context)
        self.methods: Flags = np.zeros((len(METHODS), n, days), dtype=np.bool_)
        self.series: Ints = np.zeros((n, len(KINDS) * len(METHODS)), dtype=np.int64)
        self.closed_weeks: Ints = np.zeros((n, days), dtype=np.int64)
        self.closed_sales: Ints = np.zeros((n, days), dtype=np.int64)
        self.missing: dict[str, Flags] = {}
        self.refusals: dict[int, str] = {}
        self.rows: list[pa.Table] = []

    def add(self, panel: Panel, made: Predictions) -> None:
        """Add a panel's predictions. Series of which nothing at all is known get no rows."""
        observed: Flags = ~np.isnan(panel.sales)
        sold_ever: Flags = np.asarray(observed.any(axis=1), dtype=np.bool_)
        # If the simple rule has no value for one day, the series was never open.
        by_model = (made.method == MODEL) | (made.method == RULE)
        never_open = (np.isnan(made.predicted) & ~by_model).any(axis=1)
        by_similar = made.method == SIMILAR
        known: Flags = (sold_ever & ~never_open) | by_similar.any(axis=1)
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
        is_open = known[:, None] & (made.method != CLOSED) & (made.method != ENDED)
        means = recent_weekday_mean(panel, self.basis.target_dates)
        means = np.where(by_similar, made.predicted, means)
        open_means = np.where(is_open, np.nan_to_num(means), 0.0)
        self.recent_weekday_mean[at] += np.add.reduceat(open_means, edges)
        self.comparisons.add(panel, known, at, edges)
        for method, of_stores in enumerate(self.methods):
            used = known[:, None] & (made.method == method)
            of_stores[at] |= np.logical_or.reduceat(used, edges)
        series_stores = np.repeat(at, np.diff(np.append(edges, len(known))))
        self.series += counted_series(made, known, series_stores, len(self.stores))
        for kept, numbers in (
            (self.closed_weeks, made.closed_weeks),
            (self.closed_sales, made.closed_sales),
        ):
            of_known = np.where(known[:, None], numbers, 0)
            kept[at] = np.maximum(kept[at], np.maximum.reduceat(of_known, edges))
        self._add_missing(panel, made, known, at, edges)
        self._add_refusals(panel, made, _is_absurd(panel, made) & sold_ever[:, None])
        self._add_rows(panel, made, through, np.flatnonzero(known))

    def output(self) -> ChunkOutput:
        """The rows, and one outcome for each store."""
        rows = pa.concat_tables([*self.rows, PART_SCHEMA.empty_table()])
        if self.refusals:
            refused = np.array([self.stores[place] for place in self.refusals], dtype=np.object_)
            keep = ~np.isin(rows["store_id"].to_numpy(), refused)
            rows = rows.filter(pa.array(keep))
        if self.similar:
            # The series that new stores lack come last.
            rows = rows.sort_by([(name, "ascending") for name in _ROW_ORDER])
        return ChunkOutput(rows, self._outcomes())

    def _add_missing(
        self, panel: Panel, made: Predictions, known: Flags, at: Ints, edges: Ints
    ) -> None:
        """Note what was delivered for a store before, but not for the target date."""
        first, days = panel.sales.shape[1], self.basis.horizon
        missing = {"weather": made.weather_missing}
        for name, values in panel.known_ahead.items():
            unknown = np.isnan(values[:, first : first + days])
            if unknown.any():
                before = np.logical_or.reduceat(~np.isnan(values[:, :first]).all(axis=1), edges)
                delivered_before = np.repeat(before, np.diff(np.append(edges, len(known))))
                missing[name] = unknown & delivered_before[:, None]
        for name, flags in missing.items():
            of_stores = self.missing.setdefault(
                name, np.zeros((len(self.stores), days), dtype=np.bool_)
            )
            of_stores[at] |= np.logical_or.reduceat(flags & known[:, None], edges)

    def _add_refusals(self, panel: Panel, made: Predictions, refused: Flags) -> None:
        for row, day in np.argwhere(refused):
            item = panel.item_ids[row]
            series = f"item {item!r}" if item else "the store"
            self.refusals.setdefault(
                self.place[panel.store_ids[row]],
                f"the model predicts {made.predicted[row, day]:g} for {series}"
                f" on {made.target_dates[day]}",
            )

    def _add_rows(self, panel: Panel, made: Predictions, data_through: Days, chosen: Ints) -> None:
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
        last_week = last_week_sales(panel, made.target_dates)[chosen].ravel()
        arrays.append(pa.array(last_week, pa.float64(), from_pandas=True))
        self.rows.append(pa.table(arrays, schema=PART_SCHEMA))

    def _outcomes(self) -> pa.Table:
        kinds = self._outcome_of_stores()
        forecast = (kinds != Outcome.FAILED) & (kinds != Outcome.NO_DATA)
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
            "predicted": lists(self.sums[0], forecast),
            "spread": lists(self.sums[1], forecast),
            "spread_squared": lists(self.sums[2], forecast),
            "usual": lists(self.recent_weekday_mean, forecast),
            "method": lists(self._methods_by_day(), forecast),
            "missing": lists(self._missing_by_day(), forecast),
            **self.comparisons.columns(forecast),
            "sold": lists(self.comparisons.sold, np.ones(len(self.stores), dtype=np.bool_)),
            "series": lists(self.series, np.ones(len(self.stores), dtype=np.bool_)),
        }
        return pa.table(
            [columns[field.name].cast(field.type) for field in OUTCOME_SCHEMA],
            schema=OUTCOME_SCHEMA,
        )

    def _outcome_of_stores(self) -> npt.NDArray[np.object_]:
        refused = np.zeros(len(self.stores), dtype=np.bool_)
        refused[list(self.refusals)] = True
        by_model = self.methods[[MODEL, RULE]].any(axis=(0, 2))
        by_rule = self.methods[[FALLBACK, SIMILAR]].any(axis=(0, 2))
        return np.select(
            [refused, self.items == 0, by_model, by_rule],
            [Outcome.FAILED, Outcome.NO_DATA, Outcome.OK, Outcome.FALLBACK],
            Outcome.CLOSED,
        ).astype(np.object_)

    def _reasons(self, kinds: npt.NDArray[np.object_]) -> dict[str, pa.Array]:
        codes: list[str | None] = [None] * len(kinds)
        reasons: list[str | None] = [None] * len(kinds)
        without_model = (kinds != Outcome.OK) & (kinds != Outcome.CLOSED)
        on_closed_weekdays = (self.closed_weeks > 0).any(axis=1)
        for place in np.flatnonzero(on_closed_weekdays & ~without_model):
            index = int(place)
            codes[index] = ReasonCode.CLOSED_WEEKDAY
            reasons[index] = self._closed_weekdays(index)
        for place in np.flatnonzero(without_model):
            index = int(place)
            if kinds[index] == Outcome.FAILED:
                codes[index], reasons[index] = ReasonCode.ABSURD, self.refusals[index]
            elif kinds[index] == Outcome.NO_DATA:
                codes[index] = ReasonCode.NO_DATA
                reasons[index] = (
                    f"no sales are known of any open day from {self.basis.first_day}"
                    f" to {self.basis.as_of}"
                )
            else:
                codes[index] = ReasonCode.LITTLE_HISTORY
                reasons[index] = self._little_history(index)
        return {
            "reason_code": pa.array(codes, pa.string()),
            "reason": pa.array(reasons, pa.string()),
        }

    def _little_history(self, index: int) -> str:
        """Why a store has no forecast of the model, and by what it is forecast instead."""
        known = f"{self.observations[index]} observations"
        if self.through[index] != _NEVER:
            known += f", sales through {self.through[index].astype('datetime64[D]').astype(date)}"
        reason = f"every series has too little or too old history for the model: {known}"
        if self.methods[SIMILAR, index].any():
            of_store = self.similar.get(self.stores[index])
            source = of_store.source if of_store else "other items and stores"
            reason += f"; it is forecast by the usual sales of {source}"
        return reason

    def _closed_weekdays(self, index: int) -> str:
        """The sentences about a store's target dates that are closed weekdays, each once."""
        days = np.flatnonzero(self.closed_weeks[index])
        sentences = [
            closed_weekday_sentence(
                self.basis.target_dates[day],
                int(self.closed_weeks[index, day]),
                int(self.closed_sales[index, day]),
            )
            for day in days
        ]
        return "; ".join(dict.fromkeys(sentences))

    def _methods_by_day(self) -> npt.NDArray[np.object_]:
        """(stores, days): the first of these methods that any series has, or closed."""
        place = np.select([self.methods[place] for place in ORDER], ORDER, CLOSED)
        return np.asarray(_METHODS[place])

    def _missing_by_day(self) -> npt.NDArray[np.object_]:
        names = np.full((len(self.stores), self.basis.horizon), "", dtype=np.object_)
        for name in sorted(self.missing):
            flags = self.missing[name]
            if flags.any():
                names[flags] = [f"{text},{name}" if text else name for text in names[flags]]
        return names


def _edges(panel: Panel) -> Ints:
    """The row of each store's first series."""
    stores = panel.store_ids
    return np.flatnonzero(np.append(True, stores[1:] != stores[:-1]))


def _is_absurd(panel: Panel, made: Predictions) -> npt.NDArray[np.bool_]:
    """(n, h): predictions that are no number, negative, or far above all past sales."""
    most = np.fmax.reduce(np.where(np.isnan(panel.sales), 0.0, panel.sales), axis=1, initial=1.0)
    with np.errstate(invalid="ignore"):
        out_of_range = (made.predicted < 0) | (made.predicted > ABSURD_FACTOR * most[:, None])
    out_of_range &= made.method != SIMILAR
    by_model = (made.method == MODEL) | (made.method == RULE)
    return np.asarray(out_of_range | (by_model & ~np.isfinite(made.predicted)))
