"""The plot of a store's days as shapes: what was forecast, its interval, what was sold. Pure.

Coordinates are those of an SVG of WIDTH × HEIGHT units, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

WIDTH, HEIGHT = 720, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 44
_TICKS = 4
_WEEK = 7


@dataclass(frozen=True, slots=True)
class PlotDay:
    """What is known of a day; `actual` is None where it is not (yet)."""

    day: date
    predicted: float | None
    lower: float | None
    upper: float | None
    actual: float | None


@dataclass(frozen=True, slots=True)
class Label:
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Plot:
    """Polylines and polygons are the text of their `points`; gaps in the days are gaps in them."""

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


def plot(days: Sequence[PlotDay], today: date) -> Plot | None:
    """None where there is nothing to draw."""
    values = [
        value
        for each in days
        for value in (each.predicted, each.lower, each.upper, each.actual)
        if value is not None
    ]
    if not values:
        return None
    step = _step(max(*values, 1e-9))
    highest = step * math.ceil(max(values) / step) or step
    first = min(each.day for each in days)
    span = max((max(each.day for each in days) - first).days, 1)

    def x(day: date) -> float:
        return round(_LEFT + (day - first).days / span * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        share = max(value, 0.0) / highest
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    def points(runs: Iterator[list[tuple[date, float]]]) -> tuple[str, ...]:
        return tuple(" ".join(f"{x(day)},{y(value)}" for day, value in run) for run in runs)

    bounds = [(each.day, each.lower, each.upper) for each in days]
    bands = [
        " ".join(
            [f"{x(day)},{y(upper)}" for day, _, upper in run]
            + [f"{x(day)},{y(lower)}" for day, lower, _ in reversed(run)]
        )
        for run in _bounded(bounds)
    ]
    return Plot(
        bands=tuple(bands),
        forecast=points(_runs([(each.day, each.predicted) for each in days])),
        actual=points(_runs([(each.day, each.actual) for each in days])),
        dots=tuple((x(each.day), y(each.actual)) for each in days if each.actual is not None),
        today_x=x(today) if first <= today <= first + (days[-1].day - first) else None,
        x_labels=tuple(Label(f"{each.day:%a %-d %b}", x(each.day)) for each in list(days)[::_WEEK]),
        y_labels=tuple(
            Label(shown(step * tick), y(step * tick)) for tick in range(round(highest / step) + 1)
        ),
    )


def shown(value: float | None) -> str:
    """A number for people: no more digits than they would use."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:,.1f}"  # noqa: PLR2004


def _step(highest: float) -> float:
    """1, 2 or 5 times a power of ten, so that a few steps reach the highest value."""
    power = 10.0 ** math.floor(math.log10(highest / _TICKS))
    return next(
        factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power * _TICKS >= highest
    )


def _runs(values: Sequence[tuple[date, float | None]]) -> Iterator[list[tuple[date, float]]]:
    """Stretches of consecutive days that have a value."""
    run: list[tuple[date, float]] = []
    for day, value in values:
        if run and (value is None or (day - run[-1][0]).days > 1):
            yield run
            run = []
        if value is not None:
            run.append((day, value))
    if run:
        yield run


def _bounded(
    bounds: Sequence[tuple[date, float | None, float | None]],
) -> Iterator[list[tuple[date, float, float]]]:
    lower = {day: value for day, value, _ in bounds}
    for run in _runs([(day, upper) for day, low, upper in bounds if low is not None]):
        yield [(day, lower[day] or 0.0, upper) for day, upper in run]
