"""The published intervals of items against what was sold, for a few stores of many items.

Scores are of whole stores. The intervals of items are calibrated by themselves, so that their
widths need scores of their own: a sample of stores is enough for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import parts, releases
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.reasons import Method
from ray_job.bucket.storage import Storage
from ray_job.data.panel_builder import panels
from ray_job.data.partition import Columns, read_store
from ray_job.data.store_days import RowMeaning
from ray_job.evaluation.scoring import WidthsOf, live_releases
from ray_job.model.adaptive import DayOfScores, calibrated_bounds, of_series
from ray_job.model.intervals import Calibration

_STORES = 4
_PARTS = 2
"""Of each store and as-of so many parts are read: a part has thousands of items."""
_MOST_BYTES = 32 * 2**20
_WINDOW = timedelta(days=28)
"""An item without a row sold nothing if it had a row in these days."""
_METHODS = (Method.MODEL, Method.RULE)
_NUMBERS = ("predicted_sales", "lower_80", "upper_80")
_COLUMNS = ("store_id", "as_of", "model_version", "parts")


@dataclass(frozen=True, slots=True)
class ItemScores:
    """What scores of items are made from.

    `files` are of plan.FILES_SCHEMA. `calibration` is that of the night's model.
    """

    storage: Storage
    current: Pointer
    files: pa.Table
    columns: Columns
    reading: RowMeaning
    widths: WidthsOf
    calibration: Calibration
    horizon: int
    zone: ZoneInfo

    def of_day(self, target: date, stores: Collection[str], model_version: str) -> DayOfScores:
        """The scores of the items of some of these stores, with the bounds of the calibration.

        Only forecasts by the model count. Raises what reading raises.
        """
        sample = self._sample(stores)
        sold = {store: self._sold(store, target) for store in sample}
        rows: list[tuple[int, float, float, float, float]] = []
        entries = live_releases(self.current, target, self.horizon, self.zone) if sample else ()
        for entry in entries:
            ahead = (target - entry.as_of).days
            widths = self.widths(entry.as_of, model_version)
            table = releases.load_columns(self.storage, entry.release, entry.sha256, _COLUMNS)
            for row in _of_night(table, sample, entry.as_of, model_version):
                forecast = self._forecast(row, target)
                predicted, lower, upper = (forecast[name].to_numpy() for name in _NUMBERS)
                factors = of_series(predicted, widths, np.full(len(predicted), ahead))
                bounds = calibrated_bounds(predicted, lower, upper, factors, self.calibration)
                actual = sold[str(row["store_id"])]
                for item, *bounds_of_item in zip(
                    forecast["item_id"].to_pylist(), predicted, *bounds, strict=True
                ):
                    rows.append((ahead, actual.get(item, np.nan), *bounds_of_item))
        numbers = np.array(rows, dtype=np.float64).reshape(len(rows), 5)
        known = np.ascontiguousarray(numbers[~np.isnan(numbers[:, 1])].T)
        return DayOfScores(
            days_ahead=known[0].astype(np.int64),
            actual=known[1],
            predicted=known[2],
            lower=known[3],
            upper=known[4],
            is_total=np.zeros(known.shape[1], dtype=np.bool_),
        )

    def _sample(self, stores: Collection[str]) -> list[str]:
        """The first stores in the order of the sha256 of their ids, without the largest ones."""
        ids = pa.array(sorted(stores), pa.string())
        wanted = self.files.filter(pc.is_in(self.files["store_id"], ids))
        sizes = wanted.group_by("store_id").aggregate([("bytes", "sum")]).to_pylist()
        small = [row["store_id"] for row in sizes if row["bytes_sum"] <= _MOST_BYTES]
        return sorted(small, key=lambda store: hashlib.sha256(store.encode()).digest())[:_STORES]

    def _sold(self, store: str, day: date) -> dict[str, float]:
        """The known sales of the store's items on a day."""
        of_store = self.files.filter(pc.equal(self.files["store_id"], store))
        paths = sorted(of_store["path"].to_pylist())
        histories = [(store, read_store(self.storage, paths, self.columns))]
        dates = (day - _WINDOW, day, day)
        return {
            str(item): float(sales)
            for panel in panels(histories, self.columns, *dates, self.reading)
            for item, sales in zip(panel.item_ids, panel.sales[:, -1], strict=True)
        }

    def _forecast(self, row: Mapping[str, object], target: date) -> pa.Table:
        """The rows of a target date with calibrated intervals, of the first parts of a store."""
        references: Sequence[Mapping[str, object]] = row["parts"] or ()  # type: ignore[assignment]
        tables = [parts.PART_SCHEMA.empty_table()]
        for reference in references[:_PARTS]:
            key = str(reference["part"])
            first, count = int(str(reference["first_row"])), int(str(reference["rows"]))
            tables.append(parts.read_rows(self.storage.read(key), key, first, count))
        table = pa.concat_tables(tables)
        is_of_day = pc.equal(table["target_date"], pa.scalar(target, pa.date32()))
        by_model = pc.is_in(table["method"], pa.array(_METHODS, pa.string()))
        return table.filter(pc.and_(is_of_day, by_model))


def _of_night(
    table: pa.Table, stores: Sequence[str], as_of: date, model_version: str
) -> list[dict[str, object]]:
    """The rows of a release that are of these stores, its own as-of and the model."""
    chosen = pc.is_in(table["store_id"], pa.array(stores, pa.string()))
    chosen = pc.and_(chosen, pc.equal(table["as_of"], pa.scalar(as_of, pa.date32())))
    chosen = pc.and_(chosen, pc.equal(table["model_version"], model_version))
    rows: list[dict[str, object]] = table.filter(pc.fill_null(chosen, False)).to_pylist()
    return rows
