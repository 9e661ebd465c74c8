"""The commands about models: train, promote, backtest."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_job.bucket.errors import InputError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.storage import Storage
from ray_job.cli import output
from ray_job.cli.command_context import AsOf, Bucket, CommandContext, Json, SettingsFile, day, edge

if TYPE_CHECKING:
    from ray_job.backtest.trial import Conditions, Trial

app = typer.Typer()


@app.command()
def train(
    as_of: AsOf = None,
    bucket: Bucket = None,
    without_weather: Annotated[
        bool, typer.Option("--without-weather", help="A model that knows of no weather.")
    ] = False,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Fit the default model, calibrate its intervals and register it."""
    here = edge(bucket, settings, as_json=as_json)
    told = training(here, here.storage(), day(as_of), weather=not without_weather)
    here.tell(told)
    if not as_json:
        state = "and is current" if told["current"] else "and waits for `storecast promote`"
        output.say(f"Model {told['version']} is registered {state}.")
        output.table(("on held-out days", ""), sorted(told["metrics"].items()))


def training(
    here: CommandContext, storage: Storage, as_of: date | None, *, weather: bool = True
) -> dict[str, Any]:
    """Train and register; the first model of a bucket becomes current."""
    from ray_job import provenance
    from ray_job.backtest.weather import without_weather
    from ray_job.data.histories import open_histories, resolve_as_of
    from ray_job.model import model, registry, training_data
    from ray_job.model import training as fitting

    settings = here.settings
    histories = open_histories(storage)
    schedule = Schedule(settings.zone, settings.deadline)
    last = resolve_as_of(as_of, histories, schedule, here.now)
    with here.progress.stage("read histories"):
        data = training_data.load(storage, settings, histories, last, days=settings.lookback_days)
    context = data.context if weather else without_weather(data.context)
    with here.progress.stage("fit"):
        fitted = fitting.fit(data.panel, last, context, settings, categories=data.categories)
    version = _version(last, here.now)
    described = model.describe(
        version=version,
        created_at=here.now,
        as_of=last,
        inputs=fitted.inputs,
        features=fitted.features,
        trained_on=fitted.trained_on,
        target="log_ratio",
        intervals=fitted.intervals,
        metrics=fitted.metrics,
        settings_digest=provenance.settings_digest(settings),
    )
    artifact, described = model.dump(fitted.regressor, described)
    registry.register(storage, version, artifact, described.to_bytes())
    is_first = registry.current(storage) is None
    if is_first:
        registry.promote(storage, version, here.now)
    return {
        "version": version,
        "current": is_first,
        "as_of": last.isoformat(),
        "trained_on": described.trained_on.model_dump(mode="json"),
        "features": len(described.features),
        "metrics": fitted.metrics,
    }


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="As `storecast train` named it.")],
    force: Annotated[
        bool, typer.Option("--force", help="Whether it is better than the current one or not.")
    ] = False,
    days: Annotated[int, typer.Option(min=7, help="How many of the last days to compare on.")] = 28,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Make a registered model the current one.

    It has to be better than the current one, or to have been current before.
    """
    from ray_job.cli.quality import compared
    from ray_job.model import registry
    from ray_job.model.model import load as load_model

    here = edge(bucket, settings, as_json=as_json)
    storage = here.storage()
    before = registry.history(storage)
    # A model that cannot be loaded here must not become current, whatever is forced.
    artifact = registry.load(storage, version)
    load_model(artifact.model, artifact.description, artifact.sha256)
    known = {promotion.version for promotion in before}
    if before and version not in known and not force:
        found = compared(here, storage, before[0].version, version, days)
        wape = {which: found[which]["wape"] for which in ("first", "second")}
        if wape["second"] >= wape["first"]:
            raise InputError(
                f"{version}: off by {wape['second']:.2%} from {found['from']} to {found['to']},"
                f" where the current model {before[0].version} is off by {wape['first']:.2%};"
                " --force promotes it all the same"
            )
    promotion = registry.promote(storage, version, here.now)
    here.tell(promotion)
    if not as_json:
        output.say(f"Model {promotion.version} is current.")
        if before and before[0].version != version:
            output.say(f"`storecast promote {before[0].version}` goes back.")


@app.command()
def backtest(
    days: Annotated[int, typer.Option(min=1, help="How many of the last days to forecast.")] = 42,
    late: Annotated[
        int, typer.Option(min=0, help="As if the last N days' sales had not arrived.")
    ] = 0,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page of HTML about it to this file.", show_default=False),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--model", help="Default: the current one.", show_default=False)
    ] = None,
    weather_noise: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Errors in the weather of the target dates, as a share of its own variation: 0.3"
            " is what a forecast of the next day is off by.",
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
    from ray_job.backtest import trial
    from ray_job.backtest.slices import slices
    from ray_job.data.histories import open_histories, resolve_as_of
    from ray_job.report.figures import coverage_of_stores

    here = edge(bucket, settings, as_json=as_json)
    if report is not None and not report.parent.is_dir():
        raise InputError(f"--report {report}: there is no directory {report.parent}")
    storage = here.storage()
    histories = open_histories(storage)
    model = trial.load(storage, version)
    schedule = Schedule(here.settings.zone, here.settings.deadline)
    last = resolve_as_of(day(as_of), histories, schedule, here.now)
    first = last - timedelta(days=days - 1)
    under = trial.Conditions(late, not without_weather, weather_noise)
    made = trial.run(storage, here.settings, histories, model, first, last, under, here.progress)
    found = made.result.report()
    kinds = slices(made.result.rows, made.panel, made.context)
    if report is not None:
        with here.progress.stage("report"):
            _write(report, here, made, (first, last), under, found, kinds)
    here.tell(
        {
            "model": model.description.version,
            "first": str(first),
            "last": str(last),
            **found,
            "slices": kinds,
            "stores": coverage_of_stores(made.result.rows),
        }
    )
    if not as_json:
        _tell(found, kinds, first, last)
        if report is not None:
            output.say(f"The report is in {report}.")


def _write(
    path: Path,
    here: CommandContext,
    made: Trial,
    days: tuple[date, date],
    under: Conditions,
    found: dict[str, Any],
    kinds: dict[str, Any],
) -> None:
    from ray_job.report import Material, remarks, render
    from ray_job.report.importance import importance

    page = render(
        Material(
            model=made.model.description,
            first=days[0],
            last=days[1],
            rows=made.result.rows,
            figures=found,
            slices=kinds,
            importance=importance(made.panel, *days, made.context, made.model, here.settings),
            remarks=remarks(made.model.description, under),
            made_at=here.now.astimezone(here.settings.zone),
        )
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--report {path}: {error.strerror}") from error


def _tell(report: dict[str, Any], kinds: dict[str, Any], first: date, last: date) -> None:
    names = ("rows", "rmspe", "wape", "mae", "bias", "coverage_80")
    rows = [
        (f"{ahead} days ahead", *(told[name] for name in names))
        for ahead, told in report["by_days_ahead"].items()
    ]
    output.table(("", *names), rows, title=f"{first} to {last}")
    output.table(
        ("naive rule, one day ahead", "rmspe", "wape"),
        [(rule, told["rmspe"], told["wape"]) for rule, told in report["naive"].items()],
    )
    output.table(
        ("kind of day, one day ahead", "rows", "rmspe", "wape", "best rule", "coverage_80"),
        [
            (name, *(told[n] for n in ("rows", "rmspe", "wape", "naive_wape", "coverage_80")))
            for name, told in kinds.items()
        ],
    )


def _version(as_of: date, now: datetime) -> str:
    return f"{as_of:%Y%m%d}-{now:%Y%m%dT%H%M%S}"
