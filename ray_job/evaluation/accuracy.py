"""The accuracy of the forecasts that were live: their scores, read and summarised.

Rows whose forecast and sales are both zero are left out of every figure: a correct forecast of a
closed day shows no skill. The naive rule beside each figure is last week's number: the sales of the
same weekday one week before.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.errors import InputError
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.scores import SCORES_SCHEMA
from ray_job.bucket.storage import Storage
from ray_job.data.panel import Floats
from ray_job.evaluation import scoring
from ray_job.evaluation.metrics import measures

SCHEMA = SCORES_SCHEMA.insert(0, pa.field("target_date", pa.date32()))

_CONCURRENCY = 8
_DAY = timedelta(days=1)

Flags = npt.NDArray[np.bool_]
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of the days from `first` to `last`. `rows`: SCHEMA, sorted by target date."""

    first: date
    last: date
    rows: pa.Table

    def of(self, store: str) -> Scores:
        """The scores of one store. Raises InputError where it has none."""
        of_store = self.rows.filter(pc.equal(self.rows["store_id"], store))
        if of_store.num_rows == 0:
            raise InputError(
                f"{store}: no forecast of this store was scored from {self.first} to {self.last}"
            )
        return Scores(self.first, self.last, of_store)

    @property
    def newest(self) -> pa.Table:
        """For each store and target date the newest forecast that was live, sorted by both."""
        as_ofs = self.rows.group_by(["target_date", "store_id"]).aggregate([("as_of", "max")])
        as_ofs = as_ofs.rename_columns({"as_of_max": "as_of"})
        keys = ["target_date", "store_id", "as_of"]
        return as_ofs.join(self.rows, keys=keys, join_type="inner").sort_by(
            [("target_date", "ascending"), ("store_id", "ascending")]
        )


def read(storage: Storage, current: Pointer, days: int) -> Scores:
    """The scores of the last `days` days, up to the newest day that was scored.

    Raises InputError where no day was scored yet.
    """
    if not current.accuracy:
        raise InputError(
            f"{storage.url}: no forecast was scored yet; a run scores a published night when it"
            " has the sales of a day after it"
        )
    last = max(current.accuracy)
    first = last - (days - 1) * _DAY
    keys = sorted((day, key) for day, key in current.accuracy.items() if first <= day)
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        tables = pool.map(lambda day_and_key: scoring.read(storage, day_and_key[1]), keys)
        pieces = [
            table.add_column(
                0, SCHEMA.field(0), pa.repeat(pa.scalar(day, pa.date32()), table.num_rows)
            )
            for (day, _), table in zip(keys, tables, strict=True)
        ]
    return Scores(first, last, pa.concat_tables(pieces).combine_chunks())


def summarise(scores: Scores) -> Figures:
    """The figures of the newest forecast of each day: over all days, by day, and by days ahead.

    `days` is the number of days that have last week's number, and `better_days` the number of those
    on which the forecast had the smaller error. `days_without` are the days without scores.
    """
    newest = _without_closed_days(scores.newest)
    by_day = [_day(day, rows) for day, rows in _groups(newest, "target_date")]
    scored = set(pc.unique(scores.rows["target_date"]).to_pylist())
    span = [scores.first + k * _DAY for k in range((scores.last - scores.first).days + 1)]
    compared = [row for row in by_day if row["naive_wape"] is not None]
    return {
        "first": scores.first,
        "last": scores.last,
        **figures(newest),
        "stores": pc.count_distinct(newest["store_id"]).as_py(),
        "days": len(compared),
        "better_days": sum(row["wape"] < row["naive_wape"] for row in compared),
        "days_without": [day for day in span if day not in scored],
        "by_day": by_day,
        "by_days_ahead": {
            str(ahead): figures(rows)
            for ahead, rows in _groups(_without_closed_days(scores.rows), "days_ahead")
        },
    }


def by_store(scores: Scores) -> list[Figures]:
    """The figures of the newest forecasts of each store, the largest error first."""
    newest = _without_closed_days(scores.newest)
    stores = [{"store_id": store, **figures(rows)} for store, rows in _groups(newest, "store_id")]
    return sorted(stores, key=lambda row: -(row["wape"] or 0.0))


def day_by_day(scores: Scores) -> list[Figures]:
    """The newest forecast of each day, the sales, and whether they were inside the interval."""
    return [
        {
            **{name: row[name] for name in SCHEMA.names if name != "run_id"},
            "naive": None if np.isnan(row["naive"]) else row["naive"],
            "inside": bool(row["lower_80"] <= row["actual"] <= row["upper_80"]),
            "error": row["predicted"] - row["actual"],
        }
        for row in scores.newest.to_pylist()
    ]


def figures(rows: pa.Table) -> Figures:
    """`metrics.measures` of scores, and `naive_wape`: the error of last week's number.

    `naive_wape` is that of the rows that have last week's number. `lower_factor` and
    `upper_factor` are the means of the factors by which the intervals were adapted, None where the
    scores do not have them.
    """
    columns = [rows[name].to_numpy() for name in ("actual", "predicted", "lower_80", "upper_80")]
    naive: Floats = rows["naive"].to_numpy()
    known = ~np.isnan(naive)
    return {
        **measures(*columns),
        "naive_wape": measures(columns[0][known], naive[known])["wape"],
        "lower_factor": pc.mean(rows["lower_factor"]).as_py(),
        "upper_factor": pc.mean(rows["upper_factor"]).as_py(),
    }


def _day(day: date, rows: pa.Table) -> Figures:
    all_figures = figures(rows)
    names = ("rows", "wape", "bias", "coverage_80", "naive_wape")
    return {"target_date": day, **{name: all_figures[name] for name in names}}


def _without_closed_days(rows: pa.Table) -> pa.Table:
    """The rows whose forecast or sales are above zero."""
    return rows.filter(pc.or_(pc.greater(rows["actual"], 0.0), pc.greater(rows["predicted"], 0.0)))


def _groups(rows: pa.Table, column: str) -> Iterable[tuple[Any, pa.Table]]:
    """Each value of a column with its rows, in the order of the values."""
    if rows.num_rows == 0:
        return
    ordered = rows.sort_by(column).combine_chunks()
    values = ordered[column].to_numpy()
    edges = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    ends = np.append(edges[1:], len(values))
    for begin, end in zip(edges, ends, strict=True):
        group = ordered.slice(int(begin), int(end - begin))
        yield group[column][0].as_py(), group
