"""The plot of a store's days as shapes: forecasts, their intervals, and sales. Pure.

Coordinates are those of an SVG of WIDTH × HEIGHT units. y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from api.views.page_text import number

WIDTH, HEIGHT = 720, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 44
_TICKS = 4
_WEEK = 7


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

    bands: tuple[str, ...]
    forecast: tuple[str, ...]
    actual: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    today_x: float | None
    x_labels: tuple[Label, ...]
    y_labels: tuple[Label, ...]
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM


def plot(days: Sequence[PlotDay], today: date) -> StorePlot | None:
    """The shapes, with a line at `today`. None if no day has a number."""
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
    first = min(day.target_date for day in days)
    span = max((max(day.target_date for day in days) - first).days, 1)

    def x(day: date) -> float:
        return round(_LEFT + (day - first).days / span * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        height = max(value, 0.0) / highest
        return round(HEIGHT - _BOTTOM - height * (HEIGHT - _TOP - _BOTTOM), 1)

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
    return StorePlot(
        bands=tuple(bands),
        forecast=lines([(day.target_date, day.predicted) for day in days]),
        actual=lines([(day.target_date, day.actual) for day in days]),
        dots=tuple((x(day.target_date), y(day.actual)) for day in days if day.actual is not None),
        today_x=x(today) if first <= today <= days[-1].target_date else None,
        x_labels=tuple(
            Label(f"{day.target_date:%a %-d %b}", x(day.target_date)) for day in days[::_WEEK]
        ),
        y_labels=tuple(
            Label(number(step * tick), y(step * tick)) for tick in range(round(highest / step) + 1)
        ),
    )


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
