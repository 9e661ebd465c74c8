"""The report's plots: functions from numbers to SVG for a page of HTML. matplotlib draws them.

The same arguments give the same text. Colours are variables of the page's style sheet, one for each
kind in PALETTE, so that a plot follows the page's light and dark colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ray_job.data.panel import Floats
from ray_job.report.descriptions import described_line, listed_values, sentences
from ray_job.report.formats import Format, number
from ray_job.report.svg import PALETTE, drawing_style, svg

WIDTH, HEIGHT = 520, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 12, 34
_INTERVALS = 5
_LABELS = 9
_MARKED_POINTS = 14
_BAR = 0.72
_ROW, _NAMES, _VALUES = 19, 235, 70
_CELLS = 64
_DENSITY_HEIGHT = HEIGHT + 60


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing as SVG. `key`: what the colours mean, as (name, kind of PALETTE)."""

    title: str
    svg: str
    key: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of one kind. It breaks where `values` are NaN. `band`: lower and upper bounds."""

    name: str
    kind: str
    values: Floats
    band: tuple[Floats, Floats] | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one kind, one for each label; none where `values` are NaN."""

    name: str
    kind: str
    values: Floats


def line_plot(
    title: str,
    labels: Sequence[str],
    lines: Sequence[Line],
    form: Format,
    *,
    limits: Sequence[float] = (),
    shaded: Sequence[int] = (),
    key: Sequence[tuple[str, str]] = (),
) -> Plot:
    """Lines over labels.

    `limits`: values at which a dashed line is drawn. `shaded`: the places of labels with a darker
    ground. `key`: (name, kind) of what is no line.
    """
    drawn = [line.values for line in lines]
    drawn += [bound for line in lines if line.band for bound in line.band]
    places = np.arange(len(labels))
    with _axes(HEIGHT) as (figure, axes):
        for place in shaded:
            axes.axvspan(place - 0.5, place + 0.5, color=PALETTE["shade"], linewidth=0)
        _scales(axes, np.concatenate([*drawn, np.asarray(limits)]), form)
        _label_places(axes, labels)
        _draw_limits(axes, limits)
        for line in lines:
            if line.band is not None:
                axes.fill_between(places, *line.band, color=PALETTE["band"], linewidth=0)
        for line in lines:
            axes.plot(
                places,
                line.values,
                color=PALETTE[line.kind],
                linewidth=2 if line.kind == "forecast" else 1.5,
                solid_capstyle="round",
                marker="o" if len(labels) <= _MARKED_POINTS else None,
                markersize=5,
            )
        described = [described_line(line.name, line.values, labels, form) for line in lines]
        drawing = svg(figure, sentences([title, *described]))
    return Plot(title, drawing, _named([*((line.name, line.kind) for line in lines), *key]))


def bar_plot(
    title: str,
    labels: Sequence[str],
    groups: Sequence[Bars],
    form: Format,
    *,
    limits: Sequence[float] = (),
    key: Sequence[tuple[str, str]] = (),
) -> Plot:
    """Bars side by side for each label. `limits` and `key` are those of `line_plot`."""
    places = np.arange(len(labels))
    width = _BAR / len(groups)
    with _axes(HEIGHT) as (figure, axes):
        values = np.concatenate([group.values for group in groups])
        _scales(axes, np.concatenate([values, np.asarray(limits)]), form)
        _label_places(axes, labels)
        for place, group in enumerate(groups):
            left = places + (place - len(groups) / 2) * width
            known = ~np.isnan(group.values)
            axes.bar(
                left[known],
                group.values[known],
                width * 0.97,
                align="edge",
                color=PALETTE[group.kind],
            )
        _draw_limits(axes, limits)
        described = [listed_values(labels, group.values, form, group.name) for group in groups]
        drawing = svg(figure, sentences([title, *described]))
    return Plot(title, drawing, _named([*((group.name, group.kind) for group in groups), *key]))


def ranking(
    title: str, ranked: Sequence[tuple[str, float]], form: Format, kinds: Sequence[str]
) -> Plot:
    """Horizontal bars of (name, value), in the order given.

    `kinds` are those of the bars from the first on; the last one repeats.
    """
    height = _ROW * len(ranked) + 8
    values = np.array([value for _, value in ranked])
    most = float(max(values.max(initial=0.0), 1e-12))
    with _axes(height, left=_NAMES, right=_VALUES, top=4, bottom=4) as (figure, axes):
        axes.set_xlim(0, most)
        axes.set_ylim(len(ranked) - 0.5, -0.5)
        axes.set_xticks([])
        axes.set_yticks(range(len(ranked)), labels=[name for name, _ in ranked])
        axes.tick_params(labelcolor=PALETTE["ink"])
        axes.barh(
            range(len(ranked)),
            np.maximum(values, 0.0),
            height=(_ROW - 5) / _ROW,
            color=[PALETTE[kinds[min(place, len(kinds) - 1)]] for place in range(len(ranked))],
        )
        for place, value in enumerate(values):
            axes.annotate(
                form(float(value)),
                (max(float(value), 0.0), place),
                xytext=(5, 0),
                textcoords="offset points",
                verticalalignment="center_baseline",
                color=PALETTE["soft"],
            )
        described = listed_values([name for name, _ in ranked], values, form)
        drawing = svg(figure, sentences([title, described]))
    return Plot(title, drawing)


def histogram(
    title: str,
    values: Floats,
    edges: Floats,
    form: Format,
    *,
    inside: tuple[float, float],
    names: tuple[str, str] = ("", ""),
) -> Plot:
    """How many values lie in each step of `edges`; values beyond the edges are in the outer steps.

    Steps within `inside` have one colour and the others another. `names` are those of the two.
    """
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    middles = (edges[:-1] + edges[1:]) / 2
    within = (middles >= inside[0]) & (middles <= inside[1])
    each = max(1, len(edges) // _LABELS)
    with _axes(HEIGHT) as (figure, axes):
        _scales(axes, counts.astype(np.float64), number)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xticks(edges[::each], labels=[form(float(edge)) for edge in edges[::each]])
        axes.bar(
            edges[:-1],
            counts,
            np.diff(edges) * 0.94,
            align="edge",
            color=[PALETTE["forecast" if flag else "naive"] for flag in within],
        )
        described = [f"{len(values):,} values"]
        if len(values):
            first, middle, third = (form(float(q)) for q in np.quantile(values, (0.25, 0.5, 0.75)))
            described.append(f"The median is {middle}, half lie between {first} and {third}")
        if names[0]:
            described.append(f"{names[0]}: {int(counts[within].sum()):,} of {int(counts.sum()):,}")
        drawing = svg(figure, sentences([title, *described]))
    return Plot(title, drawing, _named([(names[0], "forecast"), (names[1], "naive")]))


def density(title: str, actual: Floats, predicted: Floats) -> Plot:
    """Predicted against actual on logarithmic axes: the more points in a cell, the darker it is.

    Points with a value of 0 or less are left out.
    """
    known = (actual > 0) & (predicted > 0)
    x, y = np.log10(actual[known]), np.log10(predicted[known])
    low, high = 0.0, 1.0
    if len(x):
        low = float(np.quantile(np.minimum(x, y), 0.0005))
        high = max(low + 0.1, float(max(x.max(), y.max())))
    counts, _, _ = np.histogram2d(
        np.clip(x, low, high), np.clip(y, low, high), bins=_CELLS, range=[[low, high]] * 2
    )
    ticks = _decades(low, high)
    labels = [number(tick) for tick in ticks]
    side = _DENSITY_HEIGHT - 50
    left = (WIDTH - side) / 2
    with _axes(_DENSITY_HEIGHT, left=left, right=left, top=8, bottom=42) as (figure, axes):
        axes.axis((low, high, low, high))
        axes.set_xticks(np.log10(ticks), labels=labels)
        axes.set_yticks(np.log10(ticks), labels=labels)
        axes.set_xlabel("sold", labelpad=3)
        axes.set_ylabel("forecast", labelpad=6)
        axes.axvspan(low, high, color=PALETTE["ground"], linewidth=0)
        axes.plot((low, high), (low, high), color=PALETTE["limit"], linewidth=1, dashes=(4, 3))
        axes.imshow(
            _shades(counts.T),
            extent=(low, high, low, high),
            origin="lower",
            interpolation="none",
            aspect="auto",
            zorder=3,
        )
        described = [f"{len(x):,} points"]
        if len(x):
            factor = 10 ** float(np.quantile(np.abs(y - x), 0.9))
            described.append(f"90 % of the forecasts are within a factor {factor:.2f} of the sales")
        drawing = svg(figure, sentences([title, *described]))
    return Plot(title, drawing)


@contextmanager
def _axes(
    height: float,
    *,
    left: float = _LEFT,
    right: float = _RIGHT,
    top: float = _TOP,
    bottom: float = _BOTTOM,
) -> Iterator[tuple[Figure, Axes]]:
    """A figure of WIDTH × height units with axes inside of the margins, without a frame."""
    with drawing_style():
        figure = Figure(figsize=(WIDTH / 72, height / 72), frameon=False)
        box = (left / WIDTH, bottom / height)
        size = ((WIDTH - left - right) / WIDTH, (height - top - bottom) / height)
        axes = figure.add_axes((*box, *size), frameon=False)
        axes.xaxis.set_ticks_position("none")
        axes.yaxis.set_ticks_position("none")
        yield figure, axes


def _scales(axes: Axes, values: Floats, form: Format) -> None:
    """The vertical scale over all values and 0, from one grid line to another."""
    known = values[np.isfinite(values)]
    low, high = min(known.min(initial=0.0), 0.0), max(known.max(initial=0.0), 0.0)
    if high - low < 1e-12:  # noqa: PLR2004 - all values are 0
        high = low + 1.0
    ticks = MaxNLocator(_INTERVALS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    axes.set_yticks(ticks, labels=[form(float(tick)) for tick in ticks])
    axes.set_ylim(ticks[0], ticks[-1])
    axes.grid(axis="y")


def _label_places(axes: Axes, labels: Sequence[str]) -> None:
    """The places 0 to n - 1 with their labels. Of many labels only every k-th one is written."""
    each = math.ceil(len(labels) / _LABELS) if len(labels) > _MARKED_POINTS else 1
    axes.set_xlim(-0.5, max(len(labels), 1) - 0.5)
    axes.set_xticks(range(0, len(labels), each), labels=list(labels[::each]))


def _draw_limits(axes: Axes, limits: Sequence[float]) -> None:
    for limit in limits:
        axes.axhline(limit, color=PALETTE["limit"], linewidth=1.2, dashes=(4, 3))


def _shades(counts: Floats) -> Floats:
    """The cells as (rows, columns, RGBA), the more opaque the larger the count."""
    full = math.log1p(max(float(counts.max(initial=0.0)), 1.0))
    opacity = np.where(counts > 0, 0.12 + 0.88 * np.log1p(counts) / full, 0.0)
    shades = np.empty((*counts.shape, 4))
    shades[..., :3] = to_rgb(PALETTE["forecast"])
    shades[..., 3] = opacity
    return shades


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten whose logs are in the range; of many only the powers."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    candidates = [size * 10.0**power for power in powers for size in (1, 2, 5)]
    inside = [value for value in candidates if low <= math.log10(value) <= high]
    return inside if len(inside) <= _LABELS - 1 else [v for v in inside if f"{v:e}"[0] == "1"]


def _named(key: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, kind) for name, kind in key if name]
