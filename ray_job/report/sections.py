"""The sections of a report that show a backtest's rows: by day, weekday, days ahead and store."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ray_job.data.panel import Floats
from ray_job.report import page, plots
from ray_job.report.figures import (
    STORE_COVERAGE,
    WEEKDAYS,
    Rows,
    chance_within,
    column,
    records,
    within,
)
from ray_job.report.plots import number, percent

_SHOWN_STORES = 8
_COVERED = 0.8
_SUNDAYS = (("Sundays", "shade"),)
_AIM = (("80 %", "limit"),)
_BAND = (("80 % interval", "band"),)


def by_day(rows: Rows) -> Iterator[str]:
    daily = rows.by_day()
    days = [_day(one) for one in daily.index]
    sundays = [k for k, one in enumerate(daily.index) if one.weekday() == 6]  # noqa: PLR2004
    yield page.heading("Day by day, one day ahead")
    yield page.pair(
        plots.lines(
            "Sales of all stores",
            days,
            [
                plots.Line("sold", "actual", column(daily["actual"])),
                plots.Line("forecast", "forecast", column(daily["predicted"])),
            ],
            number,
            shaded=sundays,
            key=_SUNDAYS,
        ),
        plots.lines(
            "Error (WAPE)",
            days,
            [
                plots.Line("model", "forecast", column(daily["wape"])),
                plots.Line("best naive rule", "naive", column(daily["naive_wape"])),
            ],
            percent,
            shaded=sundays,
            key=_SUNDAYS,
        ),
    )


def by_weekday_and_ahead(rows: Rows) -> Iterator[str]:
    weekday, ahead = rows.by_weekday(), rows.by_days_ahead()
    yield page.heading("By weekday and by days ahead")
    yield page.pair(
        plots.bars(
            "Error (WAPE) by weekday",
            WEEKDAYS,
            [
                ("model", "forecast", column(weekday["wape"])),
                ("best naive rule", "naive", column(weekday["naive_wape"])),
            ],
            percent,
        ),
        plots.lines(
            "Error (WAPE) by days ahead",
            [str(one) for one in ahead.index],
            [plots.Line("model", "forecast", column(ahead["wape"]))],
            percent,
        ),
    )
    yield page.table(
        "",
        ("days ahead", "forecasts", "WAPE", "RMSPE", "bias", "inside 80 %", "width"),
        [
            (
                str(one["index"]),
                f"{one['rows']:,}",
                page.share(one["wape"]),
                page.decimal(one["rmspe"]),
                page.share(one["bias"], signed=True),
                page.share(one["coverage"]),
                page.share(one["width"]),
            )
            for one in records(ahead)
        ],
    )


def intervals(rows: Rows) -> Iterator[str]:
    daily, stores, ahead = rows.by_day(), rows.by_store(), rows.by_days_ahead()
    low, high = STORE_COVERAGE
    yield page.heading("The 80 % interval")
    yield page.paragraph(
        f"{page.share(within(stores))} of the stores had between {_whole(low)} and {_whole(high)}"
        f" of their days inside the interval; with as many days as they have, perfect calibration"
        f" would put {_whole(chance_within(stores))} of them there."
    )
    yield page.pair(
        plots.lines(
            "Share inside the interval, by day",
            [_day(one) for one in daily.index],
            [plots.Line("", "forecast", column(daily["coverage"]))],
            percent,
            limits=[_COVERED],
            key=_AIM,
        ),
        plots.histogram(
            "Stores by their share of days inside",
            column(stores["coverage"]),
            np.linspace(0, 1, 21),
            percent,
            marked=(low, high),
            names=(f"{_whole(low)} to {_whole(high)}", "outside"),
        ),
        plots.bars(
            "Inside the interval, by days ahead",
            [str(one) for one in ahead.index],
            [("", "forecast", column(ahead["coverage"]))],
            percent,
            limits=[_COVERED],
            key=_AIM,
        ),
        plots.bars(
            "Width of the interval over sales, by days ahead",
            [str(one) for one in ahead.index],
            [("", "forecast", column(ahead["width"]))],
            percent,
        ),
    )


def predicted_against_actual(rows: Rows) -> Iterator[str]:
    frame = rows.first
    sold = frame["actual"] > 0
    ratio = column(frame["predicted"][sold]) / column(frame["actual"][sold])
    yield page.heading("Forecast against sales, one day ahead")
    yield page.pair(
        plots.density(
            "Each cell: how many days of stores",
            column(frame["actual"]),
            column(frame["predicted"]),
        ),
        plots.histogram(
            "Forecast / sold",
            ratio,
            np.linspace(0.5, 1.5, 41),
            lambda value: f"{value:.2g}",
            marked=(0.9, 1.1),
            names=("within 10 %", "further off"),
        ),
    )


def by_store(rows: Rows) -> Iterator[str]:
    stores, size = rows.by_store(), rows.by_size()
    ordered = stores.sort_values("wape")
    few = min(_SHOWN_STORES, max(1, len(ordered) // 2))
    yield page.heading("By store")
    yield page.pair(
        plots.histogram(
            "Stores by their error (WAPE)",
            column(stores["wape"]),
            _steps(float(stores["wape"].quantile(0.99))),
            percent,
            marked=(0.0, np.inf),
        ),
        plots.bars(
            "Error (WAPE), small to large stores",
            [number(one) for one in size["mean_sales"]],
            [
                ("model", "forecast", column(size["wape"])),
                ("best naive rule", "naive", column(size["naive_wape"])),
            ],
            percent,
        ),
    )
    yield page.pair(
        _stores_table("Worst stores", ordered[::-1][:few]),
        _stores_table("Best stores", ordered[:few]),
    )


def _stores_table(caption: str, stores: pd.DataFrame) -> str:
    return page.table(
        caption,
        ("store", "days", "a day", "WAPE", "best rule", "bias", "inside 80 %"),
        [
            (
                str(one["index"]),
                f"{one['rows']:,}",
                number(one["mean_sales"]),
                page.share(one["wape"]),
                page.share(one["naive_wape"]),
                page.share(one["bias"], signed=True),
                page.share(one["coverage"]),
            )
            for one in records(stores)
        ],
    )


def examples(rows: Rows) -> Iterator[str]:
    stores = rows.by_store().sort_values("wape")
    stores = stores[stores["rows"] >= stores["rows"].median() / 2]
    if len(stores) == 0:
        return
    chosen = {
        "best": 0,
        "median": len(stores) // 2,
        "nine in ten are better": int(len(stores) * 0.9),
        "worst": len(stores) - 1,
    }
    yield page.heading("Four stores and their errors (WAPE), one day ahead")
    figures = []
    for name, place in chosen.items():
        store = str(stores.index[place])
        told = rows.of_store(store)
        # The bounds of items do not add up to those of their store.
        alone = len(told) == stores["rows"].iloc[place]
        band = (column(told["lower"]), column(told["upper"])) if alone else None
        figures.append(
            plots.lines(
                f"{store}, {name}: {page.share(stores['wape'].iloc[place])}",
                [_day(one) for one in told.index],
                [
                    plots.Line("forecast", "forecast", column(told["predicted"]), band),
                    plots.Line("sold", "actual", column(told["actual"])),
                ],
                number,
                key=_BAND if alone else (),
            )
        )
    yield page.pair(*figures)


def _whole(share: float) -> str:
    return f"{100 * share:.0f} %"


def _day(moment: pd.Timestamp) -> str:
    return f"{moment.day} {moment:%b}"


def _steps(upto: float) -> Floats:
    """From 0 in whole or half percents, about thirty of them."""
    size = max(0.005, math.ceil(upto / 30 / 0.005) * 0.005)
    return np.arange(0.0, max(upto, size) + size, size)
