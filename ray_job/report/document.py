"""The document of a backtest's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined

from ray_job.backtest.trial import Conditions
from ray_job.model.model import ModelDescription
from ray_job.report import sections
from ray_job.report.figures import Rows, wape
from ray_job.report.formats import decimal, share
from ray_job.report.importance import BASELINE, Importance
from ray_job.report.svg import DARK_PALETTE, PALETTE
from ray_job.report.tables import kinds_of_days, kinds_of_series, totals_table, weeks_table


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """What a report is made from.

    `rows` are those of a `Backtest`, `figures` are those of `model_backtest.figures`, `slices` is
    the result of `slices.slices`, and `remarks` are sentences about how the backtest was made.
    """

    model: ModelDescription
    first: date
    last: date
    rows: pa.Table
    figures: Mapping[str, Any]
    slices: Mapping[str, Mapping[str, Any]]
    importance: Importance | None
    remarks: Sequence[str]
    made_at: datetime


def remarks(model: ModelDescription, conditions: Conditions) -> list[str]:
    """What a reader must know of how a backtest was made."""
    sentences = []
    if conditions.late:
        sentences.append(
            f"The sales of the last {conditions.late} days before each night were withheld."
        )
    if not model.inputs.weather:
        sentences.append("The model uses no weather.")
    elif not conditions.weather:
        sentences.append("The model uses weather, but the weather was withheld.")
    elif conditions.weather_noise:
        sentences.append(
            f"The weather of the target dates has the errors of a forecast"
            f" ({conditions.weather_noise:g} of its own variation on the first day, more on later"
            " days)."
        )
    else:
        sentences.append(
            "The weather of the target dates is the observed weather, a forecast without error."
            " The errors in this report are therefore too small; --weather-noise 0.3 adds the"
            " errors of a weather forecast."
        )
    return sentences


def render(inputs: ReportInputs) -> str:
    """The document as HTML. It loads nothing from anywhere; the same inputs give the same text."""
    rows = Rows.of(inputs.rows)
    environment = Environment(
        loader=PackageLoader("ray_job.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    importance = inputs.importance
    return environment.get_template("backtest.html.j2").render(
        light=PALETTE,
        dark=DARK_PALETTE,
        model=inputs.model,
        figures=inputs.figures,
        stores=rows.first["store_id"].nunique(),
        span=f"{inputs.first:%-d %B} to {inputs.last:%-d %B %Y}",
        trained=f"{inputs.model.trained_on.last:%-d %B %Y}",
        made=f"{inputs.made_at:%-d %B %Y at %H:%M %Z}",
        tiles=_tiles(inputs.figures, rows),
        remarks=inputs.remarks,
        rules=sections.against_rules(inputs.figures, rows),
        daily=sections.by_day(rows),
        weekday=sections.by_weekday(rows),
        ahead=sections.by_days_ahead(rows),
        intervals=sections.intervals(rows),
        pairs=sections.forecast_and_sales(rows),
        store=sections.by_store(rows),
        importance=importance and sections.feature_importance(importance, BASELINE),
        kinds=kinds_of_series(inputs.figures["kinds"]),
        totals=totals_table(inputs.figures["totals"]),
        weeks=weeks_table(inputs.figures["weeks"]),
        slices=kinds_of_days(inputs.slices),
        examples=sections.examples(rows),
    )


def _tiles(figures: Mapping[str, Any], rows: Rows) -> list[tuple[str, str]]:
    """The most important figures, one day ahead, with their names."""
    return [
        (share(figures["wape"]), "error (WAPE) of the model, one day ahead"),
        (share(wape(rows.first["naive_off"], rows.first)), "error (WAPE) of the best naive rule"),
        (decimal(figures["rmsse"]), "scaled error (RMSSE)"),
        *([(decimal(figures["rmspe"]), "RMSPE")] if figures["rmspe"] is not None else []),
        (share(figures["bias"], signed=True), "bias"),
        (share(figures["coverage_80"]), "of days inside the 80 % interval"),
        (share(figures["width_80"]), "width of the interval, over sales"),
        (decimal(figures["pinball_80"]), "pinball loss of the interval, over sales"),
    ]
