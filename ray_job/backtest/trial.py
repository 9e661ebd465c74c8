"""A trial: a registered model on past days that it was not trained on.

Backtests and comparisons use it, from the command line or from a notebook.
"""

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
    """What is withheld from the model or made less exact.

    `late`: the number of last days whose sales are withheld. `weather`: False withholds it.
    `weather_noise`: see `weather.with_forecast_errors`.
    """

    late: int = 0
    weather: bool = True
    weather_noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """A backtest with the model, the panel and the context that it was made from."""

    model: Model
    panel: Panel
    context: Context
    result: Backtest


def load(storage: Storage, version: str | None = None) -> Model:
    """A registered model, by default the current one.

    Raises InputError where there is no such model, CorruptError for damaged bytes.
    """
    artifact = registry.load(storage, version)
    return load_model(artifact.model, artifact.description, artifact.sha256)


def require_unseen(model: Model, first: date) -> None:
    """Raise InputError where the model was trained on `first` or on a later day."""
    description = model.description
    trained = description.trained_on.last
    if first <= trained:
        raise InputError(
            f"model {description.version} was trained on days up to {trained}; a backtest from"
            f" {first} would show errors that are too small; `storecast train --as-of"
            f" {first - _DAY}` makes a model for these days"
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
    """A trial on every day from `first` to `last`, each forecast 1 to horizon days ahead.

    Raises InputError where the model was trained on one of the days.
    """
    require_unseen(model, first)
    inputs = model.description.inputs
    with progress.stage("read histories"):
        data = training_data.load(
            storage,
            settings,
            histories,
            last,
            days=settings.lookback_days + (last - first).days + 1 + settings.horizon,
            known_ahead=inputs.known_ahead,
            categories=inputs.categories,
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
