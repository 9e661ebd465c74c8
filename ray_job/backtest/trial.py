"""A registered model on past days that it was not trained on: for backtests and comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from ray_job.backtest import Backtest, backtest
from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import Storage
from ray_job.data.context import Context
from ray_job.data.histories import Histories
from ray_job.data.panel import Panel
from ray_job.model import registry, training_data
from ray_job.model.model import Model
from ray_job.model.model import load as load_model
from ray_job.progress import Progress
from ray_job.settings import Settings

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is taken from the model: the last days' sales, the weather, its exactness."""

    late: int = 0
    weather: bool = True
    weather_noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    model: Model
    panel: Panel
    context: Context
    result: Backtest


def load(storage: Storage, version: str | None = None) -> Model:
    """A registered model, by default the current one. Raises InputError, CorruptError."""
    artifact = registry.load(storage, version)
    return load_model(artifact.model, artifact.description, artifact.sha256)


def unseen(model: Model, first: date) -> None:
    """Raise InputError where `first` lies among the days that the model was trained on."""
    known = model.description
    if first <= known.trained_on.last:
        raise InputError(
            f"model {known.version} was trained on days up to {known.trained_on.last}, and"
            f" {first} would flatter it; `storecast train --as-of {first - _DAY}` makes one that"
            " was not"
        )


def run(
    storage: Storage,
    settings: Settings,
    histories: Histories,
    model: Model,
    first: date,
    last: date,
    conditions: Conditions,
    progress: Progress,
) -> Trial:
    """Every day from `first` to `last`, 1 to horizon days ahead.

    Raises InputError where the model was trained on one of them.
    """
    unseen(model, first)
    known = model.description.inputs
    with progress.stage("read histories"):
        data = training_data.load(
            storage,
            settings,
            histories,
            last,
            days=settings.lookback_days + (last - first).days + 1 + settings.horizon,
            known_ahead=known.known_ahead,
            categories=known.categories,
        )
    context = data.context if conditions.weather else data.context.without_weather()
    with progress.stage("forecast"):
        result = backtest(
            data.panel,
            first,
            last,
            context,
            model,
            settings,
            late=conditions.late,
            weather_noise=conditions.weather_noise,
        )
    return Trial(model, data.panel, context, result)
