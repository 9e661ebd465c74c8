"""What a backtest's rows amount to, by day, weekday, days ahead and store, as frames for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ray_job.backtest.naive import RULES
from ray_job.data.panel import Floats

STORE_COVERAGE = (0.67, 0.92)
"""Between these the coverage of a perfectly calibrated store lies 94 times in 100, in 42 days."""

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_CLASSES = 10
_COVERED = 0.8
_MANY_DAYS = 300
"""Of more days the binomial numbers only get longer: all but certain, either way."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A backtest's rows (see `backtest.Backtest`) with their errors; `rule` is the best naive one.

    `first`: those of one day ahead.
    """

    all: pd.DataFrame
    first: pd.DataFrame
    rule: str

    @classmethod
    def of(cls, rows: pa.Table) -> Rows:
        names = ["store_id", "target_date", "days_ahead", "actual", "predicted", "lower", "upper"]
        frame = rows.select([*names, *RULES]).to_pandas(date_as_object=False)
        frame = frame[frame["predicted"].notna()]
        actual = frame["actual"]
        frame["error"] = frame["predicted"] - actual
        frame["off"] = frame["error"].abs()
        frame["inside"] = (actual >= frame["lower"]) & (actual <= frame["upper"])
        frame["width"] = frame["upper"] - frame["lower"]
        first = frame[frame["days_ahead"] == 1].copy()
        off = {rule: wape((first[rule] - first["actual"]).abs(), first) for rule in RULES}
        best = min(RULES, key=lambda rule: np.nan_to_num(off[rule], nan=np.inf))
        first["naive_off"] = (first[best] - first["actual"]).abs()
        return cls(all=frame, first=first, rule=best)

    def by_day(self) -> pd.DataFrame:
        return grouped(self.first, "target_date")

    def by_weekday(self) -> pd.DataFrame:
        found = grouped(self.first, self.first["target_date"].dt.day_of_week)
        return found.reindex(range(7))

    def by_days_ahead(self) -> pd.DataFrame:
        return grouped(self.all, "days_ahead")

    def by_store(self) -> pd.DataFrame:
        return grouped(self.first, "store_id")

    def by_size(self) -> pd.DataFrame:
        """Stores in up to ten classes of equal number, by what they sell a day."""
        stores = self.by_store()["mean_sales"].rank(method="first")
        sizes = np.ceil(column(stores) / len(stores) * min(_CLASSES, len(stores)))
        size = pd.Series(sizes.astype(np.int64), index=stores.index)
        return grouped(self.first, self.first["store_id"].map(size))

    def of_store(self, store: str) -> pd.DataFrame:
        """By target date, the sums over its items."""
        mine = self.first[self.first["store_id"] == store]
        columns = ["actual", "predicted", "lower", "upper"]
        return mine.groupby("target_date")[columns].sum()


def grouped(frame: pd.DataFrame, by: str | pd.Series[Any]) -> pd.DataFrame:
    """The measures (those of `measures.measures`) of each group."""
    groups = frame.assign(squared=_squared(frame)).groupby(by, observed=True)
    sums = groups[["actual", "predicted", "off", "error", "width"]].sum()
    found = pd.DataFrame(
        {
            "rows": groups.size(),
            "actual": sums["actual"],
            "predicted": sums["predicted"],
            "mean_sales": groups["actual"].mean(),
            "wape": sums["off"] / sums["actual"],
            "bias": sums["error"] / sums["actual"],
            "rmspe": np.sqrt(groups["squared"].mean()),
            "coverage": groups["inside"].mean(),
            "width": sums["width"] / sums["actual"],
        }
    )
    if "naive_off" in frame:
        known = frame[frame["naive_off"].notna()].groupby(by, observed=True)
        found["naive_wape"] = known["naive_off"].sum() / known["actual"].sum()
    return found.replace([np.inf, -np.inf], np.nan)


def wape(off: pd.Series[float], frame: pd.DataFrame) -> float:
    """Of errors that may be NaN, NaN where nothing was sold; `frame` has the rows' `actual`."""
    known = off.notna()
    sold = float(frame["actual"][known].sum())
    return float(off[known].sum()) / sold if sold else float("nan")


def within(stores: pd.DataFrame) -> float:
    """The share of the stores whose coverage lies in STORE_COVERAGE."""
    low, high = STORE_COVERAGE
    return float(stores["coverage"].between(low, high).mean())


def chance_within(stores: pd.DataFrame) -> float:
    """What `within` would be on average if each day were inside with a chance of 80 %."""
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
    return np.asarray(values.to_numpy(dtype=np.float64), dtype=np.float64)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, with the index as `index`."""
    return [
        {"index": index, **{str(name): value for name, value in row.items()}}
        for index, row in zip(frame.index, frame.to_dict("records"), strict=True)
    ]


def _squared(frame: pd.DataFrame) -> pd.Series[float]:
    return (frame["error"] / frame["actual"].where(frame["actual"] > 0)) ** 2


def coverage_of_stores(rows: pa.Table) -> dict[str, float | int]:
    """How many stores there are, and the share of them with a coverage in STORE_COVERAGE."""
    stores = Rows.of(rows).by_store()
    low, high = STORE_COVERAGE
    return {
        "stores": len(stores),
        "coverage_from": low,
        "coverage_to": high,
        "share": within(stores),
    }
