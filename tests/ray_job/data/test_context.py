from __future__ import annotations

import hashlib
import pickle
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ray_job.bucket.errors import InputError
from ray_job.data.context import Context
from ray_job.data.context.calendar_days import (
    days_around_christmas,
    days_around_easter,
    days_from_christmas,
    days_from_easter,
    days_in_christmas_season,
    days_in_easter_season,
    same_day_of_month,
    same_season,
)

FIRST, LAST = date(2025, 1, 1), date(2025, 1, 31)


def build(stores=None, weather=None, holidays=None, *, first=FIRST, last=LAST, country="DE"):
    return Context.build(stores, weather, holidays, country=country, first_day=first, last_day=last)


def weather_table(rows):
    return pa.table(
        {
            "region": [row[0] for row in rows],
            "date": pa.array([row[1] for row in rows], pa.date32()),
            "temperature": pa.array([row[2] for row in rows], pa.float64()),
        }
    )


def every_day(region, first, last, value):
    days = (last - first).days + 1
    return [(region, first + timedelta(days=day), value(day)) for day in range(days)]


def test_nothing_delivered_at_all():
    context = build()
    assert context.weather_columns == ()
    assert context.rows(np.array(["x"], dtype=object)).tolist() == [-1]
    around = context.holidays_around(FIRST, 7)
    assert around[-1, 7]
    assert np.flatnonzero(around[-1]).tolist() == [0, 1, 7]  # Christmas, its second day


def test_holidays_of_a_region_come_from_the_library():
    stores = pa.table({"store_id": ["1", "2", "3"], "region": ["BY", "HB,NI", None]})
    context = build(stores)
    epiphany = date(2025, 1, 6)
    rows = context.store_region[context.rows(np.array(["1", "2", "3"], dtype=object))]
    assert context.holidays_around(epiphany, 0)[rows, 0].tolist() == [True, False, False]


def test_delivered_holidays_replace_the_library():
    holidays = pa.table(
        {
            "region": ["BY", None, "BY"],
            "date": pa.array([date(2025, 1, 9), date(2025, 1, 10), date(2025, 1, 11)], pa.date32()),
            "holiday": ["fair", "feast", None],
        }
    )
    context = build(pa.table({"store_id": ["1"], "region": ["BY"]}), None, holidays)
    around = context.holidays_around(date(2025, 1, 10), 1)
    assert around[0].tolist() == [True, True, False]
    assert around[-1].tolist() == [False, True, False]
    assert not context.holidays_around(FIRST, 0).any()


def test_missing_weather_becomes_the_usual_and_is_marked():
    year_before = every_day("BY", date(2024, 1, 1), date(2024, 12, 31), float)
    january = [row for row in every_day("BY", FIRST, LAST, lambda _: 99.0) if row[1].day != 15]
    context = build(None, weather_table(year_before + january))
    day = date(2025, 1, 15)
    year_ago = (day - timedelta(days=364) - date(2024, 1, 1)).days
    assert context.weather_at(day)[0, 0] == pytest.approx(year_ago)
    assert context.weather_missing_at(day)[0]
    assert not context.weather_missing_at(date(2025, 1, 14))[0]


def test_missing_weather_without_earlier_years_is_that_of_late():
    rows = every_day("BY", FIRST, date(2025, 1, 10), lambda _: 4.0)
    context = build(None, weather_table(rows))
    assert context.weather_at(date(2025, 1, 12))[0, 0] == 4.0
    assert context.weather_missing_at(date(2025, 1, 12))[0]


def test_the_usual_weather_does_not_depend_on_how_far_the_context_reaches():
    rows = [
        row
        for row in every_day("BY", date(2024, 1, 1), LAST, lambda day: float(day % 13))
        if row[1].day % 5
    ]
    whole = build(None, weather_table(rows))
    short = build(None, weather_table(rows), last=date(2025, 1, 20))
    assert whole.weather[:, :20].tobytes() == short.weather.tobytes()


def test_a_store_of_no_region_gets_the_mean_weather_marked():
    rows = every_day("A", FIRST, LAST, lambda _: 2.0) + every_day("B", FIRST, LAST, lambda _: 4.0)
    context = build(None, weather_table(rows))
    row = context.store_region[context.rows(np.array(["?"], dtype=object))]
    assert context.weather_at(FIRST)[row, 0].tolist() == [3.0]
    assert context.weather_missing_at(FIRST)[row].all()


def test_the_digest_tells_contents_apart_and_nothing_else():
    stores = pa.table({"store_id": ["2", "1"], "region": ["BY", "NW"], "size": [1, 2]})
    same = pa.table({"store_id": ["1", "2"], "region": ["NW", "BY"], "size": [2, 1]})
    other = pa.table({"store_id": ["1", "2"], "region": ["NW", "BY"], "size": [2, 3]})
    assert build(stores).digest == build(same).digest
    assert build(stores).digest != build(other).digest
    assert build(stores).digest != build(stores, last=date(2025, 1, 30)).digest
    assert build(stores).digest == pickle.loads(pickle.dumps(build(stores))).digest  # noqa: S301


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"stores": pa.table({"region": ["BY"]})}, "stores: the column 'store_id' is missing"),
        ({"stores": pa.table({"store_id": ["1", "1"]})}, "stores: store '1' has two rows"),
        ({"weather": pa.table({"date": [FIRST]})}, "weather: the column 'region' is missing"),
        (
            {"weather": weather_table([("BY", FIRST, 1.0), ("BY", FIRST, 2.0)])},
            "weather: region 'BY' has two rows of 2025-01-01",
        ),
        ({"country": "XX"}, "'XX'"),
    ],
)
def test_bad_tables_are_named(tables, message):
    with pytest.raises(InputError, match=message):
        build(**tables)


def gauss_easter(year):
    """Easter Sunday by Gauss's rule, with its constants for the years 1900 to 2199."""
    a, b, c = year % 19, year % 4, year % 7
    d = (19 * a + 24) % 30
    e = (2 * b + 4 * c + 6 * d + (5 if year < 2100 else 6)) % 7
    if (d, e) == (29, 6) or ((d, e) == (28, 6) and a > 10):
        e -= 7
    return date(year, 3, 22) + timedelta(days=d + e)


def test_days_from_easter_agree_with_gauss_from_1900_to_2199():
    sundays = [gauss_easter(year) for year in range(1900, 2200)]
    assert [days_from_easter(sunday) for sunday in sundays] == [0] * 300
    assert sundays[2013 - 1900] == date(2013, 3, 31)
    assert sundays[2025 - 1900] == date(2025, 4, 20)
    assert days_from_easter(date(2025, 4, 18)) == -2


def test_days_from_christmas():
    assert days_from_christmas(date(2025, 1, 2)) == 8
    assert days_from_christmas(date(2025, 12, 20)) == -5


@pytest.mark.parametrize(
    ("day", "christmas", "easter"),
    [
        (date(2025, 12, 4), -21, None),
        (date(2025, 12, 3), None, None),
        (date(2025, 12, 23), -2, None),
        (date(2026, 1, 8), 14, None),
        (date(2026, 1, 9), None, None),
        (date(2026, 3, 22), None, -14),
        (date(2026, 4, 3), None, -2),
        (date(2026, 4, 19), None, 14),
        (date(2026, 4, 20), None, None),
        (date(2026, 7, 1), None, None),
    ],
)
def test_days_before_and_after_a_season_are_alike(day, christmas, easter):
    def known(value):
        return None if np.isnan(value) else value

    assert known(days_around_christmas(day)) == christmas
    assert known(days_around_easter(day)) == easter


@pytest.mark.parametrize(
    ("day", "christmas", "easter"),
    [
        (date(2025, 12, 23), -2, -14),
        (date(2025, 11, 3), -21, -14),
        (date(2026, 1, 8), 14, -14),
        (date(2026, 2, 1), 14, -14),
        (date(2026, 4, 3), 14, -2),
        (date(2026, 7, 1), -21, 14),
    ],
)
def test_older_models_have_a_seasons_edges_on_other_days(day, christmas, easter):
    assert days_in_christmas_season(day) == christmas
    assert days_in_easter_season(day) == easter


def test_the_same_season_follows_easter_or_the_date():
    assert same_season(date(2025, 4, 19), 1) == date(2024, 3, 30)
    assert same_season(date(2025, 12, 23), 1) == date(2024, 12, 23)
    assert same_season(date(2024, 2, 29), 1) == date(2023, 2, 28)


def test_the_same_day_of_the_month_counts_from_the_nearer_end():
    assert same_day_of_month(date(2025, 3, 31), 1) == date(2025, 2, 28)
    assert same_day_of_month(date(2025, 3, 2), 3) == date(2024, 12, 2)
    assert same_day_of_month(date(2025, 2, 27), 1) == date(2025, 1, 30)


def test_a_context_without_weather_has_no_columns_and_a_digest_of_its_own():
    context = build(weather=weather_table([("BY", FIRST, 1.0)]))
    bare = context.without_weather()
    assert bare.weather_columns == ()
    assert bare.weather.shape == (2, 31, 0)
    assert bare.weather_missing.all()
    expected = hashlib.sha256(f"{context.digest} without weather".encode()).hexdigest()
    assert bare.digest == expected
    assert bare.holidays is context.holidays
