"""What stands beside a forecast: earlier sales, and what is special about a day."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_job.data.context import Context
from ray_job.data.panel import Panel
from ray_job.forecasting.comparisons import Comparisons, last_week_sales, region_codes

FIRST = date(2024, 1, 1)
DAYS = 800
AS_OF = FIRST + timedelta(days=DAYS - 1)
TARGETS = tuple(AS_OF + timedelta(days=ahead) for ahead in range(1, 9))
NAN = float("nan")


def panel_of(sales, *, stores=("s",), promo=None) -> Panel:
    """Series of `stores`; `promo` is what is known of the target dates."""
    n = len(sales)
    known_ahead = {"open": np.ones((n, DAYS + len(TARGETS)), np.float32)}
    if promo is not None:
        values = np.zeros((n, DAYS + len(TARGETS)), np.float32)
        values[:, DAYS:] = promo
        known_ahead["promo"] = values
    return Panel(
        store_ids=np.array(stores, dtype=object),
        item_ids=np.array([str(item) for item in range(n)], dtype=object),
        first_day=FIRST,
        sales=np.array(sales, float),
        known_ahead=known_ahead,
    )


def compared(panel: Panel, stores: int = 1, context: Context | None = None) -> Comparisons:
    comparisons = Comparisons(stores, TARGETS, context)
    names = panel.store_ids
    edges = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    comparisons.add(panel, np.ones(panel.n_series, bool), np.arange(stores), edges)
    return comparisons


def test_earlier_sales_are_of_the_same_weekday():
    result = compared(panel_of([np.arange(DAYS)]))
    newest = DAYS - 1
    # The eighth day is two weeks after the newest known same weekday.
    expected = [newest + ahead - (7 if ahead <= 7 else 14) for ahead in range(1, 9)]
    assert result.last_week[0].tolist() == expected
    assert result.last_year[0].tolist() == [newest + ahead - 364 for ahead in range(1, 9)]
    assert all(
        (FIRST + timedelta(days=int(place))).weekday() == day.weekday()
        for place, day in zip(result.last_week[0], TARGETS, strict=True)
    )


def test_unknown_sales_are_null_and_known_ones_are_added_up():
    unknown = np.full(DAYS, NAN)
    result = compared(panel_of([np.full(DAYS, 2.0), unknown], stores=("s", "s")))
    assert result.last_week[0].tolist() == [2.0] * 8
    nothing = compared(panel_of([unknown])).columns(np.array([True]))
    assert nothing["last_week"].to_pylist() == [[None] * 8]
    assert nothing["last_year"].to_pylist() == [[None] * 8]
    failed = compared(panel_of([unknown])).columns(np.array([False]))
    assert failed["special"].to_pylist() == [None]


def test_flags_name_the_number_of_their_series():
    promo = np.zeros((3, 8))
    promo[:2, 0] = 1
    promo[:, 1] = 1
    result = compared(panel_of(np.ones((3, DAYS)), stores=("s",) * 3, promo=promo))
    assert result.special_by_day()[0].tolist()[:3] == ["promo=2", "promo=3", ""]


@pytest.mark.parametrize("usual", [1.0, 0.5, NAN])
def test_a_flag_that_is_always_set_or_is_no_flag_is_nothing_special(usual):
    panel = panel_of(np.ones((1, DAYS)), promo=np.ones((1, 8)))
    panel.known_ahead["promo"][:, :DAYS] = usual
    assert compared(panel).special_by_day()[0].tolist() == [""] * 8


def context_of(temperature: float, *, delivered: bool = True) -> Context:
    days = [FIRST + timedelta(days=day) for day in range(DAYS + len(TARGETS))]
    if not delivered:
        days = days[:DAYS]
    values = [10.0 + day.toordinal() % 3 for day in days]
    if delivered:
        values[DAYS] = temperature
    weather = pa.table(
        {"region": ["north"] * len(days), "date": pa.array(days), "temperature": values}
    )
    holidays = pa.table(
        {"region": ["north"], "date": pa.array([TARGETS[1]]), "holiday": ["a holiday"]}
    )
    stores = pa.table({"store_id": ["s", "t"], "region": ["north", None]})
    return Context.build(
        stores, weather, holidays, country="DE", first_day=FIRST, last_day=TARGETS[-1]
    )


@pytest.mark.parametrize(
    ("temperature", "code"),
    [
        (11.0, ""),
        (12.0, ""),
        (19.0, "weather_high:temperature=8.0"),
        (1.0, "weather_low:temperature=10.0"),
    ],
)
def test_weather_far_from_usual_and_holidays(temperature, code):
    context = context_of(temperature)
    result = compared(panel_of(np.ones((1, DAYS))), context=context)
    assert result.special_by_day()[0].tolist()[:3] == [code, "holiday", ""]
    assert region_codes(context, TARGETS[0])[0] == code


def test_weather_that_nobody_delivered_is_not_special():
    context = context_of(99.0, delivered=False)
    assert region_codes(context, TARGETS[0]).tolist()[0] == ""


@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_a_store_has_the_same_bits_in_any_chunk(names, seed):
    """Alone, or among others, and in one panel or in several."""
    names = sorted(names)
    random = np.random.default_rng(seed)
    sales = random.random((len(names), DAYS)) * 100
    sales[random.random(sales.shape) < 0.3] = NAN
    promo = random.integers(0, 2, (len(names), 8))
    stores = sorted(set(names))
    whole = compared(panel_of(sales, stores=names, promo=promo), len(stores))
    for place, store in enumerate(stores):
        rows = [row for row, name in enumerate(names) if name == store]
        alone = compared(panel_of(sales[rows], stores=[store] * len(rows), promo=promo[rows]))
        for name in ("sold", "last_week", "last_year"):
            assert getattr(alone, name)[0].tobytes() == getattr(whole, name)[place].tobytes()
        assert alone.special_by_day()[0].tolist() == whole.special_by_day()[place].tolist()


def test_the_rows_of_items_have_their_own_sales():
    panel = panel_of([np.full(DAYS, 3.0), np.full(DAYS, 4.0)], stores=("s", "s"))
    assert last_week_sales(panel, TARGETS)[:, 0].tolist() == [3.0, 4.0]
