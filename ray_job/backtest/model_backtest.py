"""The backtest of a registered model on the last days of a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from ray_job.backtest import Backtest, trial
from ray_job.backtest.series_kinds import by_kind, totals, weeks
from ray_job.backtest.slices import slices
from ray_job.backtest.trial import Conditions, Trial
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.storage import Storage
from ray_job.data.histories import open_histories, resolve_as_of
from ray_job.model.intervals import Calibration
from ray_job.progress import Progress
from ray_job.settings import Settings


@dataclass(frozen=True, slots=True)
class ModelBacktest:
    """`figures` are those of the function of this name.

    `slices` has the measures of kinds of days.
    """

    trial: Trial
    first: date
    last: date
    conditions: Conditions
    figures: dict[str, Any]
    slices: dict[str, dict[str, Any]]


def backtest_model(
    storage: Storage,
    settings: Settings,
    *,
    version: str | None,
    days: int,
    as_of: date | None,
    conditions: Conditions,
    now: datetime,
    progress: Progress,
) -> ModelBacktest:
    """Forecast each of the last `days` days up to `as_of` (None: the newest complete day).

    `version` None is the current model. Raises InputError if the version is not registered or if
    the model was trained on one of the days. Writes nothing.
    """
    histories = open_histories(storage)
    model = trial.load(storage, version)
    schedule = Schedule(settings.zone, settings.deadline)
    last = resolve_as_of(as_of, histories, schedule, now)
    first = last - timedelta(days=days - 1)
    finished = trial.run(storage, settings, histories, model, first, last, conditions, progress)
    return ModelBacktest(
        trial=finished,
        first=first,
        last=last,
        conditions=conditions,
        figures=figures(finished.result, model.description.intervals),
        slices=slices(finished.result.rows, finished.panel, finished.context),
    )


def figures(result: Backtest, calibration: Calibration) -> dict[str, Any]:
    """All measures of a backtest of a model with this calibration, as a JSON object."""
    return {
        **result.report(),
        "kinds": by_kind(result.rows),
        "totals": totals(result.rows, calibration),
        "weeks": weeks(result.rows),
    }
