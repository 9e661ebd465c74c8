"""The effects that generated sales consist of: calendar, weather, stores and items.

Each region, store and group of items has its own stream of random numbers, whose key contains the
seed. A series therefore depends neither on other stores nor on the order of computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import holidays
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Days = npt.NDArray[np.datetime64]
_DAY, _YEAR = np.timedelta64(1, "D"), np.timedelta64(1, "Y")

REGIONS: Final = (
    *("BB", "BE", "BW", "BY", "HB", "HE", "HH", "MV"),
    *("NI", "NW", "RP", "SH", "SL", "SN", "ST", "TH"),
)
"""The German states, as codes of the library `holidays`."""

OPENED_3_DAYS_AGO: Final = 5
OPENED_40_DAYS_AGO: Final = 6
RENOVATED: Final = 7
CLOSED_NOW: Final = 9
ITEM_GROUP: Final = 64
"""The number of items that share a stream of random numbers."""

_SUNDAY = 6
_MEMORY = 20
"""Days in the past that autoregressive noise depends on."""
_RENOVATION = (180, 60)
"""Days before the end of the past."""
_CLOSED_FOR = 10
_WEEKDAYS = np.array([0.08, -0.05, -0.08, -0.03, 0.08, 0.12, -0.15])
_SIZES = {"city": (250, 700), "suburb": (500, 1400), "station": (120, 300)}


def stream(seed: int, *key: int) -> np.random.Generator:
    """The stream of random numbers of `key`. Other streams do not influence it."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def delivers_with_gaps(number: int) -> bool:
    """Whether whole weeks of the store are missing."""
    return number % 8 == 3  # noqa: PLR2004 - none of the special stores


def is_station(number: int) -> bool:
    return number % 15 == 10  # noqa: PLR2004 - any fifteenth


def _autoregressive(normals: Floats, memory: float) -> Floats:
    """AR(1) noise of variance 1. It has `_MEMORY` values fewer than `normals`."""
    weights = np.sqrt(1 - memory**2) * memory ** np.arange(_MEMORY + 1)
    return np.convolve(normals, weights, mode="valid")


@dataclass(frozen=True, slots=True)
class Calendar:
    """Calendar and weather. The last axis of all arrays is the days, past days and days ahead.

    The shape is (regions, days) for `closed`, `eve`, `temperature` (°C), `mild`, `precipitation`
    (mm) and `wind` (m/s), else (days,). `mild` is the temperature minus the usual temperature, in
    units of 10 °C. `holidays` maps dates to names of public holidays, for each region.
    """

    dates: Days
    weekday: Ints
    week: Ints
    promo: Flags
    year: Floats
    christmas: Floats
    closed: Flags
    eve: Flags
    temperature: Floats
    mild: Floats
    precipitation: Floats
    wind: Floats
    holidays: tuple[dict[np.datetime64, str], ...]


def calendar(seed: int, first: np.datetime64, days: int) -> Calendar:
    """The calendar and the weather of all regions for `days` days from `first`."""
    dates = np.arange(first, first + (days + 1) * _DAY)
    since_monday = dates.astype(np.int64) + 3
    weekday, week = since_monday % 7, since_monday // 7
    years = dates.astype("datetime64[Y]")
    year = (dates - years).astype(np.int64) / 365.25
    to_christmas = ((years + _YEAR).astype("datetime64[D]") - dates).astype(np.int64) - 8
    ramp = np.where((to_christmas >= 0) & (to_christmas < 30), 1 - to_christmas / 30, 0.0)  # noqa: PLR2004 - days
    named = tuple(_public_holidays(region, years) for region in REGIONS)
    closed = np.array([[day in names for day in dates] for names in named])
    weather = [_weather(stream(seed, 0, region), year) for region in range(len(REGIONS))]
    temperature, mild, precipitation, wind = (
        np.array(values)[:, :-1] for values in zip(*weather, strict=True)
    )
    return Calendar(
        dates=dates[:-1],
        weekday=weekday[:-1],
        week=(week - week[0])[:-1],
        promo=((week % 2 == 0) & (weekday != _SUNDAY))[:-1],
        year=year[:-1],
        christmas=ramp[:-1],
        closed=closed[:, :-1],
        eve=closed[:, 1:] & ~closed[:, :-1],
        temperature=temperature,
        mild=mild,
        precipitation=precipitation,
        wind=wind,
        holidays=named,
    )


def _public_holidays(region: str, years: Days) -> dict[np.datetime64, str]:
    first, last = (int(year.astype(np.int64)) + 1970 for year in (years[0], years[-1]))
    names = holidays.country_holidays(
        "DE", subdiv=region, years=range(first, last + 1), language="en_US"
    )
    return {np.datetime64(day, "D"): name for day, name in names.items()}


def _weather(random: np.random.Generator, year: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Temperature (°C), (temperature - usual) / 10 °C, precipitation (mm) and wind (m/s)."""
    offset = random.normal(0, 1)
    warmth, wetness, gusts = random.standard_normal((3, len(year) + _MEMORY))
    amount = random.gamma(0.8, 5.0, len(year))
    unusual = 3.2 * _autoregressive(warmth, 0.8)
    season = np.cos(2 * np.pi * (year - 0.55))
    rain = np.where(_autoregressive(wetness, 0.5) > 0.3, amount, 0.0)  # noqa: PLR2004 - dry: 62 %
    wind = (3.6 - 0.7 * season) * np.exp(0.35 * _autoregressive(gusts, 0.5))
    temperature = 9.8 + offset + 9.2 * season + unusual
    return temperature.round(1), unusual / 10, rain.round(1), wind.round(1)


@dataclass(frozen=True, slots=True)
class Store:
    """A store: its row of the stores table, and the strength of each effect on the log of sales."""

    number: int
    region: int
    format: str
    size_m2: int
    opened: np.datetime64
    level: float
    trend: float
    yearly: float
    promo: float
    rain: float
    warmth: float
    basket: float
    weekdays: Floats

    @property
    def store_id(self) -> str:
        return store_id(self.number)


def store_id(number: int) -> str:
    return f"s{number:03d}"


def describe(seed: int, number: int, first: np.datetime64, last: np.datetime64) -> Store:
    """The store `number` (from 1). The past is from `first` to `last`."""
    random = stream(seed, 1, number)
    region = int(random.integers(len(REGIONS)))
    kind = "city" if random.random() < 0.5 else "suburb"  # noqa: PLR2004 - a share
    if is_station(number):
        kind = "station"
    size = int(random.integers(*_SIZES[kind]) // 10 * 10)
    opened = first - int(random.integers(200, 8000)) * _DAY
    if number == OPENED_3_DAYS_AGO:
        opened = last - 2 * _DAY
    elif number == OPENED_40_DAYS_AGO:
        opened = last - 39 * _DAY
    normals = random.standard_normal(14)
    per_m2 = 12.0 if kind == "station" else 6.0
    return Store(
        number=number,
        region=region,
        format=kind,
        size_m2=size,
        opened=opened,
        level=float(np.log(size * per_m2) + 0.25 * normals[0]),
        trend=float(0.02 + 0.05 * normals[1]),
        yearly=float(0.08 + 0.03 * normals[2]),
        promo=float(0.28 + 0.04 * normals[3]),
        rain=float(-0.06 + 0.02 * normals[4]),
        warmth=float(0.05 + 0.05 * normals[5]),
        basket=float(np.exp(2.9 + 0.2 * normals[6])),
        weekdays=_WEEKDAYS + 0.04 * normals[7:14],
    )


@dataclass(frozen=True, slots=True)
class SimulatedStore:
    """The days of a store. `expected` are sales in currency without promos, 0 on closed days.

    Of days that are not `delivered` there are no rows.
    """

    store: Store
    calendar: Calendar
    expected: Floats
    open: Flags
    delivered: Flags


def store_days(seed: int, store: Store, days: Calendar, past_days: int) -> SimulatedStore:
    """The days of `store`. The first `past_days` of them are past."""
    random = stream(seed, 2, store.number)
    count = len(days.dates)
    noise = random.standard_normal((2, count + _MEMORY))
    region = store.region
    rain = np.minimum(days.precipitation[region], 20.0) / 10
    logs = (
        store.level
        + store.trend * (np.arange(count) / 365)
        + store.weekdays[days.weekday]
        + store.yearly * np.cos(2 * np.pi * (days.year - 0.45))
        + 0.35 * days.christmas
        + 0.18 * days.eve[region]
        + store.rain * rain
        + store.warmth * days.mild[region]
        + 0.06 * _autoregressive(noise[0], 0.7)
        + 0.05 * noise[1, _MEMORY:]
    )
    if store.format == "station":
        is_open = np.ones(count, dtype=np.bool_)
    else:
        is_open = ~days.closed[region] & (days.weekday != _SUNDAY)
    if store.number == RENOVATED:
        begin, end = (max(past_days - ago, 0) for ago in _RENOVATION)
        is_open[begin:end] = False
    elif store.number == CLOSED_NOW:
        is_open[max(past_days - _CLOSED_FOR, 0) :] = False
    delivered = days.dates >= store.opened
    if delivers_with_gaps(store.number):
        _cut_gaps(random, delivered[:past_days])
    return SimulatedStore(store, days, np.where(is_open, np.exp(logs), 0.0), is_open, delivered)


def _cut_gaps(random: np.random.Generator, delivered: Flags) -> None:
    """Cut gaps of 1 to 4 weeks, about one in 200 days, but none in the first or last two weeks."""
    for _ in range(1 + len(delivered) // 200):
        length = 7 * int(random.integers(1, 5))
        starts = len(delivered) - 28 - length
        if starts > 0:
            begin = 14 + int(random.integers(starts))
            delivered[begin : begin + length] = False


@dataclass(frozen=True, slots=True)
class Series:
    """Series of a store, as arrays of shape (series, days). `sales` are in currency."""

    sales: Floats
    promo: Flags
    customers: npt.NDArray[np.int32]


def whole_store(seed: int, days: SimulatedStore) -> Series:
    """The only series of a store without items."""
    store, promo = days.store, days.calendar.promo
    sales = (days.expected * np.exp(store.promo * promo)).round(2)
    visits = np.exp(0.03 * stream(seed, 3, store.number).standard_normal(len(sales)))
    customers = (sales / store.basket * visits).round().astype(np.int32)
    return Series(sales[None], promo[None], customers[None])


def popularity(seed: int, number: int, items: int) -> Floats:
    """The items' shares of the store's sales, by Zipf's law, in random order."""
    shares = np.arange(1, items + 1, dtype=np.float64) ** -0.9
    scale = np.sqrt(max(1.0, items / 50))  # a store with more items sells more
    return stream(seed, 4, number).permutation(shares * (scale / shares.sum()))


def item_group(seed: int, days_of_store: SimulatedStore, group: int, shares: Floats) -> Series:
    """The series of the group number `group` of a store's items; `shares` has one for each item.

    Units have a Poisson distribution. In a promo week a third of the items is in the promo and
    sells two to three times as much. One row in a thousand is a return.
    """
    random = stream(seed, 5, days_of_store.store.number, group)
    days = days_of_store.calendar
    prices = np.maximum(np.exp(random.normal(1.2, 0.6, ITEM_GROUP)).round(2), 0.29)
    chosen = random.random((ITEM_GROUP, int(days.week[-1]) + 1)) < 1 / 3
    promo = chosen[: len(shares), days.week] & days.promo
    prices = prices[: len(shares), None]
    uplift = np.where(promo, np.exp(3 * days_of_store.store.promo), 1.0)
    units = random.poisson(days_of_store.expected * shares[:, None] / prices * uplift)
    returned = (random.random(units.shape) < 0.001) & days_of_store.open  # noqa: PLR2004 - a share
    units = np.where(returned, -1 - units // 4, units)
    sales = (units * prices).round(2).astype(np.float64)
    customers = (np.maximum(units, 0) * 9 + 9) // 10
    return Series(sales, promo, customers.astype(np.int32))
