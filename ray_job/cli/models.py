"""The commands about models: train, promote, backtest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_job.bucket.errors import InputError
from ray_job.cli.command_context import AsOf, Bucket, Json, SettingsFile, open_command, parse_date

if TYPE_CHECKING:
    from ray_job.backtest.model_backtest import ModelBacktest

app = typer.Typer()


@app.command()
def train(
    as_of: AsOf = None,
    bucket: Bucket = None,
    without_weather: Annotated[
        bool, typer.Option("--without-weather", help="Train without features of the weather.")
    ] = False,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Fit the default model, calibrate its intervals and register it."""
    from ray_job.cli import output
    from ray_job.model.train import train_model

    command = open_command(bucket, settings, as_json=as_json)
    report = train_model(
        command.storage(),
        command.settings,
        as_of=parse_date(as_of),
        weather=not without_weather,
        now=command.now,
        progress=command.progress,
    )
    command.print_json(report.document())
    if not as_json:
        state = "and is current" if report.current else "and waits for `storecast promote`"
        output.print_line(f"Model {report.version} is registered {state}.")
        output.print_table(("on held-out days", ""), sorted(report.metrics.items()))
        output.print_table(
            ("kind of series", "series", "served by", "wape", "best rule"),
            [
                (kind, row["series"], row["rule"] or "model", row["wape"], row["rule_wape"])
                for kind, row in report.kinds.items()
            ],
        )


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="The name that `storecast train` printed.")],
    force: Annotated[
        bool, typer.Option("--force", help="Promote it even if it is not better.")
    ] = False,
    days: Annotated[int, typer.Option(min=7, help="How many of the last days to compare on.")] = 28,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Make a registered model the current one.

    It has to be better than the current one, or to have been current before.
    """
    from ray_job.backtest.promotion import promote_model
    from ray_job.cli.output import print_line

    command = open_command(bucket, settings, as_json=as_json)
    report = promote_model(
        command.storage(),
        command.settings,
        version,
        days=days,
        force=force,
        now=command.now,
        progress=command.progress,
    )
    command.print_json(report.promotion.model_dump(mode="json"))
    if not as_json:
        print_line(f"Model {report.promotion.version} is current.")
        if report.replaced not in (None, version):
            print_line(f"`storecast promote {report.replaced}` goes back.")


@app.command()
def backtest(
    days: Annotated[int, typer.Option(min=1, help="How many of the last days to forecast.")] = 42,
    late: Annotated[
        int, typer.Option(min=0, help="As if the last N days' sales had not arrived.")
    ] = 0,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a report to this file, as a page of HTML.", show_default=False),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--model", help="Default: the current one.", show_default=False)
    ] = None,
    weather_noise: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Errors in the weather of the target dates, as a fraction of its own variation."
            " A weather forecast of the next day has about 0.3.",
        ),
    ] = 0.0,
    without_weather: Annotated[
        bool, typer.Option("--without-weather", help="As if no weather were delivered.")
    ] = False,
    as_of: AsOf = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """How good forecasts of past days are, made as if on the evening before."""
    from ray_job.backtest.model_backtest import backtest_model
    from ray_job.backtest.trial import Conditions
    from ray_job.cli.output import print_line
    from ray_job.report.figures import coverage_of_stores
    from ray_job.report.report_file import write_report

    command = open_command(bucket, settings, as_json=as_json)
    if report is not None and not report.parent.is_dir():
        raise InputError(f"--report {report}: there is no directory {report.parent}")
    finished = backtest_model(
        command.storage(),
        command.settings,
        version=version,
        days=days,
        as_of=parse_date(as_of),
        conditions=Conditions(late, not without_weather, weather_noise),
        now=command.now,
        progress=command.progress,
    )
    if report is not None:
        with command.progress.stage("report"):
            write_report(report, finished, command.settings, command.now)
    command.print_json(
        {
            "model": finished.trial.model.description.version,
            "first": str(finished.first),
            "last": str(finished.last),
            **finished.figures,
            "slices": finished.slices,
            "stores": coverage_of_stores(finished.trial.result.rows),
        }
    )
    if not as_json:
        _print_backtest(finished)
        if report is not None:
            print_line(f"The report is in {report}.")


def _print_backtest(finished: ModelBacktest) -> None:
    from ray_job.cli.output import print_table

    figures = finished.figures
    columns = (
        *("rows", "rmspe", "wape", "bias", "rmsse", "pinball_80"),
        *("coverage_80", "calibrated_coverage_80"),
    )
    print_table(
        ("", *columns[:-1], "not adapted"),
        [
            (f"{ahead} days ahead", *(measures[column] for column in columns))
            for ahead, measures in figures["by_days_ahead"].items()
        ],
        title=f"{finished.first} to {finished.last}",
    )
    print_table(
        ("naive rule, one day ahead", "rmspe", "wape", "bias", "rmsse"),
        [
            (rule, *(measures[column] for column in ("rmspe", "wape", "bias", "rmsse")))
            for rule, measures in figures["naive"].items()
        ],
    )
    kind_columns = ("series", "rows", "wape", "naive_wape", "bias", "rmsse", "naive_rmsse")
    print_table(
        ("kind of series, one day ahead", *kind_columns, "coverage_80", "by"),
        [
            (
                kind,
                *(row[column] for column in (*kind_columns, "coverage_80")),
                ", ".join(f"{method} {number:,}" for method, number in row["methods"].items()),
            )
            for kind, row in figures["kinds"].items()
        ],
    )
    print_table(
        ("totals of stores", "rows", "wape", "bias", "coverage_80"),
        [
            (f"{ahead} days ahead", row["rows"], row["wape"], row["bias"], row["coverage_80"])
            for ahead, row in figures["totals"].items()
        ],
    )
    slice_columns = ("rows", "rmspe", "wape", "naive_wape", "coverage_80")
    print_table(
        ("kind of day, one day ahead", "rows", "rmspe", "wape", "best rule", "coverage_80"),
        [
            (kind, *(measures[column] for column in slice_columns))
            for kind, measures in finished.slices.items()
        ],
    )
