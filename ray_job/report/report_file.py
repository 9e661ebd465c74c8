"""The report of a backtest, written to a file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from ray_job.backtest.model_backtest import ModelBacktest
from ray_job.bucket.errors import InputError
from ray_job.report import Material, remarks, render
from ray_job.report.importance import importance
from ray_job.settings import Settings


def write_report(path: Path, finished: ModelBacktest, settings: Settings, now: datetime) -> None:
    """Write the page of HTML to `path`. Raises InputError if the file cannot be written."""
    trial = finished.trial
    model = trial.model.description
    page = render(
        Material(
            model=model,
            first=finished.first,
            last=finished.last,
            rows=trial.result.rows,
            figures=finished.figures,
            slices=finished.slices,
            importance=importance(
                trial.panel, finished.first, finished.last, trial.context, trial.model, settings
            ),
            remarks=remarks(model, finished.conditions),
            made_at=now.astimezone(settings.zone),
        )
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--report {path}: {error.strerror}") from error
