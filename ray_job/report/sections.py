"""The plots and tables of a report, section by section, from a backtest's rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ray_job.data.panel import Floats
from ray_job.features.naive import RULES
from ray_job.report import plots
from ray_job.report.figures import (
    STORE_COVERAGE,
    WEEKDAYS,
    Rows,
    chance_within,
    column,
    within,
)
from ray_job.report.formats import (
    number,
    percent,
    points,
    ratio,
    share,
    short_day,
    whole_percent,
)
from ray_job.report.importance import Importance
from ray_job.report.plots import Bars, Line, Plot
from ray_job.report.tables import days_ahead_table, rules_table, stores_table

RULE_NAMES = {
    "same_weekday_last_week": "same weekday last week",
    "last_open_day": "last open day",
    "same_weekday_and_promo_8": "last 8 of weekday and promotion",
    "weekday_promo_mean_and_last_6": "weekday × promotion, last 6 days",
}

_LISTED_STORES = 8
_LISTED_FEATURES = 20
_COVERED = 0.8
_ADAPTED, _NOT_ADAPTED = "as served", "as calibrated"
_SUNDAY = 6
_SUNDAYS = (("Sundays", "shade"),)
_TARGET = (("80 %", "limit"),)
_BAND = (("80 % interval", "band"),)

Section = dict[str, Any]


def against_rules(figures: Mapping[str, Any], rows: Rows) -> Section:
    """The model beside the naive rules: `table`, `wape`, the `best` rule, on how many `days`."""
    naive = figures["naive"]
    compared = [("the model", figures), *((RULE_NAMES[rule], naive[rule]) for rule in RULES)]
    daily = rows.by_day()
    return {
        "table": rules_table(compared),
        "wape": plots.ranking(
            "Error (WAPE)",
            [(name, float(row["wape"])) for name, row in compared if row["wape"] is not None],
            percent,
            ["forecast", "naive"],
        ),
        "best": RULE_NAMES[rows.rule],
        "better": int((daily["wape"] < daily["naive_wape"]).sum()),
        "days": len(daily),
    }


def by_day(rows: Rows) -> Section:
    """Plots of `sales` and `wape`, day by day."""
    daily = rows.by_day()
    labels = [short_day(day) for day in daily.index]
    sundays = [place for place, day in enumerate(daily.index) if day.weekday() == _SUNDAY]
    return {
        "sales": plots.line_plot(
            "Sales of all stores",
            labels,
            [
                Line("sold", "actual", column(daily["actual"])),
                Line("forecast", "forecast", column(daily["predicted"])),
            ],
            number,
            shaded=sundays,
            key=_SUNDAYS,
        ),
        "wape": plots.line_plot(
            "Error (WAPE)",
            labels,
            [
                Line("model", "forecast", column(daily["wape"])),
                Line("best naive rule", "naive", column(daily["naive_wape"])),
            ],
            percent,
            shaded=sundays,
            key=_SUNDAYS,
        ),
    }


def by_weekday(rows: Rows) -> Section:
    """The plot `wape` by weekday."""
    return {"wape": _error_bars("Error (WAPE) by weekday", WEEKDAYS, rows.by_weekday())}


def by_days_ahead(rows: Rows) -> Section:
    """The plot `wape` and the `table` by days ahead."""
    ahead = rows.by_days_ahead()
    return {
        "wape": plots.line_plot(
            "Error (WAPE) by days ahead",
            [str(days) for days in ahead.index],
            [Line("model", "forecast", column(ahead["wape"]))],
            percent,
        ),
        "table": days_ahead_table(ahead),
    }


def intervals(rows: Rows) -> Section:
    """How often the sales were inside the interval: four plots, and the texts of a sentence."""
    daily, stores, ahead = rows.by_day(), rows.by_store(), rows.by_days_ahead()
    low, high = STORE_COVERAGE
    labels = [str(days) for days in ahead.index]
    return {
        "within": share(within(stores)),
        "chance": whole_percent(chance_within(stores)),
        "low": whole_percent(low),
        "high": whole_percent(high),
        "by_day": plots.line_plot(
            "Share inside the interval, by day",
            [short_day(day) for day in daily.index],
            [
                Line(_ADAPTED, "forecast", column(daily["coverage"])),
                Line(_NOT_ADAPTED, "naive", column(daily["calibrated_coverage"])),
            ],
            percent,
            limits=[_COVERED],
            key=_TARGET,
        ),
        "by_store": plots.histogram(
            "Stores by their share of days inside",
            column(stores["coverage"]),
            np.linspace(0, 1, 21),
            percent,
            inside=(low, high),
            names=(f"{whole_percent(low)} to {whole_percent(high)}", "outside"),
        ),
        "by_days_ahead": plots.bar_plot(
            "Inside the interval, by days ahead",
            labels,
            [
                Bars(_ADAPTED, "forecast", column(ahead["coverage"])),
                Bars(_NOT_ADAPTED, "naive", column(ahead["calibrated_coverage"])),
            ],
            percent,
            limits=[_COVERED],
            key=_TARGET,
        ),
        "width": plots.bar_plot(
            "Width of the interval over sales, by days ahead",
            labels,
            [
                Bars(_ADAPTED, "forecast", column(ahead["width"])),
                Bars(_NOT_ADAPTED, "naive", column(ahead["calibrated_width"])),
            ],
            percent,
        ),
    }


def forecast_and_sales(rows: Rows) -> Section:
    """Plots of single forecasts beside their sales: `density` and `ratio`."""
    frame = rows.first
    sold = frame["actual"] > 0
    return {
        "density": plots.density(
            "Each cell: the number of days of stores",
            column(frame["actual"]),
            column(frame["predicted"]),
        ),
        "ratio": plots.histogram(
            "Forecast / sold",
            column(frame["predicted"][sold]) / column(frame["actual"][sold]),
            np.linspace(0.5, 1.5, 41),
            ratio,
            inside=(0.9, 1.1),
            names=("within 10 %", "outside 10 %"),
        ),
    }


def by_store(rows: Rows) -> Section:
    """Plots `wape` and `by_size`, and tables of the `worst` and the `best` stores."""
    stores, size = rows.by_store(), rows.by_size()
    ordered = stores.sort_values("wape")
    few = min(_LISTED_STORES, max(1, len(ordered) // 2))
    return {
        "wape": plots.histogram(
            "Stores by their error (WAPE)",
            column(stores["wape"]),
            _edges(float(stores["wape"].quantile(0.99))),
            percent,
            inside=(0.0, np.inf),
        ),
        "by_size": _error_bars(
            "Error (WAPE), small to large stores",
            [number(sales) for sales in size["mean_sales"]],
            size,
        ),
        "worst": stores_table("Worst stores", ordered[::-1][:few]),
        "best": stores_table("Best stores", ordered[:few]),
    }


def feature_importance(importance: Importance, kept: str) -> Section:
    """Plots of `features` and `families`. `kept` is named where it was not shuffled."""
    return {
        "error": share(importance.wape),
        "rows": f"{importance.rows:,}",
        "kept": kept if all(name != kept for name, _ in importance.features) else "",
        "features": plots.ranking(
            "Features, percentage points of WAPE",
            importance.features[:_LISTED_FEATURES],
            points,
            ["forecast"],
        ),
        "families": plots.ranking(
            "Families, percentage points of WAPE", importance.families, points, ["forecast"]
        ),
    }


def examples(rows: Rows) -> list[Plot]:
    """Four stores from the best to the worst; none where there is no store."""
    stores = rows.by_store().sort_values("wape")
    stores = stores[stores["rows"] >= stores["rows"].median() / 2]
    if len(stores) == 0:
        return []
    places = {
        "best": 0,
        "median": len(stores) // 2,
        "90th percentile": int(len(stores) * 0.9),
        "worst": len(stores) - 1,
    }
    drawn = []
    for name, place in places.items():
        store = str(stores.index[place])
        days = rows.of_store(store)
        # The bounds of items do not add up to the bounds of their store.
        single = len(days) == stores["rows"].iloc[place]
        band = (column(days["lower"]), column(days["upper"])) if single else None
        drawn.append(
            plots.line_plot(
                f"{store}, {name}: {share(stores['wape'].iloc[place])}",
                [short_day(day) for day in days.index],
                [
                    Line("forecast", "forecast", column(days["predicted"]), band),
                    Line("sold", "actual", column(days["actual"])),
                ],
                number,
                key=_BAND if single else (),
            )
        )
    return drawn


def _error_bars(title: str, labels: Sequence[str], groups: pd.DataFrame) -> Plot:
    return plots.bar_plot(
        title,
        labels,
        [
            Bars("model", "forecast", column(groups["wape"])),
            Bars("best naive rule", "naive", column(groups["naive_wape"])),
        ],
        percent,
    )


def _edges(last: float) -> Floats:
    """Edges from 0 to `last` in steps of whole or half percents, about thirty of them."""
    step = max(0.005, math.ceil(last / 30 / 0.005) * 0.005)
    return np.arange(0.0, max(last, step) + step, step)
