"""Plots in words, for readers who cannot see them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ray_job.data.panel import Floats
from ray_job.report.formats import Format


def sentences(parts: Sequence[str]) -> str:
    """The parts that are not empty, each with a full stop."""
    return " ".join(f"{part}." for part in parts if part)


def listed_values(labels: Sequence[str], values: Floats, form: Format, name: str = "") -> str:
    """All known values with their labels."""
    pairs = zip(labels, values, strict=True)
    listed = ", ".join(f"{label} {form(float(v))}" for label, v in pairs if not math.isnan(v))
    return _named(name, listed)


def described_line(name: str, values: Floats, labels: Sequence[str], form: Format) -> str:
    """The first, the smallest, the largest and the last known value with their labels."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return ""
    places = (known[0], known[np.argmin(values[known])], known[np.argmax(values[known])], known[-1])
    first, smallest, largest, last = (
        f"{form(float(values[place]))} ({labels[place]})" for place in places
    )
    return _named(name, f"first {first}, smallest {smallest}, largest {largest}, last {last}")


def _named(name: str, text: str) -> str:
    return f"{name}: {text}" if name and text else text
