"""Numbers and days as the report writes them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

Format = Callable[[float], str]

MINUS = "−"
UNKNOWN = "–"


def percent(value: float) -> str:
    """A share with three digits."""
    return f"{100 * value:.3g} %"


def number(value: float) -> str:
    """A quantity with three digits, in thousands (k), millions (m) or billions (bn)."""
    for size, unit in ((1e9, " bn"), (1e6, " m"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def ratio(value: float) -> str:
    """A ratio with two digits."""
    return f"{value:.2g}"


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.2f}".replace("-", MINUS)


def whole_percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def share(value: float | None, *, signed: bool = False) -> str:
    """A share with one decimal, UNKNOWN for None and NaN."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"
    return text.replace("-", MINUS)


def decimal(value: float | None) -> str:
    """Four decimals, UNKNOWN for None and NaN."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.4f}"


def short_day(moment: pd.Timestamp) -> str:
    return f"{moment.day} {moment:%b}"
