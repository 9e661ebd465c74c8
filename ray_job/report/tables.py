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
    """The measures of forecasts with their names. The first one is emphasised.

    RMSPE has a column where it is known of any of them.
    """
    rows = list(compared)
    rated = any(row["rmspe"] is not None for _, row in rows)
    return Table(
        ("forecast", "WAPE", "bias", "RMSSE", *(["RMSPE"] if rated else [])),
        [
            (
                name,
                share(row["wape"]),
                share(row["bias"], signed=True),
                decimal(row["rmsse"]),
                *([decimal(row["rmspe"])] if rated else []),
            )
            for name, row in rows
        ],
        best=0,
    )


def kinds_of_series(kinds: Mapping[str, Mapping[str, Any]]) -> Table:
    """The measures of each kind of series (`series_kinds.by_kind`)."""
    return Table(
        (
            "",
            "series",
            "served by",
            "WAPE",
            "best rule",
            "bias",
            "RMSSE",
            "best rule",
            "inside 80 %",
            "pinball",
        ),
        [
            (
                kind,
                f"{row['series']:,}",
                ", ".join(f"{method} {number:,}" for method, number in row["methods"].items()),
                share(row["wape"]),
                share(row["naive_wape"]),
                share(row["bias"], signed=True),
                decimal(row["rmsse"]),
                decimal(row["naive_rmsse"]),
                share(row["coverage_80"]),
                decimal(row["pinball_80"]),
            )
            for kind, row in kinds.items()
        ],
        caption="Kinds of series",
    )


def totals_table(totals: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """The measures of the totals of stores by days ahead; None where stores have one item."""
    if not totals:
        return None
    return Table(
        ("days ahead", "totals", "WAPE", "bias", "inside 80 %"),
        [
            (
                ahead,
                f"{row['rows']:,}",
                share(row["wape"]),
                share(row["bias"], signed=True),
                share(row["coverage_80"]),
            )
            for ahead, row in totals.items()
        ],
        caption="Totals of stores, over their items",
    )


def weeks_table(weeks: Sequence[Mapping[str, Any]]) -> Table:
    """Error and bias of each week (`series_kinds.weeks`)."""
    return Table(
        ("week from", "forecasts", "WAPE", "bias"),
        [
            (
                week["first"],
                f"{week['rows']:,}",
                share(week["wape"]),
                share(week["bias"], signed=True),
            )
            for week in weeks
        ],
        caption="Week by week",
    )


def days_ahead_table(ahead: pd.DataFrame) -> Table:
    """The measures (`figures.grouped`) by days ahead."""
    rated = bool(ahead["rmspe"].notna().any())
    return Table(
        (
            "days ahead",
            "forecasts",
            "WAPE",
            *(["RMSPE"] if rated else []),
            "bias",
            "inside 80 %",
            "width",
        ),
        [
            (
                str(row["index"]),
                f"{row['rows']:,}",
                share(row["wape"]),
                *([decimal(row["rmspe"])] if rated else []),
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
