"""Days that a calendar knows: Christmas, Easter, a country's public holidays."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable
from datetime import date
from math import nan

import holidays
from dateutil.easter import easter

from ray_job.bucket.errors import InputError

_CHRISTMAS = (12, 25)


def days_from_christmas(day: date) -> int:
    """Days since the nearest Christmas Day; negative before it."""
    around = [date(year, *_CHRISTMAS) for year in (day.year - 1, day.year, day.year + 1)]
    return _least((day - christmas).days for christmas in around)


def days_from_easter(day: date) -> int:
    """Days since the nearest Easter Sunday (western churches); negative before it."""
    return _least((day - easter(year)).days for year in (day.year - 1, day.year, day.year + 1))


def days_in_christmas_season(day: date) -> int:
    """Days since the nearest Christmas Day, from -21 to 14; those of the season's edge beyond it.

    For older models. Outside of the season it says which half of the year a day is in, and a model
    of one year took that for an effect of Christmas.
    """
    return max(-21, min(14, days_from_christmas(day)))


def days_in_easter_season(day: date) -> int:
    """Days since the nearest Easter Sunday, likewise from -14 to 14. For older models."""
    return max(-14, min(14, days_from_easter(day)))


def days_around_christmas(day: date) -> float:
    """Days since the nearest Christmas Day, from -21 to 14; NaN outside of this season.

    A histogram of 255 bins tells these days apart; of all days of a year it would put neighbours
    into one bin, the last days before Christmas among them.
    """
    return _within(days_from_christmas(day), -21, 14)


def days_around_easter(day: date) -> float:
    """Days since the nearest Easter Sunday, from -14 to 14; NaN outside of this season."""
    return _within(days_from_easter(day), -14, 14)


def same_season(day: date, years: int) -> date:
    """The day `years` earlier that is to Easter or to the calendar what `day` is.

    From four weeks before Easter to eight weeks after it, the moveable feasts decide; else the
    date does.
    """
    offset = days_from_easter(day)
    if -28 <= offset <= 56:  # noqa: PLR2004 - Lent's shopping to Corpus Christi
        return date.fromordinal(easter(day.year - years).toordinal() + offset)
    leap = (day.month, day.day) == (2, 29)
    return day.replace(year=day.year - years, day=28 if leap else day.day)


def same_day_of_month(day: date, months: int) -> date:
    """The day `months` earlier with the same place in its month.

    Days of the first half count from the month's first day, the others from its last.
    """
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    length = monthrange(year, month + 1)[1]
    before_end = monthrange(day.year, day.month)[1] - day.day
    first_half = day.day <= 15  # noqa: PLR2004
    return date(year, month + 1, day.day if first_half else max(1, length - before_end))


def public_holidays(country: str, region: str, years: Iterable[int]) -> dict[date, str]:
    """The public holidays that the `holidays` library knows.

    A region that names one of the country's subdivisions ("BY", or several as in "HB,NI": the
    first known counts) gets that one's, any other the whole country's. Raises InputError for a
    country that is not known.
    """
    try:
        known = holidays.country_holidays(country).subdivisions
    except NotImplementedError as error:
        raise InputError(
            f"country: the calendar of holidays does not know {country!r}; deliver holidays"
        ) from error
    names = [region, *re.split(r"[^A-Za-z0-9-]+", region)]
    subdivision = next((name for name in names if name in known), None)
    return dict(holidays.country_holidays(country, subdiv=subdivision, years=list(years)))


def _within(days: int, first: int, last: int) -> float:
    return float(days) if first <= days <= last else nan


def _least(distances: Iterable[int]) -> int:
    return min(distances, key=abs)
