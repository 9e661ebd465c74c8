"""Closed weekdays, ended items, weekly data: the rules, by tables of cases."""

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_job.data.panel import StoreSold
from ray_job.features.trading import (
    are_weekly,
    closed_weekday_sentence,
    closed_weekdays,
    ended,
    weekly_data,
)

SUNDAY = date(2026, 11, 29)
MON, TUE, WED, THU, FRI, SAT, SUN = range(7)


def days(weeks, open_weekdays, *, without=(), also=(), cut=0):
    """(d,) days up to a Sunday on which a store sold; `without` and `also` are days ago."""
    sold = np.array([day % 7 in open_weekdays for day in range(7 * weeks)])
    for ago in without:
        sold[len(sold) - 1 - ago] = False
    for ago in also:
        sold[len(sold) - 1 - ago] = True
    return sold[: len(sold) - cut]


def closed(sold):
    """The closed weekdays, Monday is 0, of a store whose last day is a Sunday less what is cut."""
    rule = closed_weekdays(sold[None, :])
    first = len(sold) % 7
    return {(first + k) % 7 for k in range(7) if rule.weeks[0, k]}


EVERY = set(range(7))
WORKDAYS = EVERY - {SUN}


@pytest.mark.parametrize(
    ("sold", "expected"),
    [
        pytest.param(days(60, WORKDAYS), {SUN}, id="never on Sundays"),
        pytest.param(days(60, EVERY - {WED}), {WED}, id="never on Wednesdays"),
        pytest.param(days(60, EVERY - {MON, TUE}), {MON, TUE}, id="two closed weekdays"),
        pytest.param(days(60, {SAT}), EVERY - {SAT}, id="a market on Saturdays"),
        pytest.param(days(60, EVERY), set(), id="every day"),
        pytest.param(days(4, WORKDAYS), set(), id="as-of is closed: only three weeks count"),
        pytest.param(days(5, WORKDAYS), {SUN}, id="five weeks"),
        pytest.param(days(5, WORKDAYS, cut=1), {SUN}, id="as-of is a Saturday"),
        pytest.param(days(3, EVERY - {MON}), set(), id="a new store"),
        pytest.param(days(60, WORKDAYS, also=[0]), {SUN}, id="one special Sunday, the last"),
        pytest.param(days(60, WORKDAYS, also=[14]), {SUN}, id="one special Sunday"),
        pytest.param(days(10, WORKDAYS, also=[7]), set(), id="one Sunday, little history"),
        pytest.param(days(60, WORKDAYS, also=[0, 7]), set(), id="opens on Sundays now"),
        pytest.param(days(60, EVERY, without=range(6, 21, 7)), set(), id="three Mondays off"),
        pytest.param(days(60, EVERY, without=range(6, 28, 7)), {MON}, id="no Mondays any more"),
        pytest.param(days(60, EVERY, without=range(28)), set(), id="closed for four weeks"),
        pytest.param(days(60, EVERY, without=range(40, 90)), set(), id="was closed for weeks"),
        pytest.param(days(60, WORKDAYS, without=range(50)), {SUN}, id="closed now, as before"),
        pytest.param(days(60, EVERY, without=range(3)), set(), id="late by three days"),
        pytest.param(np.zeros(200, dtype=bool), set(), id="never open"),
        pytest.param(np.ones(20, dtype=bool), set(), id="less than four weeks of days"),
    ],
)
def test_closed_weekdays(sold, expected):
    assert closed(sold) == expected


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.6])
def test_a_store_that_sells_on_some_days_has_no_closed_weekday(rate):
    sold = np.random.default_rng(3).random((500, 364)) < rate
    assert (closed_weekdays(sold).weeks > 0).any(axis=1).mean() < 0.02


def test_the_weeks_are_counted():
    rule = closed_weekdays(days(30, WORKDAYS)[None, :])
    assert rule.of_target(7)[0].tolist() == [29]
    assert rule.of_target(14)[0].tolist() == [29]
    assert rule.of_target(6)[0].tolist() == [0]
    once = closed_weekdays(days(60, WORKDAYS, also=[14])[None, :]).of_target(7)
    assert [numbers.tolist() for numbers in once] == [[25], [1]]


def test_the_sentences():
    assert closed_weekday_sentence(SUNDAY, 29, 0) == "no sales on Sundays for 29 weeks"
    assert closed_weekday_sentence(SUNDAY, 26, 1) == "sales on only 1 of the last 26 Sundays"


def items(*series, names=None, store=None):
    """Which of a store's series have ended; each is its sales on (d,) days."""
    sales = np.array(series, dtype=np.float64)
    sold = (sales > 0).any(axis=0) if store is None else store
    names = [f"i{k}" for k in range(len(sales))] if names is None else names
    stores = StoreSold(sold[None, :], np.zeros(len(sales), dtype=np.int64))
    return ended(sales, np.array(names, dtype=object), stores).tolist()


def series(length, *, every=1, silent=0, value=5.0, missing=0.0):
    """Sales on every so many days, none on the last `silent` days; `missing` is a day without."""
    sales = np.full(length, missing)
    sales[::every] = value
    if silent:
        sales[-silent:] = missing
    return sales


FULL = series(400)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        pytest.param(series(400), False, id="sold every day"),
        pytest.param(series(400, silent=27), False, id="27 days"),
        pytest.param(series(400, silent=28), True, id="four weeks"),
        pytest.param(series(400, silent=28, missing=np.nan), True, id="four weeks without rows"),
        pytest.param(series(400, every=10, silent=28), False, id="three times its gap"),
        pytest.param(series(400, every=9, silent=40), True, id="longer than three times its gap"),
        pytest.param(series(400, every=60, silent=150), False, id="a slow mover"),
        pytest.param(series(400, every=40, silent=160), True, id="a slow mover that ended"),
        pytest.param(np.zeros(400), False, id="never sold"),
        pytest.param(np.full(400, np.nan), False, id="nothing known"),
        pytest.param(np.append(series(399, silent=60), 5), False, id="back since today"),
    ],
)
def test_ended(item, expected):
    assert items(FULL, item) == [False, expected]


def test_a_seasonal_item_has_not_ended():
    """Two seasons of Christmas items: the longest gap is from one to the other."""
    sales = np.zeros(800)
    sales[60:100] = 8.0
    sales[425:465] = 8.0
    assert items(np.full(800, 5.0), sales) == [False, False]
    assert items(np.full(200, 5.0), sales[:200]) == [False, True]


def test_the_closure_of_a_store_ends_no_item():
    """The store is closed for six weeks, and open again for three days."""
    other, item = series(400), series(400)
    for sales in (other, item):
        sales[-45:-3] = 0.0
    item[-3:] = 0.0
    assert items(other, item) == [False, False]


def test_a_store_whose_sales_stopped_ends_no_item():
    assert items(series(400, silent=60), series(400, silent=70)) == [False, False]


def test_closed_sundays_are_no_gap_of_their_own():
    open_days = np.arange(400) % 7 != 6
    item = series(400, silent=30) * open_days
    assert items(FULL * open_days, item) == [False, True]


@pytest.mark.parametrize(("silent", "expected"), [(6, False), (7, True), (30, True)])
def test_a_store_level_series_beside_items(silent, expected):
    new = np.where(np.arange(400) >= 400 - silent, 5.0, np.nan)
    assert items(series(400, silent=silent, missing=np.nan), new, names=["", "a"]) == [
        expected,
        False,
    ]


def test_a_store_level_series_alone_never_ends():
    assert items(series(400, silent=100), names=[""]) == [False]


SALES = st.lists(
    st.lists(st.sampled_from([0.0, 0.0, 5.0]), min_size=70, max_size=70), min_size=2, max_size=5
)


@given(SALES, st.data())
def test_a_series_ends_in_whatever_chunk_it_is(rows, data):
    sales = np.repeat(np.array(rows), 2, axis=1)
    store = (sales > 0).any(axis=0)
    whole = items(*sales, store=store)
    chosen = data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1))
    order = sorted(chosen)
    assert items(*sales[order], store=store) == [whole[k] for k in order]


@given(st.integers(28, 120), st.integers(0, 60), st.integers(1, 30))
def test_nothing_is_forgotten_by_a_longer_silence(silent, more, every):
    """Once ended, an item stays so until it sells again."""
    if items(series(200, every=every, silent=min(silent, 199)), FULL[:200])[0]:
        longer = np.append(series(200, every=every, silent=min(silent, 199)), np.zeros(more))
        assert items(longer, np.full(200 + more, 5.0))[0]


WEEKLY = days(60, {FRI})


@pytest.mark.parametrize(
    ("sold", "expected"),
    [
        pytest.param(WEEKLY, (True, True), id="Fridays"),
        pytest.param(
            days(60, {FRI}, without=[2 + 7 * 5], also=[3 + 7 * 5]), (True, True), id="moved"
        ),
        pytest.param(days(60, {FRI}, without=[2 + 7 * 5, 2 + 7 * 9]), (True, True), id="gaps"),
        pytest.param(np.arange(700) % 30 == 3, (True, True), id="months"),
        pytest.param(days(60, {FRI, SAT}), (True, False), id="two weekdays"),
        pytest.param(days(60, WORKDAYS), (True, False), id="daily"),
        pytest.param(days(4, {FRI}), (False, False), id="too few"),
        pytest.param(np.zeros(100, dtype=bool), (False, False), id="nothing"),
        pytest.param(
            np.random.default_rng(1).random(364) < 0.1, (True, False), id="on one day in ten"
        ),
    ],
)
def test_weekly_stores(sold, expected):
    judged, weekly = are_weekly(sold[None, :])
    assert (bool(judged[0]), bool(weekly[0])) == expected


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        ([WEEKLY] * 3, "3 of 3 stores have sales on Fridays only"),
        ([WEEKLY] * 10 + [days(60, WORKDAYS)], "10 of 11 stores have sales on Fridays only"),
        ([days(60, {MON})] * 2 + [WEEKLY] * 2, "4 of 4 stores have sales once a week or less"),
        ([WEEKLY, days(60, WORKDAYS)], None),
        ([days(60, WORKDAYS)] * 3, None),
        ([np.zeros(420, dtype=bool)], None),
    ],
)
def test_a_weekly_chain(chain, sentence):
    refused = weekly_data(np.array(chain), SUNDAY)
    if sentence is None:
        assert refused is None
    else:
        assert refused is not None
        assert refused.startswith(sentence)
        assert "deliver one row for each store and day" in refused


def test_the_weekday_is_named_from_the_last_day():
    assert "Wednesdays only" in str(
        weekly_data(days(60, {FRI})[None, :], SUNDAY + timedelta(days=5))
    )
