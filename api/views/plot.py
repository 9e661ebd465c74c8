"""The plot of a store's days as shapes: forecasts, their intervals, and sales. Pure.

Coordinates are those of an SVG of width × height units. y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from api.views.language import Language

_TOP, _BOTTOM = 12, 44
_CHARACTER = 7.5
"""The width of a character of a label."""
_TICKS = 4
_WEEK = 7


@dataclass(frozen=True, slots=True)
class PlotSize:
    """`label_days` are the days from one label of the axis of days to the next one."""

    width: int
    height: int
    label_days: int


WIDE = PlotSize(720, 280, _WEEK)
NARROW = PlotSize(360, 260, 2 * _WEEK)
"""For telephones, where a wide plot would be too small to read."""


@dataclass(frozen=True, slots=True)
class PlotDay:
    """The numbers of a day. `actual` is None while the sales are not known."""

    target_date: date
    predicted: float | None
    lower: float | None
    upper: float | None
    actual: float | None


@dataclass(frozen=True, slots=True)
class Label:
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class StorePlot:
    """Lines and bands are texts for the attribute `points`. A missing day leaves a gap in them."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    bands: tuple[str, ...]
    forecast: tuple[str, ...]
    actual: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    today_x: float | None
    x_labels: tuple[Label, ...]
    y_labels: tuple[Label, ...]


def plot(
    days: Sequence[PlotDay], first: date, today: date, language: Language, size: PlotSize = WIDE
) -> StorePlot | None:
    """The shapes from the day `first` on, with a line at `today`. None if no day has a number."""
    values = [
        value
        for day in days
        for value in (day.predicted, day.lower, day.upper, day.actual)
        if value is not None
    ]
    if not values:
        return None
    step = _step(max(*values, 1e-9))
    highest = step * math.ceil(max(values) / step) or step
    ticks = [step * tick for tick in range(round(highest / step) + 1)]
    left = 14 + _CHARACTER * max(len(language.number(tick)) for tick in ticks)
    right, bottom = size.width - 24, size.height - _BOTTOM
    last = max(day.target_date for day in days)
    span = max((last - first).days, 1)

    def x(day: date) -> float:
        return round(left + (day - first).days / span * (right - left), 1)

    def y(value: float) -> float:
        return round(bottom - max(value, 0.0) / highest * (bottom - _TOP), 1)

    def lines(values: Sequence[tuple[date, float | None]]) -> tuple[str, ...]:
        return tuple(
            " ".join(f"{x(day)},{y(value)}" for day, value in stretch)
            for stretch in _stretches(values)
        )

    bands = [
        " ".join(
            [f"{x(day)},{y(upper)}" for day, _, upper in stretch]
            + [f"{x(day)},{y(lower)}" for day, lower, _ in reversed(stretch)]
        )
        for stretch in _bounded_stretches([(day.target_date, day.lower, day.upper) for day in days])
    ]
    labelled = [first + timedelta(days=back) for back in range(0, span + 1, size.label_days)]
    return StorePlot(
        width=size.width,
        height=size.height,
        left=left,
        right=right,
        top=_TOP,
        bottom=bottom,
        bands=tuple(bands),
        forecast=lines([(day.target_date, day.predicted) for day in days]),
        actual=lines([(day.target_date, day.actual) for day in days]),
        dots=tuple((x(day.target_date), y(day.actual)) for day in days if day.actual is not None),
        today_x=x(today) if first <= today <= last else None,
        x_labels=_apart([Label(language.plot_date(day), x(day)) for day in labelled]),
        y_labels=tuple(Label(language.number(tick), y(tick)) for tick in ticks),
    )


def _apart(labels: Sequence[Label]) -> tuple[Label, ...]:
    """Those that do not touch one before. The first begins at its place, others are around it."""
    apart: list[Label] = []
    end = -math.inf
    for label in labels:
        width = _CHARACTER * len(label.text)
        begin = label.at - width / 2 if apart else label.at
        if begin > end:
            apart.append(label)
            end = begin + width
    return tuple(apart)


def _step(highest: float) -> float:
    """The step between labels: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(highest / _TICKS))
    return next(
        factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power * _TICKS >= highest
    )


def _stretches(
    values: Sequence[tuple[date, float | None]],
) -> Iterator[list[tuple[date, float]]]:
    """Stretches of consecutive days that have a value."""
    stretch: list[tuple[date, float]] = []
    for day, value in values:
        if stretch and (value is None or (day - stretch[-1][0]).days > 1):
            yield stretch
            stretch = []
        if value is not None:
            stretch.append((day, value))
    if stretch:
        yield stretch


def _bounded_stretches(
    bounds: Sequence[tuple[date, float | None, float | None]],
) -> Iterator[list[tuple[date, float, float]]]:
    """Stretches of consecutive days (day, lower, upper) that have both bounds."""
    lower = {day: value for day, value, _ in bounds}
    for stretch in _stretches([(day, upper) for day, low, upper in bounds if low is not None]):
        yield [(day, lower[day] or 0.0, upper) for day, upper in stretch]
