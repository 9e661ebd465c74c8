"""The commands about the quality of forecasts: accuracy and compare."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import typer

from ray_job.cli.command_context import AsOf, Bucket, Json, SettingsFile, open_command, parse_date

app = typer.Typer()

_LISTED_STORES = 5


@app.command()
def accuracy(
    days: Annotated[int, typer.Option(min=1, help="How many of the last days.")] = 28,
    store: Annotated[
        str | None, typer.Option(help="One store, day by day.", show_default=False)
    ] = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """How good the live forecasts have been, beside last week's number."""
    from ray_job.bucket import pointer
    from ray_job.evaluation import accuracy as accuracies

    command = open_command(bucket, settings, as_json=as_json)
    storage = command.storage()
    current, _ = pointer.read(storage)
    scores = accuracies.read(storage, current, days)
    if store is not None:
        scores = scores.of(store)
    summary = accuracies.summarise(scores)
    details = accuracies.by_store(scores) if store is None else accuracies.day_by_day(scores)
    details_key = "by_store" if store is None else "days_said"
    command.print_json({"store_id": store, **summary, details_key: details})
    if not as_json:
        _print_summary(summary, store)
        (_print_best_and_worst if store is None else _print_days)(details)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A registered model.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    days: Annotated[int, typer.Option(min=7, help="How many of the last days.")] = 28,
    as_of: AsOf = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Compare two models on the same days.

    Says whether chance explains the difference. Neither model may have been trained on one of
    the days.
    """
    from ray_job.backtest.model_comparison import compare_models

    command = open_command(bucket, settings, as_json=as_json)
    comparison = compare_models(
        command.storage(),
        command.settings,
        first,
        second,
        days=days,
        as_of=parse_date(as_of),
        now=command.now,
        progress=command.progress,
    )
    command.print_json(comparison)
    if not as_json:
        print_comparison(comparison)


def print_comparison(comparison: dict[str, Any]) -> None:
    """Print a result of `compare_models`."""
    from ray_job.cli.output import print_line, print_table

    first, second = comparison["models"]
    test = comparison["test"]
    print_line(
        f"{test['days']} days from {comparison['from']} to {comparison['to']}, one day ahead:"
        f" {first} is off by {comparison['first']['wape']:.2%} of sales, {second} by"
        f" {comparison['second']['wape']:.2%}; {second} was nearer on {test['days_better']} days."
    )
    chance = f"p = {test['p_value']:.3f}; difference {test['low']:+.2%} to {test['high']:+.2%}"
    if comparison["better"] is None:
        print_line(f"The difference may be chance ({chance}).")
    else:
        better = second if comparison["better"] == "second" else first
        print_line(f"{better} is better ({chance}).")
    print_table(
        ("days ahead", "rows", f"wape {first}", f"wape {second}", "difference", "p"),
        [
            (
                int(ahead),
                row["first"]["rows"],
                row["first"]["wape"],
                row["second"]["wape"],
                row["test"]["difference"],
                row["test"]["p_value"],
            )
            for ahead, row in comparison["by_days_ahead"].items()
        ],
    )
    print_table(
        (
            "kind of series, one day ahead",
            "rows",
            *(f"{name} {model}" for name in ("wape", "bias", "rmsse") for model in (first, second)),
        ),
        [
            (
                kind,
                row["first"]["rows"],
                *(
                    row[model][name]
                    for name in ("wape", "bias", "rmsse")
                    for model in ("first", "second")
                ),
            )
            for kind, row in comparison["kinds"].items()
        ],
    )


def _print_summary(summary: dict[str, Any], store: str | None) -> None:
    from ray_job.cli.output import percent, print_line, print_table

    subject = f"Store {store}" if store else f"{summary['stores']:,} stores"
    span = f"{subject}, {summary['first']:%-d %B} to {summary['last']:%-d %B %Y}"
    if not summary["rows"]:
        print_line(f"{span}: nothing but closed days.")
        return
    line = (
        f"{span}: ±{percent(summary['wape'])}, inside the 80 % interval on"
        f" {percent(summary['coverage_80'])} of days"
    )
    if summary["days"]:
        line += (
            f"; better than last week's number (±{percent(summary['naive_wape'])})"
            f" on {summary['better_days']} of {summary['days']} days"
        )
    print_line(f"{line}.")
    if summary["days_without"]:
        print_line(f"There are no scores of {_date_ranges(summary['days_without'])}.")
    print_table(
        ("days ahead", "forecasts", "off by", "bias", "inside 80 %", "widths below", "above"),
        [
            (
                int(ahead),
                row["rows"],
                *_percents(row, "wape", "bias", "coverage_80"),
                _times(row["lower_factor"]),
                _times(row["upper_factor"]),
            )
            for ahead, row in summary["by_days_ahead"].items()
        ],
    )
    if store is None:
        print_table(
            ("day", "stores", "off by", "bias", "inside 80 %", "last week's number"),
            [
                (
                    row["target_date"],
                    row["rows"],
                    *_percents(row, "wape", "bias", "coverage_80", "naive_wape"),
                )
                for row in summary["by_day"]
            ],
        )


def _print_best_and_worst(stores: list[dict[str, Any]]) -> None:
    """`stores` are sorted, the worst one first."""
    from ray_job.cli.output import print_table

    columns = ("days", "off by", "bias", "inside 80 %", "last week's number")
    number = min(_LISTED_STORES, len(stores) // 2)
    for title, rows in (("worst", stores[:number]), ("best", stores[::-1][:number])):
        if rows:
            print_table(
                (f"{title} stores", *columns),
                [
                    (
                        row["store_id"],
                        row["rows"],
                        *_percents(row, "wape", "bias", "coverage_80", "naive_wape"),
                    )
                    for row in rows
                ],
            )


def _print_days(days: list[dict[str, Any]]) -> None:
    from ray_job.cli.output import percent, print_table

    print_table(
        ("day", "days ahead", "forecast", "80 % from", "to", "sold", "off by", "", "week before"),
        [
            (
                row["target_date"],
                row["days_ahead"],
                row["predicted"],
                row["lower_80"],
                row["upper_80"],
                row["actual"],
                percent(row["error"] / row["actual"]) if row["actual"] > 0 else "–",
                "inside" if row["inside"] else "outside",
                row["naive"],
            )
            for row in days
        ],
    )


def _date_ranges(days: list[date]) -> str:
    """`5 Feb to 1 Mar, 3 Mar`: consecutive days are one range. `days` are sorted."""
    ranges: list[list[date]] = []
    for day in days:
        if ranges and (day - ranges[-1][-1]).days == 1:
            ranges[-1].append(day)
        else:
            ranges.append([day])
    return ", ".join(
        f"{dates[0]:%-d %b}" + (f" to {dates[-1]:%-d %b}" if len(dates) > 1 else "")
        for dates in ranges
    )


def _times(factor: float | None) -> str:
    """`× 1.25`"""
    return "–" if factor is None else f"× {factor:.2f}"


def _percents(row: dict[str, Any], *names: str) -> list[str]:
    from ray_job.cli.output import percent

    return [percent(row[name]) for name in names]
