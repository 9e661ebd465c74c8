"""The measures of a backtest's rows by day, weekday, days ahead and store, as data frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ray_job.data.panel import Floats
from ray_job.evaluation.metrics import RATED
from ray_job.features.naive import RULES

STORE_COVERAGE = (0.67, 0.92)
"""The coverage of a perfectly calibrated store lies between these with 94 % chance, in 42 days."""

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_CALIBRATED = ("calibrated_lower", "calibrated_upper")
_CLASSES = 10
_COVERED = 0.8
_MANY_DAYS = 300
"""More days are computed as this many. The chance hardly changes, and the numbers stay short."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a `Backtest` that have a prediction, with their errors.

    `first`: those of one day ahead, with the errors of the best naive rule. `rule`: its name.
    """

    all: pd.DataFrame
    first: pd.DataFrame
    rule: str

    @classmethod
    def of(cls, rows: pa.Table) -> Rows:
        names = ["store_id", "target_date", "days_ahead", "actual", "predicted", "lower", "upper"]
        frame = rows.select([*names, *_CALIBRATED, *RULES]).to_pandas(date_as_object=False)
        frame = frame[frame["predicted"].notna()]
        actual = frame["actual"]
        frame["error"] = frame["predicted"] - actual
        frame["off"] = frame["error"].abs()
        frame["inside"] = (actual >= frame["lower"]) & (actual <= frame["upper"])
        frame["width"] = frame["upper"] - frame["lower"]
        low, high = (frame[name] for name in _CALIBRATED)
        frame["calibrated_inside"] = (actual >= low) & (actual <= high)
        frame["calibrated_width"] = high - low
        first = frame[frame["days_ahead"] == 1].copy()
        off = {rule: wape((first[rule] - first["actual"]).abs(), first) for rule in RULES}
        best = min(RULES, key=lambda rule: np.nan_to_num(off[rule], nan=np.inf))
        first["naive_off"] = (first[best] - first["actual"]).abs()
        return cls(all=frame, first=first, rule=best)

    def by_day(self) -> pd.DataFrame:
        return grouped(self.first, "target_date")

    def by_weekday(self) -> pd.DataFrame:
        weekday = self.first["target_date"].dt.day_of_week
        return grouped(self.first, weekday).reindex(range(7))

    def by_days_ahead(self) -> pd.DataFrame:
        return grouped(self.all, "days_ahead")

    def by_store(self) -> pd.DataFrame:
        return grouped(self.first, "store_id")

    def by_size(self) -> pd.DataFrame:
        """Up to ten classes of equally many stores, from small to large mean sales a day."""
        stores = self.by_store()["mean_sales"].rank(method="first")
        sizes = np.ceil(column(stores) / len(stores) * min(_CLASSES, len(stores)))
        size = pd.Series(sizes.astype(np.int64), index=stores.index)
        return grouped(self.first, self.first["store_id"].map(size))

    def of_store(self, store: str) -> pd.DataFrame:
        """The sums over the store's items by target date."""
        of_store = self.first[self.first["store_id"] == store]
        columns = ["actual", "predicted", "lower", "upper"]
        return of_store.groupby("target_date")[columns].sum()


def grouped(frame: pd.DataFrame, by: str | pd.Series[Any]) -> pd.DataFrame:
    """The measures of each group: those of `metrics.measures`, and sums and means of sales.

    `naive_wape` is added where the frame has the errors of a naive rule.
    """
    groups = frame.assign(squared=_squared(frame)).groupby(by, observed=True)
    sums = groups[["actual", "predicted", "off", "error", "width", "calibrated_width"]].sum()
    measures = pd.DataFrame(
        {
            "rows": groups.size(),
            "actual": sums["actual"],
            "predicted": sums["predicted"],
            "mean_sales": groups["actual"].mean(),
            "wape": sums["off"] / sums["actual"],
            "bias": sums["error"] / sums["actual"],
            "rmspe": np.sqrt(groups["squared"].mean()).where(
                groups["squared"].count() >= RATED * groups.size()
            ),
            "coverage": groups["inside"].mean(),
            "width": sums["width"] / sums["actual"],
            "calibrated_coverage": groups["calibrated_inside"].mean(),
            "calibrated_width": sums["calibrated_width"] / sums["actual"],
        }
    )
    if "naive_off" in frame:
        known = frame[frame["naive_off"].notna()].groupby(by, observed=True)
        measures["naive_wape"] = known["naive_off"].sum() / known["actual"].sum()
    return measures.replace([np.inf, -np.inf], np.nan)


def wape(off: pd.Series[float], frame: pd.DataFrame) -> float:
    """The WAPE of the errors that are not NaN; NaN where nothing was sold.

    `off` are the absolute errors, and `frame` has the rows' `actual`.
    """
    known = off.notna()
    sold = float(frame["actual"][known].sum())
    return float(off[known].sum()) / sold if sold else float("nan")


def within(stores: pd.DataFrame) -> float:
    """The share of the stores whose coverage lies in STORE_COVERAGE."""
    low, high = STORE_COVERAGE
    return float(stores["coverage"].between(low, high).mean())


def chance_within(stores: pd.DataFrame) -> float:
    """The mean of `within` if each day were inside the interval with a chance of 80 %."""
    low, high = STORE_COVERAGE
    chances = {
        int(n): sum(
            math.comb(n, k) * _COVERED**k * (1 - _COVERED) ** (n - k)
            for k in range(n + 1)
            if low <= k / n <= high
        )
        for n in stores["rows"].clip(upper=_MANY_DAYS).unique()
    }
    return float(stores["rows"].clip(upper=_MANY_DAYS).map(chances).mean())


def column(values: pd.Series[Any]) -> Floats:
    """The values as an array of float64."""
    return np.asarray(values.to_numpy(dtype=np.float64), dtype=np.float64)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries, with the index as `index`."""
    return [
        {"index": index, **{str(name): value for name, value in row.items()}}
        for index, row in zip(frame.index, frame.to_dict("records"), strict=True)
    ]


def _squared(frame: pd.DataFrame) -> pd.Series[float]:
    """The squares of the relative errors; NaN where nothing was sold."""
    return (frame["error"] / frame["actual"].where(frame["actual"] > 0)) ** 2


def coverage_of_stores(rows: pa.Table) -> dict[str, float | int]:
    """The number of stores, and the share of them with a coverage in STORE_COVERAGE."""
    stores = Rows.of(rows).by_store()
    low, high = STORE_COVERAGE
    return {
        "stores": len(stores),
        "coverage_from": low,
        "coverage_to": high,
        "share": within(stores),
    }
