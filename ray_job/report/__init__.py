"""The report of a backtest: one page of HTML with everything in it, to read and to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from ray_job.backtest.naive import RULES
from ray_job.backtest.trial import Conditions
from ray_job.model.model import ModelDescription
from ray_job.report import page, plots, sections
from ray_job.report.figures import Rows
from ray_job.report.figures import wape as wape_of
from ray_job.report.importance import BASELINE, Importance

RULE_NAMES = {
    "same_weekday_last_week": "same weekday last week",
    "last_open_day": "last open day",
    "same_weekday_and_promo_8": "last 8 of weekday and promotion",
    "weekday_promo_mean_and_last_6": "weekday × promotion, last 6 days",
}
_SHOWN_FEATURES = 20


@dataclass(frozen=True, slots=True)
class Material:
    """All that a report tells.

    `figures` is `Backtest.report()`, `slices` is what `slices.slices` found, and `remarks` are
    sentences about how the backtest was done.
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


def remarks(model: ModelDescription, under: Conditions) -> list[str]:
    """What a reader should know of how a backtest was done."""
    told = []
    if under.late:
        told.append(f"The sales of the last {under.late} days before each night were withheld.")
    if not model.inputs.weather:
        told.append("The model knows of no weather.")
    elif not under.weather:
        told.append("The model knows of weather, and got none.")
    elif under.weather_noise:
        told.append(
            f"The weather of the target dates was given the errors of a forecast"
            f" ({under.weather_noise:g} of its own variation on the first day, more on later ones)."
        )
    else:
        told.append(
            "The weather of the target dates is what was then observed: a forecast without error,"
            " which flatters the figures; --weather-noise 0.3 gives it a forecast's errors."
        )
    return told


def render(material: Material) -> str:
    """The document. Nothing in it is fetched from anywhere."""
    rows = Rows.of(material.rows)
    title = f"Backtest of model {material.model.version}"
    parts = [
        *_opening(material, rows, title),
        *_against_rules(material, rows),
        *sections.by_day(rows),
        *sections.by_weekday_and_ahead(rows),
        *sections.intervals(rows),
        *sections.predicted_against_actual(rows),
        *sections.by_store(rows),
        *_importance(material),
        *_slices(material),
        *sections.examples(rows),
        *_words(),
    ]
    return page.page(title, parts)


def _opening(material: Material, rows: Rows, title: str) -> Iterator[str]:
    found, model = material.figures, material.model
    span = f"{material.first:%-d %B} to {material.last:%-d %B %Y}"
    stores = rows.first["store_id"].nunique()
    yield page.title(title)
    yield page.paragraph(
        f"Every open day of {stores:,} stores from {span}, {found['rows']:,} in all, forecast as if"
        f" on the evening before. The model was trained on days up to"
        f" {model.trained_on.last:%-d %B %Y}. Made on {material.made_at:%-d %B %Y at %H:%M %Z}.",
        "soft",
    )
    rule = wape_of(rows.first["naive_off"], rows.first)
    yield page.tiles(
        [
            (page.share(found["wape"]), "of sales forecast wrongly (WAPE), one day ahead"),
            (page.share(rule), "of sales, by the best naive rule"),
            (page.decimal(found["rmspe"]), "RMSPE"),
            (page.share(found["bias"], signed=True), "bias"),
            (page.share(found["coverage_80"]), "of days inside the 80 % interval"),
            (page.share(found["width_80"]), "of sales: width of the interval"),
        ]
    )
    for remark in material.remarks:
        yield page.paragraph(remark, "note")


def _against_rules(material: Material, rows: Rows) -> Iterator[str]:
    found = material.figures
    yield page.heading("Against naive rules, one day ahead")
    told = [("the model", found["wape"], found["rmspe"])]
    told += [(RULE_NAMES[r], found["naive"][r]["wape"], found["naive"][r]["rmspe"]) for r in RULES]
    daily = rows.by_day()
    better = int((daily["wape"] < daily["naive_wape"]).sum())
    yield page.pair(
        page.table(
            "",
            ("forecast", "WAPE", "RMSPE"),
            [(name, page.share(wape), page.decimal(rmspe)) for name, wape, rmspe in told],
            best=0,
        ),
        plots.ranking(
            "Error (WAPE)",
            [(name, float(wape)) for name, wape, _ in told if wape is not None],
            plots.percent,
            ["forecast", "naive"],
        ),
    )
    yield page.paragraph(
        f"The model was nearer to the sales than the best of the rules ({RULE_NAMES[rows.rule]})"
        f" on {better} of {len(daily)} days."
    )


def _importance(material: Material) -> Iterator[str]:
    found = material.importance
    if found is None:
        return
    yield page.heading("What the model lives on")
    spared = ""
    if all(name != BASELINE for name, _ in found.features):
        spared = f" Left alone is {BASELINE}, to which all the rest is added."
    yield page.paragraph(
        f"By how much the error (WAPE, {page.share(found.wape)} on these) rises where the values"
        f" of a feature are shuffled among {found.rows:,} forecasts. Features that tell nearly the"
        f" same stand in for each other; so families are shuffled whole as well.{spared}"
    )

    def points(value: float) -> str:
        return f"{100 * value:+.2f}".replace("-", "−")

    yield page.pair(
        plots.ranking(
            "Features, percentage points of WAPE",
            found.features[:_SHOWN_FEATURES],
            points,
            ["forecast"],
        ),
        plots.ranking("Families, percentage points of WAPE", found.families, points, ["forecast"]),
    )


def _slices(material: Material) -> Iterator[str]:
    if not material.slices:
        return
    yield page.heading("Kinds of days, one day ahead")
    yield page.table(
        "",
        ("", "forecasts", "WAPE", "best rule", "RMSPE", "bias", "inside 80 %"),
        [
            (
                name,
                f"{told['rows']:,}",
                page.share(told["wape"]),
                page.share(told["naive_wape"]),
                page.decimal(told["rmspe"]),
                page.share(told["bias"], signed=True),
                page.share(told["coverage_80"]),
            )
            for name, told in material.slices.items()
        ],
    )


def _words() -> Iterator[str]:
    yield page.heading("Words")
    yield page.paragraph(
        "WAPE: Σ|sold − forecast| / Σ sold. RMSPE: √ mean(((sold − forecast) / sold)²). Bias:"
        " Σ(forecast − sold) / Σ sold. Width: Σ(upper − lower) / Σ sold. Days on which a store was"
        " closed are not counted. The naive rules know what the model knows and no more.",
        "soft",
    )
