"""What a sample of the stores says about the chain: days filled in ahead, and weekly data."""

from __future__ import annotations

import hashlib
import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.storage import Storage
from ray_job.data.context import Context
from ray_job.data.context.calendar_days import public_holidays
from ray_job.data.panel import Flags
from ray_job.data.store_days import StoreDays, read_store_days
from ray_job.features.trading import closed_weekdays

_STORES = 50
_THREADS = 8
_SECONDS = 10.0
_DAYS = 371
_REACH = 14
"""So many days up to the as-of may have been filled in ahead."""
_FEW = 0.05
_WEEK = 7
_EPOCH = date(1970, 1, 1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class RecentSales:
    """The days of a sample of stores: arrays (s, d), the last column is the as-of.

    `delivered` and `sold`: known sales, and sales above 0; `closed`: declared closed.
    """

    store_ids: Sequence[str]
    as_of: date
    delivered: Flags
    sold: Flags
    closed: Flags

    @classmethod
    def of(cls, stores: Mapping[str, StoreDays], as_of: date) -> RecentSales:
        flags = np.zeros((3, len(stores), _DAYS), dtype=np.bool_)
        first = (as_of - _EPOCH).days - _DAYS + 1
        for place, days in enumerate(stores.values()):
            for kind, numbers in enumerate((days.delivered, days.sold, days.closed)):
                columns = numbers - first
                flags[kind, place, columns[(columns >= 0) & (columns < _DAYS)]] = True
        return cls(list(stores), as_of, *flags)


def read_recent_sales(storage: Storage, files: pa.Table, as_of: date) -> RecentSales:
    """The recent sales of at most 50 stores, the first in the order of the sha256 of their ids.

    `files` are of plan.FILES_SCHEMA. A store that cannot be read, or not in time, is left out: its
    chunk says why. A file that hangs costs some seconds here.
    """

    def read(store: str) -> StoreDays | None:
        of_store = files.filter(pc.equal(files["store_id"], store)).sort_by("path")
        try:
            return read_store_days(
                storage, of_store["path"].to_pylist(), of_store["bytes"].to_pylist()
            )
        except Exception:  # noqa: BLE001 - the chunk of the store says what is wrong with it
            return None

    ids = pc.unique(files["store_id"]).to_pylist()
    chosen = heapq.nsmallest(
        _STORES, ids, key=lambda store: hashlib.sha256(store.encode()).digest()
    )
    files = files.filter(pc.is_in(files["store_id"], pa.array(chosen, pa.string())))
    days = _in_time(read, chosen)
    read_stores = {store: days[store] for store in chosen if store in days}
    return RecentSales.of(read_stores, as_of)


def _in_time(
    read: Callable[[str], StoreDays | None], stores: Sequence[str]
) -> dict[str, StoreDays]:
    """What `read` returns for the stores, as far as it does so within the limit."""
    results: dict[str, StoreDays] = {}
    pending = deque(stores)

    def read_pending() -> None:
        while True:
            try:
                store = pending.popleft()
            except IndexError:
                return
            days = read(store)
            if days is not None:
                results[store] = days

    # Threads of a pool would be waited for at the end of the process, however long they hang.
    threads = [threading.Thread(target=read_pending, daemon=True) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    pending.clear()
    return dict(results)


def holiday_flags(recent: RecentSales, context: Context, country: str) -> Flags:
    """(s, 14): whether a day is a public holiday where the store is; the last column is the as-of.

    The country's own holidays count for all stores, also where other holidays were delivered.
    """
    days = [recent.as_of - _DAY * back for back in range(_REACH - 1, -1, -1)]
    national = public_holidays(country, "", {day.year for day in days})
    regions = context.store_region[context.rows(np.array(recent.store_ids, dtype=np.object_))]
    flags = np.zeros((len(recent.store_ids), _REACH), dtype=np.bool_)
    for column, day in enumerate(days):
        by_region = context.holidays_around(day, 0)[:, 0]
        flags[:, column] = by_region[regions] | by_region[-1] | (day in national)
    return flags


def undelivered_days(recent: RecentSales, holidays: Flags) -> tuple[date, ...]:
    """The days up to the as-of on which sales of 0 were filled in ahead, sorted.

    These are the days after the last ordinary one, at most 14, that were delivered and on which at
    most one in twenty open stores sold anything. A store is not open if it is declared closed, on a
    holiday, and on a weekday on which it never sells. A weekday on which no store ever sold is not
    judged. `holidays` is (s, 14), see `holiday_flags`.
    """
    undelivered = []
    last = recent.sold.shape[1] - 1
    for back in range(_REACH):
        column = last - back
        judged = recent.delivered[:, column] & ~recent.closed[:, column]
        judged &= ~holidays[:, holidays.shape[1] - 1 - back]
        if not judged.any() or _nobody_ever_sells(recent, column):
            continue
        judged &= closed_weekdays(recent.sold[:, :column]).of_target(1)[0] == 0
        if not judged.any():
            continue
        if recent.sold[judged, column].mean() > _FEW:
            break
        undelivered.append(recent.as_of - _DAY * back)
    return tuple(sorted(undelivered))


def _nobody_ever_sells(recent: RecentSales, column: int) -> bool:
    """Whether this weekday was delivered before, and no store sold anything on it."""
    earlier: slice = slice(column % _WEEK, column, _WEEK)
    delivered: npt.NDArray[np.bool_] = recent.delivered[:, earlier]
    return bool(delivered.any()) and not recent.sold[:, earlier].any()
