"""When stores trade and items are sold: closed weekdays, ended items, weekly data. Pure rules.

Each rule looks at the days up to the as-of and at one store alone, all its items together. So a
chunk with some of a store's items gives the same answer as a chunk with all of them.

A *week* is seven days that end with the as-of, or with the day k weeks before it. It is *counted*
if the store sold anything in it, and if the store sold on its last day or later: so weeks of a
closure, and the days after the last delivery, say nothing about a weekday.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Flags, Floats, StoreSold, Texts

Ints = npt.NDArray[np.int64]

_WEEK = 7
_WEEKS = 52
"""A weekday is judged by the last year."""
_FEWEST_WEEKS = 4
_EXCEPTION_WEEKS = 26
_FEWEST_EXCEPTION_WEEKS = 13
CHAIN = 1_000_000
"""Stands for a number of weeks where the other stores of the chain decide."""
_FEWEST_STORES = 3
_MOST_STORES = 0.75
_CHANCE = 0.001
"""A weekday is closed if so few sales on it are less likely than this for an open weekday."""

_ENDED_DAYS = 28
_REPLACED_DAYS = 7
_ENDED_GAPS = 3

_FEWEST_SOLD_DAYS = 8
_MOST_WEEKLY_DAYS = 0.35
_REGULAR = 0.9
_TIMES_BETWEEN_TOTALS = ((6, 8), (28, 31))
"""Days from one weekly or monthly total to the next."""


@dataclass(frozen=True, slots=True)
class ClosedWeekdays:
    """Weekdays on which stores never sell: arrays (s, 7); column k is the weekday of as-of + 1 + k.

    `weeks`: in so many counted weeks there were at most `sales` days of this weekday with sales;
    0 where the weekday is not closed.
    """

    weeks: Ints
    sales: Ints
    number: Ints
    """(s,): how many weeks count."""

    def of_target(self, days_ahead: int) -> tuple[Ints, Ints]:
        """`weeks` and `sales` of the weekday of a target date, each (s,)."""
        column = (days_ahead - 1) % _WEEK
        return self.weeks[:, column], self.sales[:, column]


def closed_weekdays(sold: Flags) -> ClosedWeekdays:
    """The weekdays on which stores never sell; `sold` is (s, d), its last column is the as-of.

    A weekday is closed if the store did not sell on it in the last counted weeks, at least 4, or
    sold on it only once in the last 26 weeks, of which at least 13 count. The number of weeks must
    be so large that this would happen to an open weekday with a chance of at most 1 in 1,000. An
    open weekday has sales as often as the median of the weekdays on which the store sells. So a
    store that sells on one day in ten has no closed weekday.
    """
    n, days = sold.shape
    weeks = min(_WEEKS, days // _WEEK)
    if weeks < _FEWEST_WEEKS or not n:
        nothing = np.zeros((n, _WEEK), dtype=np.int64)
        return ClosedWeekdays(nothing, nothing, nothing[:, 0])
    # The newest week comes first.
    blocks = sold[:, days - _WEEK * weeks :].reshape(n, weeks, _WEEK)[:, ::-1]
    active = blocks.any(axis=2)
    sold_later = np.zeros_like(active)
    sold_later[:, 1:] = np.logical_or.accumulate(active, axis=1)[:, :-1]
    counted = active & (blocks[:, :, -1] | sold_later)
    number = counted.sum(axis=1)
    often = _median_share((blocks & counted[:, :, None]).sum(axis=1), number)[:, None]
    no_sales_since = ~np.logical_or.accumulate(blocks, axis=1)
    misses = (no_sales_since & counted[:, :, None]).sum(axis=1)
    never = (misses >= _FEWEST_WEEKS) & ((1.0 - often) ** misses <= _CHANCE)
    recent = counted[:, :_EXCEPTION_WEEKS].sum(axis=1)[:, None]
    sales = blocks[:, :_EXCEPTION_WEEKS].sum(axis=1)
    chance = (1.0 - often) ** recent + recent * often * (1.0 - often) ** np.maximum(recent - 1, 0)
    once = (sales == 1) & (recent >= _FEWEST_EXCEPTION_WEEKS) & (chance <= _CHANCE) & ~never
    weeks_of = np.where(never, misses, np.where(once, recent, 0))
    return ClosedWeekdays(weeks_of, once.astype(np.int64), number)


def closed_weekdays_of_chain(sold: Flags, as_of: date) -> tuple[int, ...]:
    """The weekdays (Monday is 0) on which three in four stores never sell, of at least 3 stores.

    `sold` is (s, d), of stores of the chain, up to the as-of. Stores in which fewer than 4 weeks
    count are left out, since the result is meant for them.
    """
    rule = closed_weekdays(sold)
    old = rule.number >= _FEWEST_WEEKS
    if old.sum() < _FEWEST_STORES:
        return ()
    shares = (rule.weeks[old] > 0).mean(axis=0)
    first = (as_of + timedelta(days=1)).weekday()
    return tuple(sorted((first + int(k)) % _WEEK for k in np.flatnonzero(shares >= _MOST_STORES)))


def with_weekdays_of_chain(
    rule: ClosedWeekdays, sold: Flags, as_of: date, weekdays: Collection[int]
) -> ClosedWeekdays:
    """The rule, with the chain's closed `weekdays` for stores in which fewer than 4 weeks count.

    A weekday on which such a store sold is not closed. `weeks` is CHAIN where the chain decides.
    """
    new = np.flatnonzero(rule.number < _FEWEST_WEEKS)
    if not len(new) or not weekdays:
        return rule
    weeks = rule.weeks.copy()
    for weekday in weekdays:
        column = (weekday - as_of.weekday() - 1) % _WEEK
        newest = sold.shape[1] - _WEEK + column
        is_sold = sold[new][:, newest % _WEEK :: _WEEK].any(axis=1)
        weeks[new[~is_sold], column] = CHAIN
    return ClosedWeekdays(weeks, rule.sales, rule.number)


def closed_weekday_sentence(target: date, weeks: int, sales: int) -> str:
    """Why a weekday is taken for closed."""
    if weeks == CHAIN:
        return f"a new store, and most other stores do not sell on {target:%A}s"
    if sales:
        return f"sales on only {sales} of the last {weeks} {target:%A}s"
    return f"no sales on {target:%A}s for {weeks} weeks"


def ended(
    sales: Floats, item_ids: Texts, store_sold: StoreSold, without_stock: Flags | None = None
) -> Flags:
    """(n,): the series that have ended, since they sell nothing while their store sells.

    `sales` is (n, d). Time is counted in days of trade: those with a sale of the store in the week
    up to them, so that a closure of the store does not count. A series has ended if the time from
    its last sale to the store's last sale is at least four weeks, and longer than three times the
    longest earlier time between two of its sales. For the series of a whole store (item "") one
    week is enough, since other series of the store sell what it had counted. The first four weeks
    `without_stock` (n, d) do not count.
    """
    result = np.zeros(len(sales), dtype=np.bool_)
    of_store = item_ids == ""
    recently = (sales[:, -_REPLACED_DAYS:] > 0).any(axis=1)
    candidates = np.flatnonzero(~recently)
    if len(candidates):
        in_four_weeks = (sales[candidates, -_ENDED_DAYS:] > 0).any(axis=1)
        candidates = candidates[~in_four_weeks | of_store[candidates]]
    if len(candidates):
        positive = sales[candidates] > 0
        # Without another series that sells, a series cannot have ended.
        store_rows = store_sold.rows[candidates]
        others = store_sold.sold[store_rows]
        later = _last(others) > _last(positive)
        is_possible = positive.any(axis=1) & later
        candidates, positive = candidates[is_possible], positive[is_possible]
        others = others[is_possible]
        if without_stock is not None:
            others &= ~_excused(without_stock[candidates])
    if not len(candidates):
        return result
    total = np.cumsum(others, axis=1)
    a_week_before = np.zeros_like(total)
    a_week_before[:, _WEEK:] = total[:, :-_WEEK]
    clock: Ints = np.cumsum(total > a_week_before, axis=1)
    rows = np.arange(len(candidates))
    silent: Ints = clock[rows, _last(others)] - clock[rows, _last(positive)]
    before = np.maximum.accumulate(np.where(positive, clock, 0), axis=1)
    gaps = np.where(positive[:, 1:] & (before[:, :-1] > 0), clock[:, 1:] - before[:, :-1], 0)
    longest = gaps.max(axis=1, initial=0)
    fewest = np.where(of_store[candidates], _REPLACED_DAYS, _ENDED_DAYS)
    result[candidates] = (silent >= fewest) & (silent > _ENDED_GAPS * longest)
    return result


def _excused(without_stock: Flags) -> Flags:
    """(n, d): the first days of each time without stock. What never comes back has ended."""
    days = np.arange(1, without_stock.shape[1] + 1)
    last_in_stock = np.maximum.accumulate(np.where(without_stock, 0, days), axis=1)
    return np.asarray(without_stock & (days - last_in_stock <= _ENDED_DAYS))


def are_weekly(sold: Flags) -> tuple[Flags, Flags]:
    """(s,) each: which stores can be judged, and which of these sell once a week or once a month.

    `sold` is (s, d). A store can be judged if it sold on 8 days. It is weekly if nine in ten of its
    days with sales are of one weekday, or if nine in ten of the times between two of them are 6 to
    8 days, or 28 to 31 days.
    """
    number = sold.sum(axis=1)
    judged = number >= _FEWEST_SOLD_DAYS
    weekly = np.zeros(len(sold), dtype=np.bool_)
    for row in np.flatnonzero(judged):
        days = np.flatnonzero(sold[row])
        if len(days) > _MOST_WEEKLY_DAYS * (days[-1] - days[0] + 1):
            continue
        gaps = np.diff(days)
        of_weekday = np.bincount(days % _WEEK, minlength=_WEEK).max()
        regular = max(
            ((gaps >= least) & (gaps <= most)).mean() for least, most in _TIMES_BETWEEN_TOTALS
        )
        weekly[row] = of_weekday >= _REGULAR * len(days) or regular >= _REGULAR
    return judged, weekly


def weekly_data(sold: Flags, last_day: date) -> str | None:
    """The sentence that refuses a chain whose stores sell once a week; None for daily data.

    `sold` is (s, d), of stores of the chain; its last column is `last_day`. Nine in ten of the
    stores that can be judged must be weekly.
    """
    judged, weekly = are_weekly(sold)
    count, of = int(weekly.sum()), int(judged.sum())
    if not of or count < _REGULAR * of:
        return None
    by_weekday = [
        int(sold[weekly, ::-1][:, back::_WEEK].sum()) for back in range(min(_WEEK, sold.shape[1]))
    ]
    back = int(np.argmax(by_weekday))
    on_weekday = by_weekday[back] >= _REGULAR * sum(by_weekday)
    when = f"on {last_day - timedelta(days=back):%A}s only" if on_weekday else "once a week or less"
    return (
        f"{count} of {of} stores have sales {when}: these are weekly or monthly totals, and"
        " forecasts are made by day; deliver one row for each store and day"
    )


def _median_share(sales: Ints, weeks: Ints) -> Floats:
    """(s,): how often a store sells on the median one (the lower) of the weekdays that it sells on.

    `sales` is (s, 7): in how many of the `weeks` it sold on each weekday.
    """
    ordered = np.sort(sales, axis=1)
    selling = (ordered > 0).sum(axis=1)
    middle = _WEEK - selling + np.maximum(selling - 1, 0) // 2
    chosen = ordered[np.arange(len(ordered)), np.minimum(middle, _WEEK - 1)]
    return np.asarray(chosen / np.maximum(weeks, 1))


def _last(flags: Flags) -> Ints:
    """(n,): the last column that is flagged, -1 where none is."""
    last = flags.shape[1] - 1 - np.argmax(flags[:, ::-1], axis=1)
    return np.where(flags.any(axis=1), last, -1)
