"""Gates: what a merged release must satisfy before readers see it. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import sanity
from ray_job.bucket.reasons import Outcome
from ray_job.bucket.receipts import Gate
from ray_job.settings import Gates as Limits

_FEW = 3
"""So many stores are named."""
_JUDGED = ("store_id", "expected", "as_of", "outcome", "data_through")
_LISTS_JUDGED = ("predicted", "usual", "target_dates")


def judge(
    rows: pa.Table,
    base: pa.Table | None,
    *,
    as_of: date,
    known: Collection[str],
    limits: Limits,
    undelivered: Collection[date] = (),
) -> list[Gate]:
    """Every gate with its value, whether it passed or not.

    `rows` are those of the merged release; only expected stores count. `known` are the stores that
    are named by the inputs, including those that are closed for good. On `undelivered` days sales
    of 0 were filled in ahead.
    """
    # Only what is judged: the lists of a release make its rows wide.
    rows = rows.select([*_JUDGED, *_LISTS_JUDGED]).filter(rows["expected"])
    of_night = pc.fill_null(pc.equal(rows["as_of"], pa.scalar(as_of, pa.date32())), False)
    tonight = rows.filter(of_night)
    return [
        _missing(rows, tonight, as_of, limits),
        _late(tonight, as_of, limits, undelivered),
        _vanished(base, known, limits),
        _level(tonight, limits),
    ]


def _missing(rows: pa.Table, tonight: pa.Table, as_of: date, limits: Limits) -> Gate:
    """Expected stores without a forecast of the as-of: at most a fraction of them, or one.

    A store without any delivery ever does not count. A store that lost its data does.
    """
    never_delivered = pc.and_(pc.equal(rows["outcome"], Outcome.NO_DATA), pc.is_null(rows["as_of"]))
    counted = rows.num_rows - int(pc.sum(never_delivered).as_py() or 0)
    absent = counted - tonight.num_rows
    allowed = max(limits.missing_share * counted, 1.0)
    stores = f"{_number(absent)} of {_number(counted)} stores"
    return Gate(
        name="missing_stores",
        passed=absent <= allowed and counted > 0,
        value=absent,
        limit=allowed,
        message=(
            f"{stores} have no forecast made from sales through {_day(as_of)}"
            if counted
            else "no store has any sales"
        ),
    )


def _late(tonight: pa.Table, as_of: date, limits: Limits, undelivered: Collection[date]) -> Gate:
    n_late = int(pc.sum(sanity.is_late(tonight, as_of)).as_py() or 0)
    share = n_late / tonight.num_rows if tonight.num_rows else 0.0
    return Gate(
        name="late_stores",
        passed=share <= limits.late_share,
        value=share,
        limit=limits.late_share,
        message=(
            f"{_number(n_late)} of {_number(tonight.num_rows)} stores lack the sales of"
            f" {_day(as_of)}"
            f"{_filled_in(undelivered)}"
        ),
    )


def _filled_in(undelivered: Collection[date]) -> str:
    """What the message says of days on which sales of 0 were filled in ahead."""
    if not undelivered:
        return ""
    return f": nearly every open store has sales of 0 from {_day(min(undelivered))} on"


def _vanished(base: pa.Table | None, known: Collection[str], limits: Limits) -> Gate:
    """Stores that the base expected and that the inputs do not name any more."""
    before = [] if base is None else base.filter(base["expected"])["store_id"].to_pylist()
    gone = sorted(set(before) - set(known))
    names = ", ".join(gone[:5]) + (" …" if len(gone) > 5 else "")  # noqa: PLR2004 - a short list
    return Gate(
        name="vanished_stores",
        passed=len(gone) <= limits.vanished_stores,
        value=len(gone),
        limit=limits.vanished_stores,
        message=(
            f"{_number(len(gone))} stores were expected before and are not any more, without being"
            f" marked as closed for good: {names}"
            if gone
            else "no store has vanished"
        ),
    )


def _level(tonight: pa.Table, limits: Limits) -> Gate:
    """Mean forecast per open store within a factor of the same weekday's recent mean.

    Each target date is judged by itself, over the stores that are open on it and have recent sales
    on its weekday. A day on which all stores are closed is not judged.
    """
    worst, worst_place, message = 1.0, None, "no store is open that was open lately"
    days = _target_dates(tonight)
    for place, ratio in sanity.level_ratios(tonight).items():
        factor = sanity.level_factor(ratio)
        if factor >= worst:
            worst, worst_place, day = factor, place, days[place]
            message = (
                f"the forecast of {_day(day)} is {ratio:.2f} times what the same stores sold on"
                f" {day:%A}s lately"
            )
    if worst_place is not None and worst > limits.mean_factor:
        message += _movers(tonight, worst_place)
    return Gate(
        name="level",
        passed=worst <= limits.mean_factor,
        value=worst,
        limit=limits.mean_factor,
        message=message,
    )


def _movers(tonight: pa.Table, place: int) -> str:
    """The stores that move the sum of a target date most, each with its own ratio."""
    moved = sanity.differences(tonight, place)[:_FEW]
    if not moved:
        return ""
    named = ", ".join(f"{store} ({predicted / usual:.2f})" for store, predicted, usual in moved)
    return f"; the stores that move it most: {named}"


def _target_dates(tonight: pa.Table) -> list[date]:
    """The days of the longest forecast: a kept store may have a shorter one."""
    return sorted(pc.unique(pc.list_flatten(tonight["target_dates"])).to_pylist())


def _day(day: date) -> str:
    return f"{day:%A %-d %B %Y}"


def _number(count: int) -> str:
    return f"{count:,}"
