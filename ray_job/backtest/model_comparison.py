"""Two registered models, compared on the same days of a bucket."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from ray_job.backtest import compare, trial
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.storage import Storage
from ray_job.data.histories import open_histories, resolve_as_of
from ray_job.progress import Progress
from ray_job.settings import Settings


def compare_models(
    storage: Storage,
    settings: Settings,
    first: str,
    second: str,
    *,
    days: int,
    as_of: date | None = None,
    now: datetime,
    progress: Progress,
) -> dict[str, Any]:
    """`compare.compare` of two model versions, with their names and the first and the last day.

    The days are the last `days` days up to `as_of` (None: the newest complete day) that neither
    model was trained on. Raises InputError if a version is not registered, or if fewer than
    `compare.LEAST_DAYS` such days are left. Writes nothing.
    """
    histories = open_histories(storage)
    models = [trial.load(storage, version) for version in (first, second)]
    schedule = Schedule(settings.zone, settings.deadline)
    newest = resolve_as_of(as_of, histories, schedule, now)
    first_day, last_day = compare.common_days(models[0], models[1], newest, days)
    rows = [
        trial.run(
            storage,
            settings,
            histories,
            model,
            first_day,
            last_day,
            trial.Conditions(),
            progress,
        ).result.rows
        for model in models
    ]
    return {
        "models": [first, second],
        "from": str(first_day),
        "to": str(last_day),
        **compare.compare(rows[0], rows[1]),
    }
