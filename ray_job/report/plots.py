"""Plots as inline SVG: no script, no font and no image from anywhere. Pure: numbers in, text out.

Colours and lines are classes of the page's style sheet: `forecast`, `actual`, `naive`, `limit`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ray_job.data.panel import Floats

Format = Callable[[float], str]

WIDTH, HEIGHT = 520, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 12, 34
_TICKS = 5
_LABELS = 9
_BAR = 0.72


def percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def number(value: float) -> str:
    for size, unit in ((1e9, " bn"), (1e6, " m"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Line:
    """`values` may hold NaN, where the line breaks. `band` are lower and upper bounds."""

    name: str
    kind: str
    values: Floats
    band: tuple[Floats, Floats] | None = None


def lines(
    title: str,
    labels: Sequence[str],
    drawn: Sequence[Line],
    form: Format,
    *,
    from_zero: bool = True,
    limits: Sequence[float] = (),
    shaded: Sequence[int] = (),
    key: Sequence[tuple[str, str]] = (),
) -> str:
    """Lines over a row of labels. `limits` are horizontal; `shaded` columns have a grey ground.

    `key` explains what is no line: (name, kind).
    """
    everything = [np.asarray(line.values) for line in drawn]
    everything += [bound for line in drawn if line.band for bound in line.band]
    frame = _Frame.over(np.concatenate([*everything, np.asarray(limits)]), from_zero=from_zero)
    n = len(labels)
    step = (frame.right - frame.left) / max(n, 1)
    xs: Floats = np.asarray(frame.left + (np.arange(n) + 0.5) * step, dtype=np.float64)
    body = [
        _rect("shade", frame.left + place * step, frame.top, step, frame.bottom - frame.top)
        for place in shaded
    ]
    body += frame.grid(form)
    body += _x_labels(labels, xs, frame)
    for limit in limits:
        y = frame.y(limit)
        body.append(f'<path class="limit" d="M{frame.left} {y:.1f}H{frame.right}"/>')
    for line in drawn:
        if line.band is not None:
            body.append(_area(xs, frame, *line.band))
    for line in drawn:
        body.append(f'<path class="line {line.kind}" d="{_path(xs, frame, line.values)}"/>')
        if n <= _LABELS + 5:
            body += [
                f'<circle class="dot {line.kind}" cx="{x:.1f}" cy="{frame.y(v):.1f}" r="2.6"/>'
                for x, v in zip(xs, line.values, strict=True)
                if not math.isnan(v)
            ]
    return _figure(title, body, [*((line.name, line.kind) for line in drawn), *key])


def bars(
    title: str,
    labels: Sequence[str],
    groups: Sequence[tuple[str, str, Floats]],
    form: Format,
    *,
    limits: Sequence[float] = (),
    key: Sequence[tuple[str, str]] = (),
) -> str:
    """Bars side by side for each label: groups of (name, kind, values); `key` as of `lines`."""
    values = np.concatenate([np.asarray(group[2]) for group in groups])
    frame = _Frame.over(np.concatenate([values, np.asarray(limits)]), from_zero=True)
    step = (frame.right - frame.left) / max(len(labels), 1)
    wide = step * _BAR / len(groups)
    xs: Floats = np.asarray(frame.left + (np.arange(len(labels)) + 0.5) * step, dtype=np.float64)
    body = frame.grid(form) + _x_labels(labels, xs, frame)
    zero = frame.y(0.0)
    for place, (name, kind, heights) in enumerate(groups):
        for x, value in zip(xs, heights, strict=True):
            if math.isnan(value):
                continue
            left = x + (place - len(groups) / 2) * wide
            top = min(zero, frame.y(value))
            body.append(
                f'<rect class="bar {kind}" x="{left:.1f}" y="{top:.1f}" width="{wide - 1:.1f}"'
                f' height="{abs(frame.y(value) - zero):.1f}">'
                f"<title>{escape(name)}: {escape(form(value))}</title></rect>"
            )
    for limit in limits:
        body.append(f'<path class="limit" d="M{frame.left} {frame.y(limit):.1f}H{frame.right}"/>')
    return _figure(title, body, [*((name, kind) for name, kind, _ in groups), *key])


def ranking(
    title: str, ranked: Sequence[tuple[str, float]], form: Format, kinds: Sequence[str]
) -> str:
    """Horizontal bars with their names and values, in the order given; the last kind repeats."""
    row, name_width = 19, 235
    height = row * len(ranked) + 8
    most = max([value for _, value in ranked] + [1e-12])
    room = WIDTH - name_width - 70
    body = []
    for place, (name, value) in enumerate(ranked):
        kind = kinds[min(place, len(kinds) - 1)]
        y = 4 + place * row
        wide = max(0.0, value) / most * room
        body += [
            _text("name", name_width - 6, y + 12, name, "end"),
            _rect(f"bar {kind}", name_width, y + 2, wide, row - 5),
            _text("tick", name_width + wide + 5, y + 12, form(value), "start"),
        ]
    return _figure(title, body, [], height=height)


def histogram(
    title: str,
    values: Floats,
    edges: Floats,
    form: Format,
    *,
    marked: tuple[float, float],
    names: tuple[str, str] = ("", ""),
) -> str:
    """How many values lie in each step; those outside of `marked` have another colour.

    `names` are what is inside and what is outside.
    """
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    frame = _Frame.over(counts.astype(np.float64), from_zero=True)
    step = (frame.right - frame.left) / len(counts)
    body = frame.grid(number)
    for place, count in enumerate(counts):
        inside = marked[0] <= (edges[place] + edges[place + 1]) / 2 <= marked[1]
        kind = "bar forecast" if inside else "bar naive"
        x, y = frame.left + place * step, frame.y(float(count))
        body.append(_rect(kind, x + 0.5, y, step - 1, frame.bottom - y))
    each = max(1, len(edges) // _LABELS)
    for place in range(0, len(edges), each):
        x = frame.left + place * step
        body.append(_label(form(float(edges[place])), x, frame))
    return _figure(title, body, [(names[0], "forecast"), (names[1], "naive")])


def density(title: str, actual: Floats, predicted: Floats) -> str:
    """Predicted against actual on logarithmic axes, as cells that are the darker the fuller."""
    known = (actual > 0) & (predicted > 0)
    if not known.any():
        return _figure(title, [], [])
    x, y = np.log10(actual[known]), np.log10(predicted[known])
    low = float(np.quantile(np.minimum(x, y), 0.0005))
    high = float(max(x.max(), y.max()))
    span = max(high - low, 0.1)
    cells, side = 64, HEIGHT + 60
    counts, _, _ = np.histogram2d(
        np.clip(x, low, high), np.clip(y, low, high), bins=cells, range=[[low, low + span]] * 2
    )
    top, size = 8, side - 50
    left = (WIDTH - size) / 2
    cell = size / cells
    body = [
        _rect("ground", left, top, size, size),
        f'<path class="limit" d="M{left} {top + size}L{left + size} {top}"/>',
    ]
    full = math.log1p(counts.max())
    for i, j in np.argwhere(counts > 0):
        shade = 0.12 + 0.88 * math.log1p(counts[i, j]) / full
        body.append(
            f'<rect class="cell" x="{left + i * cell:.1f}" y="{top + size - (j + 1) * cell:.1f}"'
            f' width="{cell:.2f}" height="{cell:.2f}" fill-opacity="{shade:.2f}"/>'
        )
    for value in _decades(low, low + span):
        at = (math.log10(value) - low) / span * size
        body.append(_text("tick", left + at, top + size + 16, number(value), "middle"))
        body.append(_text("tick", left - 6, top + size - at + 4, number(value), "end"))
    body.append(_text("name", left + size / 2, side - 4, "sold", "middle"))
    body.append(_text("name", left + 6, top + 16, "forecast", "start"))
    return _figure(title, body, [], height=side)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The rectangle of a plot and its vertical scale."""

    low: float
    high: float
    step: float
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM

    @classmethod
    def over(cls, values: Floats, *, from_zero: bool) -> _Frame:
        known = values[np.isfinite(values)]
        low = float(known.min()) if len(known) else 0.0
        high = float(known.max()) if len(known) else 1.0
        if from_zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if high - low < 1e-12:  # noqa: PLR2004 - all the same
            high = low + 1.0
        step = _nice((high - low) / _TICKS)
        return cls(math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step, step)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)

    def grid(self, form: Format) -> list[str]:
        marks = []
        for k in range(round((self.high - self.low) / self.step) + 1):
            value = self.low + k * self.step
            y = self.y(value)
            marks += [
                f'<path class="grid" d="M{self.left} {y:.1f}H{self.right}"/>',
                _text("tick", self.left - 6, y + 4, form(value), "end"),
            ]
        return marks


def _figure(
    title: str,
    body: Sequence[str],
    legend: Sequence[tuple[str, str]],
    *,
    height: float = HEIGHT,
) -> str:
    named = "".join(
        f'<span class="key"><i class="{kind}"></i>{escape(name)}</span>'
        for name, kind in legend
        if name
    )
    return (
        f"<figure><figcaption>{escape(title)}{named}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(body)}</svg></figure>"
    )


def _x_labels(labels: Sequence[str], xs: Floats, frame: _Frame) -> list[str]:
    each = max(1, math.ceil(len(labels) / _LABELS)) if len(labels) > _LABELS + 5 else 1
    return [_label(labels[k], float(xs[k]), frame) for k in range(0, len(labels), each)]


def _text(kind: str, x: float, y: float, text: str, anchor: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {place}/>'


def _label(text: str, x: float, frame: _Frame) -> str:
    return _text("tick", x, frame.bottom + 18, text, "middle")


def _path(xs: Floats, frame: _Frame, values: Floats) -> str:
    told, pen = [], "M"
    for x, value in zip(xs, values, strict=True):
        if math.isnan(value):
            pen = "M"
            continue
        told.append(f"{pen}{x:.1f} {frame.y(float(value)):.1f}")
        pen = "L"
    return "".join(told)


def _area(xs: Floats, frame: _Frame, lower: Floats, upper: Floats) -> str:
    known = ~(np.isnan(lower) | np.isnan(upper))
    there = [f"{x:.1f} {frame.y(v):.1f}" for x, v in zip(xs[known], upper[known], strict=True)]
    back = [f"{x:.1f} {frame.y(v):.1f}" for x, v in zip(xs[known], lower[known], strict=True)]
    points = there + back[::-1]
    return f'<path class="band" d="M{"L".join(points)}Z"/>' if points else ""


def _nice(step: float) -> float:
    """The next larger of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= step * (1 - 1e-9))


def _decades(low: float, high: float) -> list[float]:
    found = [
        size * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for size in (1, 2, 5)
    ]
    inside = [value for value in found if low <= math.log10(value) <= high]
    few = 8
    return inside if len(inside) <= few else [v for v in inside if f"{v:e}".startswith("1")]
