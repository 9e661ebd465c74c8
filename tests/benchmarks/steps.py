"""What the cases of the benchmark are made of: their processes, and the lines of the table."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.data import Data

Medians = Mapping[str, Mapping[str, Any]]
_HOUR = 3600.0
SPARE = {"PySpark applyInPandas", "Dask", "Ray Data map_groups", "pandas loop"}
"""Rivals that are much slower. They are measured on fewer stores."""
FAST = ("joblib, pandas", "joblib, numpy features")
RIVALS = (*FAST, *sorted(SPARE))


@dataclass(frozen=True)
class Plan:
    """The options. A rival works store by store; above a size its time is extrapolated."""

    data: Data
    sizes: tuple[int, ...]
    items: int
    skew_items: int
    """Items of each store in case c. The big store has a thousand times as many."""
    rivals_up_to: int
    daily_up_to: int
    """Sizes up to this number are also measured with daily objects."""

    @property
    def daily_sizes(self) -> list[int]:
        return [size for size in self.sizes if size <= self.daily_up_to]


@dataclass(frozen=True)
class Step:
    """A process that prints its measurements as JSON. Steps of one name run once."""

    name: str
    command: tuple[str, ...] = field(compare=False)
    rounds: int = field(compare=False, default=3)
    timeout: float = field(compare=False, default=_HOUR)


@dataclass(frozen=True)
class Line:
    """A line of the table. `holds` is None without a demand or without a measurement."""

    subject: str
    value: str
    demand: str = ""
    holds: bool | None = None


def ours(bucket: Path, name: str, horizon: int = 1, rounds: int = 3) -> Step:
    return _step("ours", bucket, name, horizon, rounds)


def limit(bucket: Path, name: str, horizon: int = 1, rounds: int = 3) -> Step:
    return _step("limit", bucket, name, horizon, rounds)


def _step(module: str, bucket: Path, name: str, horizon: int, rounds: int) -> Step:
    days = "" if horizon == 1 else f", {horizon} days"
    command = ("-m", f"tests.benchmarks.{module}", str(bucket), str(horizon))
    return Step(f"{module}: {name}{days}", command, rounds)


def plain_tasks(bucket: Path, name: str, rounds: int = 3) -> Step:
    """The run of version 0.1.0's form: plain Ray tasks instead of a Dataset."""
    command = ("-m", "tests.benchmarks.ours", str(bucket), "1", "tasks")
    return Step(f"plain tasks: {name}", command, rounds)


def rival(plan: Plan, name: str, stores: int, of: int) -> Step:
    out = Path(tempfile.gettempdir(), f"storecast-rival-{abs(hash(name))}.parquet")
    bucket = plan.data.stores(of)
    command = ("-m", "tests.benchmarks.rivals", name, str(bucket), str(stores), "1", str(out))
    return Step(f"{name}: {stores} stores", command, rounds=1 if name in SPARE else 3)


def value(medians: Medians, name: str, key: str = "seconds") -> float | None:
    figures = medians.get(name, {})
    return None if "error" in figures or key not in figures else float(figures[key])


def ratio(
    subject: str, numerator: float | None, denominator: float | None, demand: str, holds: Any
) -> Line:
    """A line with a ratio; `holds` tells of a ratio whether it meets the demand."""
    if numerator is None or denominator is None:
        return Line(subject, "not measured", demand)
    quotient = numerator / denominator
    return Line(subject, f"{quotient:.2f} ×", demand, holds(quotient))
