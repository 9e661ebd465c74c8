"""Gates: what a merged release must satisfy before readers see it. Pure."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.receipts import Gate
from ray_job.merge import late
from ray_job.outcomes import matrix
from ray_job.settings import Gates as Limits


def judge(rows: pa.Table, base: pa.Table | None, *, as_of: date, limits: Limits) -> list[Gate]:
    """Every gate with its value, whether it passed or not.

    `rows` are those of the merged release; stores that nobody expects do not count.
    """
    rows = rows.filter(rows["expected"])
    return [
        _missing(rows, as_of, limits),
        _late(rows, as_of, limits),
        _vanished(rows, base, limits),
        _level(rows, as_of, limits),
    ]


def _missing(rows: pa.Table, as_of: date, limits: Limits) -> Gate:
    """Expected stores without a forecast of the as-of: at most a share of them, or one."""
    counted = rows.filter(pc.not_equal(rows["outcome"], "no_data"))
    absent = counted.num_rows - _of_night(counted, as_of).num_rows
    allowed = max(limits.missing_share * counted.num_rows, 1.0)
    return Gate(
        name="missing_stores",
        passed=absent <= allowed and counted.num_rows > 0,
        value=absent,
        limit=allowed,
        message=(
            f"{absent} of {counted.num_rows} stores have no forecast made from sales through"
            f" {as_of}"
        ),
    )


def _late(rows: pa.Table, as_of: date, limits: Limits) -> Gate:
    tonight = _of_night(rows, as_of)
    n_late = int(pc.sum(late(tonight, as_of)).as_py() or 0)
    share = n_late / tonight.num_rows if tonight.num_rows else 0.0
    return Gate(
        name="late_stores",
        passed=share <= limits.late_share,
        value=share,
        limit=limits.late_share,
        message=f"{n_late} of {tonight.num_rows} stores lack the sales of {as_of}",
    )


def _vanished(rows: pa.Table, base: pa.Table | None, limits: Limits) -> Gate:
    """Stores that the base expected and that are neither expected now nor marked as closed."""
    before = [] if base is None else base.filter(base["expected"])["store_id"].to_pylist()
    gone = sorted(set(before) - set(rows["store_id"].to_pylist()))
    named = ", ".join(gone[:5]) + (" …" if len(gone) > 5 else "")  # noqa: PLR2004 - a short list
    return Gate(
        name="vanished_stores",
        passed=len(gone) <= limits.vanished_stores,
        value=len(gone),
        limit=limits.vanished_stores,
        message=f"{len(gone)} stores are no longer expected{': ' if gone else ''}{named}",
    )


def _level(rows: pa.Table, as_of: date, limits: Limits) -> Gate:
    """Mean forecast per open store within a factor of the same weekday's recent mean.

    Each target date is judged for itself, over the stores that are open then and have sold on that
    weekday lately; a day on which everything is shut is not judged.
    """
    tonight = _of_night(rows, as_of)
    worst, told = 1.0, "no store is open that was open lately"
    if tonight.num_rows:
        predicted, usual = matrix(tonight["predicted"]), matrix(tonight["usual"])
        counted = (predicted > 0) & (usual > 0)
        for k, day in enumerate(tonight["target_dates"][0].as_py()):
            forecast = predicted[counted[:, k], k].sum()
            before = usual[counted[:, k], k].sum()
            if not counted[:, k].any():
                continue
            ratio = float(forecast / before)
            if max(ratio, 1 / ratio) > worst or told.startswith("no"):
                worst = float(np.maximum(ratio, 1 / ratio))
                told = f"the mean forecast of {day} is {ratio:.2f} times the recent mean"
    return Gate(
        name="level",
        passed=worst <= limits.mean_factor,
        value=worst,
        limit=limits.mean_factor,
        message=told,
    )


def _of_night(rows: pa.Table, as_of: date) -> pa.Table:
    return rows.filter(pc.fill_null(pc.equal(rows["as_of"], pa.scalar(as_of, pa.date32())), False))
