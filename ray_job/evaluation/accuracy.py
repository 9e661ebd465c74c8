"""How good the forecasts that were live have been: the scores read back and summed up.

A store that was forecast as closed and was closed is no proof of skill: rows where both the
forecast and the sales are zero are left out of every figure. The naive rule beside each figure is
last week's number: what was sold on the same weekday a week before.
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
    """What was scored of the days from `first` to `last`. `rows`: SCHEMA, by target date."""

    first: date
    last: date
    rows: pa.Table

    def of(self, store: str) -> Scores:
        """One store's. Raises InputError where nothing of it was scored."""
        mine = self.rows.filter(pc.equal(self.rows["store_id"], store))
        if mine.num_rows == 0:
            raise InputError(
                f"{store}: no forecast of this store was scored from {self.first} to {self.last}"
            )
        return Scores(self.first, self.last, mine)

    @property
    def last_said(self) -> pa.Table:
        """Of each store and target date, the newest forecast that was live."""
        newest = self.rows.group_by(["target_date", "store_id"]).aggregate([("as_of", "max")])
        newest = newest.rename_columns({"as_of_max": "as_of"})
        keys = ["target_date", "store_id", "as_of"]
        return newest.join(self.rows, keys=keys, join_type="inner").sort_by(
            [("target_date", "ascending"), ("store_id", "ascending")]
        )


def read(storage: Storage, current: Pointer, days: int) -> Scores:
    """The scores of the last `days` days, up to the newest one that was scored.

    Raises InputError where nothing was scored yet.
    """
    if not current.accuracy:
        raise InputError(
            f"{storage.url}: no forecast was scored yet: that takes sales of a day after a"
            " published night"
        )
    last = max(current.accuracy)
    first = last - (days - 1) * _DAY
    wanted = sorted((day, key) for day, key in current.accuracy.items() if first <= day)
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        tables = pool.map(lambda one: scoring.read(storage, one[1]), wanted)
        pieces = [
            table.add_column(
                0, SCHEMA.field(0), pa.repeat(pa.scalar(day, pa.date32()), table.num_rows)
            )
            for (day, _), table in zip(wanted, tables, strict=True)
        ]
    return Scores(first, last, pa.concat_tables(pieces).combine_chunks())


def summarise(scores: Scores) -> Figures:
    """The figures of the newest forecast of each day, in all, by day, and by days ahead.

    `better_days` of `days` are those on which it was nearer to the sales than last week's number;
    days of which nothing was scored are in `days_without`.
    """
    said = _counted(scores.last_said)
    by_day = [_day(day, rows) for day, rows in _groups(said, "target_date")]
    scored = set(pc.unique(scores.rows["target_date"]).to_pylist())
    span = [scores.first + k * _DAY for k in range((scores.last - scores.first).days + 1)]
    compared = [row for row in by_day if row["naive_wape"] is not None]
    return {
        "first": scores.first,
        "last": scores.last,
        **figures(said),
        "stores": pc.count_distinct(said["store_id"]).as_py(),
        "days": len(compared),
        "better_days": sum(row["wape"] < row["naive_wape"] for row in compared),
        "days_without": [day for day in span if day not in scored],
        "by_day": by_day,
        "by_days_ahead": {
            str(ahead): figures(rows)
            for ahead, rows in _groups(_counted(scores.rows), "days_ahead")
        },
    }


def by_store(scores: Scores) -> list[Figures]:
    """The figures of every store, the worst first; of each day the newest forecast counts."""
    said = _counted(scores.last_said)
    found = [{"store_id": store, **figures(rows)} for store, rows in _groups(said, "store_id")]
    return sorted(found, key=lambda row: -(row["wape"] or 0.0))


def day_by_day(scores: Scores) -> list[Figures]:
    """What was said last of each day, what was sold, and whether the interval held it."""
    return [
        {
            **{name: row[name] for name in SCHEMA.names if name != "run_id"},
            "naive": None if np.isnan(row["naive"]) else row["naive"],
            "inside": bool(row["lower_80"] <= row["actual"] <= row["upper_80"]),
            "error": row["predicted"] - row["actual"],
        }
        for row in scores.last_said.to_pylist()
    ]


def figures(rows: pa.Table) -> Figures:
    """`measures.measures` of some scores, with `naive_wape` over those that have last week's."""
    columns = [rows[name].to_numpy() for name in ("actual", "predicted", "lower_80", "upper_80")]
    naive: Floats = rows["naive"].to_numpy()
    known = ~np.isnan(naive)
    return {
        **measures(*columns),
        "naive_wape": measures(columns[0][known], naive[known])["wape"],
    }


def _day(day: date, rows: pa.Table) -> Figures:
    found = figures(rows)
    names = ("rows", "wape", "bias", "coverage_80", "naive_wape")
    return {"target_date": day, **{name: found[name] for name in names}}


def _counted(rows: pa.Table) -> pa.Table:
    counted = pc.or_(pc.greater(rows["actual"], 0.0), pc.greater(rows["predicted"], 0.0))
    return rows.filter(counted)


def _groups(rows: pa.Table, column: str) -> Iterable[tuple[Any, pa.Table]]:
    """The rows of each value of a column, in its order."""
    if rows.num_rows == 0:
        return
    ordered = rows.sort_by(column).combine_chunks()
    values = ordered[column].to_numpy()
    edges = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    ends = np.append(edges[1:], len(values))
    for begin, end in zip(edges, ends, strict=True):
        group = ordered.slice(int(begin), int(end - begin))
        yield group[column][0].as_py(), group
