"""The commands about models: train, promote, backtest."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated, Any

import typer

from ray_job.bucket.errors import InputError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.storage import Storage
from ray_job.commands import telling
from ray_job.commands.edge import AsOf, Bucket, Edge, Json, SettingsFile, day, edge

app = typer.Typer()


@app.command()
def train(
    as_of: AsOf = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Fit the default model, calibrate its intervals and register it."""
    here = edge(bucket, settings, as_json=as_json)
    told = training(here, here.storage(), day(as_of))
    here.tell(told)
    if not as_json:
        state = "and is current" if told["current"] else "and waits for `storecast promote`"
        telling.say(f"Model {told['version']} is registered {state}.")
        telling.table(("on held-out days", ""), sorted(told["metrics"].items()))


def training(here: Edge, storage: Storage, as_of: date | None) -> dict[str, Any]:
    """Train and register; the first model of a bucket becomes current."""
    from ray_job import inputs, model, provenance, registry, study
    from ray_job import training as fitting

    settings = here.settings
    histories = inputs.open_histories(storage)
    schedule = Schedule(settings.zone, settings.deadline)
    last = inputs.resolve_as_of(as_of, histories, schedule, here.now)
    with here.progress.stage("read histories"):
        data = study.load(storage, settings, histories, last, days=settings.lookback_days)
    with here.progress.stage("fit"):
        fitted = fitting.fit(data.panel, last, data.context, settings, categories=data.categories)
    version = _version(last, here.now)
    described = model.describe(
        version=version,
        created_at=here.now,
        as_of=last,
        inputs=fitted.inputs,
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
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Make a registered model the current one."""
    from ray_job import registry

    here = edge(bucket, settings, as_json=as_json)
    promotion = registry.promote(here.storage(), version, here.now)
    here.tell(promotion)
    if not as_json:
        telling.say(f"Model {promotion.version} is current.")


@app.command()
def backtest(
    days: Annotated[int, typer.Option(min=1, help="How many of the last days to forecast.")] = 42,
    late: Annotated[
        int, typer.Option(min=0, help="As if the last N days' sales had not arrived.")
    ] = 0,
    as_of: AsOf = None,
    bucket: Bucket = None,
    settings: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Forecast past days as if on the evening before, and say how good that was."""
    from ray_job import backtest as backtesting
    from ray_job import inputs, registry, study
    from ray_job.model import load as load_model

    here = edge(bucket, settings, as_json=as_json)
    storage = here.storage()
    histories = inputs.open_histories(storage)
    artifact = registry.load(storage)
    model = load_model(artifact.model, artifact.description, artifact.sha256)
    schedule = Schedule(here.settings.zone, here.settings.deadline)
    last = inputs.resolve_as_of(day(as_of), histories, schedule, here.now)
    first = last - timedelta(days=days - 1)
    if first <= model.description.trained_on.last:
        raise InputError(
            f"--days {days}: model {model.description.version} was trained on days up to"
            f" {model.description.trained_on.last}, and {first} would flatter it;"
            f" `storecast train --as-of {first - timedelta(days=1)}` makes one that was not"
        )
    with here.progress.stage("read histories"):
        data = study.load(
            storage,
            here.settings,
            histories,
            last,
            days=here.settings.lookback_days + days + here.settings.horizon,
            known_ahead=model.description.inputs.known_ahead,
            categories=model.description.inputs.categories,
        )
    with here.progress.stage("forecast"):
        made = backtesting.backtest(
            data.panel, first, last, data.context, model, here.settings, late=late
        )
    report = made.report()
    here.tell(
        {"model": model.description.version, "first": str(first), "last": str(last), **report}
    )
    if not as_json:
        _tell(report, first, last)


def _tell(report: dict[str, Any], first: date, last: date) -> None:
    names = ("rows", "rmspe", "wape", "mae", "bias", "coverage_80")
    rows = [
        (f"{ahead} days ahead", *(told[name] for name in names))
        for ahead, told in report["by_days_ahead"].items()
    ]
    telling.table(("", *names), rows, title=f"{first} to {last}")
    telling.table(
        ("naive rule, one day ahead", "rmspe", "wape"),
        [(rule, told["rmspe"], told["wape"]) for rule, told in report["naive"].items()],
    )


def _version(as_of: date, now: datetime) -> str:
    return f"{as_of:%Y%m%d}-{now:%Y%m%dT%H%M%S}"
