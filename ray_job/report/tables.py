"""The tables of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ray_job.report.figures import records
from ray_job.report.formats import decimal, number, share


@dataclass(frozen=True, slots=True)
class Table:
    """Texts, the first column being names. `best` is the place of the row that is emphasised."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    best: int | None = None


def rules_table(compared: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    """The measures of forecasts with their names. The first one is emphasised."""
    return Table(
        ("forecast", "WAPE", "RMSPE"),
        [(name, share(row["wape"]), decimal(row["rmspe"])) for name, row in compared],
        best=0,
    )


def days_ahead_table(ahead: pd.DataFrame) -> Table:
    """The measures (`figures.grouped`) by days ahead."""
    return Table(
        ("days ahead", "forecasts", "WAPE", "RMSPE", "bias", "inside 80 %", "width"),
        [
            (
                str(row["index"]),
                f"{row['rows']:,}",
                share(row["wape"]),
                decimal(row["rmspe"]),
                share(row["bias"], signed=True),
                share(row["coverage"]),
                share(row["width"]),
            )
            for row in records(ahead)
        ],
    )


def stores_table(caption: str, stores: pd.DataFrame) -> Table:
    """The measures (`figures.grouped`) of stores, in the order given."""
    return Table(
        ("store", "days", "a day", "WAPE", "best rule", "bias", "inside 80 %"),
        [
            (
                str(row["index"]),
                f"{row['rows']:,}",
                number(row["mean_sales"]),
                share(row["wape"]),
                share(row["naive_wape"]),
                share(row["bias"], signed=True),
                share(row["coverage"]),
            )
            for row in records(stores)
        ],
        caption=caption,
    )


def kinds_of_days(slices: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """The measures of each kind of day, None where there is none."""
    if not slices:
        return None
    return Table(
        ("", "forecasts", "WAPE", "best rule", "RMSPE", "bias", "inside 80 %"),
        [
            (
                name,
                f"{row['rows']:,}",
                share(row["wape"]),
                share(row["naive_wape"]),
                decimal(row["rmspe"]),
                share(row["bias"], signed=True),
                share(row["coverage_80"]),
            )
            for name, row in slices.items()
        ],
    )
