"""Days that were filled in ahead: a table of chains. The as-of is a Friday, and no holiday."""

import threading
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ray_job.bucket.errors import StorageError
from ray_job.data.context import Context
from ray_job.data.histories import open_histories
from ray_job.features.trading import closed_weekdays_of_chain
from ray_job.nightly import recent_sales
from ray_job.nightly.recent_sales import RecentSales, holiday_flags, undelivered_days
from tests.support.shop import LAST, STORES

AS_OF = date(2026, 11, 27)
DAYS = 371
NO_HOLIDAYS = np.zeros((20, 14), dtype=bool)


def chain(stores=20, *, never=(6,), zeros=(), first_day=0, as_of=AS_OF, sundays="zeros"):
    """Stores that sell on all weekdays but `never`; on `zeros`, days ago, only zeros came."""
    weekday = np.array([(as_of - timedelta(days=k)).weekday() for k in range(DAYS)])[::-1]
    sold = np.tile(~np.isin(weekday, never), (stores, 1))
    delivered = np.ones_like(sold) if sundays == "zeros" else sold.copy()
    for ago in zeros:
        sold[:, DAYS - 1 - ago] = False
        delivered[:, DAYS - 1 - ago] = True
    for flags in (sold, delivered):
        flags[:, :first_day] = False
    names = [f"s{k}" for k in range(stores)]
    return RecentSales(names, as_of, delivered, sold, np.zeros_like(sold))


def test_a_store_that_cannot_be_read_or_hangs_is_left_out(shop, monkeypatch):
    never = threading.Event()
    reading = recent_sales.read_store_days

    def read(storage, paths, sizes):
        if "store_id=s003/" in paths[0]:
            never.wait()
        if "store_id=s004/" in paths[0]:
            raise StorageError("no answer")
        return reading(storage, paths, sizes)

    monkeypatch.setattr(recent_sales, "read_store_days", read)
    monkeypatch.setattr(recent_sales, "_SECONDS", 2.0)
    recent = recent_sales.read_recent_sales(shop.storage, open_histories(shop.storage).files, LAST)
    never.set()
    assert sorted(recent.store_ids) == sorted({*STORES} - {"s003", "s004"})
    assert recent.sold.any(axis=1).sum() == len(recent.store_ids)


def ago(recent, holidays=None):
    days = undelivered_days(
        recent, NO_HOLIDAYS[: len(recent.store_ids)] if holidays is None else holidays
    )
    return sorted((recent.as_of - day).days for day in days)


@pytest.mark.parametrize(
    ("recent", "expected"),
    [
        pytest.param(chain(), [], id="an ordinary night"),
        pytest.param(chain(zeros=[0]), [0], id="one day"),
        pytest.param(chain(zeros=[0, 1, 2]), [0, 1, 2], id="three days"),
        pytest.param(chain(zeros=[1]), [], id="a day of zeros before an ordinary one"),
        pytest.param(chain(3, zeros=[0]), [0], id="three stores"),
        pytest.param(chain(1, zeros=[0]), [0], id="one store"),
        pytest.param(chain(as_of=date(2026, 11, 29)), [], id="a closed Sunday"),
        pytest.param(
            chain(as_of=date(2026, 11, 29), zeros=[1]), [1], id="a closed Sunday after zeros"
        ),
        pytest.param(chain(never=(5, 6), as_of=date(2026, 11, 29)), [], id="closed weekends"),
        pytest.param(
            chain(as_of=date(2026, 11, 29), first_day=DAYS - 15), [], id="Sundays of a young chain"
        ),
        pytest.param(chain(zeros=[0], first_day=DAYS - 15), [0], id="zeros of a young chain"),
        pytest.param(chain(sundays="none", zeros=[0]), [0], id="Sundays have no rows"),
        pytest.param(chain(zeros=range(40)), list(range(14)), id="at most two weeks"),
    ],
)
def test_days_filled_in_ahead(recent, expected):
    # A closed Sunday between two of these days is no such day.
    sunday = (recent.as_of.weekday() + 1) % 7
    assert ago(recent) == [back for back in expected if back % 7 != sunday]


@pytest.mark.parametrize(("selling", "expected"), [(0, [0]), (1, [0]), (2, [])])
def test_nearly_all_of_twenty_stores(selling, expected):
    recent = chain(20, zeros=[0])
    recent.sold[:selling, -1] = True
    assert ago(recent) == expected


def test_stores_that_sent_nothing_or_are_closed_do_not_count():
    recent = chain(20, zeros=[0])
    recent.delivered[:15, -1] = False
    assert ago(recent) == [0]
    recent.closed[15:, -1] = True
    assert ago(recent) == []
    sells = chain(20, zeros=[0])
    sells.closed[:19, -1] = True
    sells.sold[19, -1] = True
    assert ago(sells) == []


def test_a_holiday_is_not_filled_in_ahead():
    recent = chain(zeros=[0])
    holidays = np.zeros((20, 14), dtype=bool)
    holidays[:, -1] = True
    assert ago(recent, holidays) == []
    holidays[:10, -1] = False
    assert ago(recent, holidays) == [0]


def test_holidays_of_the_country_and_of_regions():
    """Corpus Christi is a holiday in Bavaria, Christmas Day everywhere."""
    stores = pa.table({"store_id": ["a", "b"], "region": ["BY", "HH"]})
    for day, expected in ((date(2026, 6, 4), [True, False]), (date(2026, 12, 25), [True, True])):
        context = Context.build(
            stores, None, None, country="DE", first_day=day - timedelta(days=28), last_day=day
        )
        recent = RecentSales(["a", "b"], day, *np.zeros((3, 2, DAYS), dtype=bool))
        flags = holiday_flags(recent, context, "DE")
        assert flags.shape == (2, 14)
        assert flags[:, -1].tolist() == expected
        assert not flags[:, -3].any()


def test_delivered_holidays_do_not_take_the_countrys_away():
    day = date(2026, 12, 25)
    delivered = pa.table(
        {
            "region": pa.array([None], pa.string()),
            "date": pa.array([date(2026, 12, 1)], pa.date32()),
            "holiday": ["our day"],
        }
    )
    context = Context.build(
        None, None, delivered, country="DE", first_day=day - timedelta(days=28), last_day=day
    )
    recent = RecentSales(["a"], day, *np.zeros((3, 1, DAYS), dtype=bool))
    assert holiday_flags(recent, context, "DE")[0, -1]


@pytest.mark.parametrize(
    ("recent", "expected"),
    [
        (chain(3), (6,)),
        (chain(3, never=(0, 1)), (0, 1)),
        (chain(2), ()),
        (chain(20, never=()), ()),
        (chain(20, first_day=DAYS - 20), ()),
    ],
)
def test_closed_weekdays_of_the_chain(recent, expected):
    assert closed_weekdays_of_chain(recent.sold, recent.as_of) == expected
