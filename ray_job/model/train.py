"""Training as one step: read the histories, fit and calibrate the model, register it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from ray_job import provenance
from ray_job.bucket.errors import ConflictError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.storage import Storage
from ray_job.data.histories import open_histories, resolve_as_of
from ray_job.model import model, registry, training, training_data
from ray_job.progress import Progress
from ray_job.settings import Settings

_SAME_SECOND = 16
"""So many trainings that begin in one second get versions of their own."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """A registered model. `metrics` are those of held-out days; `features` is their number."""

    version: str
    current: bool
    as_of: date
    trained_on: model.TrainedOn
    features: int
    metrics: dict[str, float]
    kinds: dict[str, dict[str, Any]]
    """For each kind of series how many there are, and what serves them: see `KindBlend`."""

    def document(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "version": self.version,
            "current": self.current,
            "as_of": self.as_of.isoformat(),
            "trained_on": self.trained_on.model_dump(mode="json"),
            "features": self.features,
            "metrics": self.metrics,
            "kinds": self.kinds,
        }


def train_model(
    storage: Storage,
    settings: Settings,
    *,
    as_of: date | None,
    weather: bool = True,
    now: datetime,
    progress: Progress,
) -> TrainingReport:
    """Train on the sales up to `as_of` (None: the newest complete day) and register the model.

    The first model of a bucket becomes the current one; a later one waits for its promotion.
    With `weather=False` the model has no features of the weather. Every call registers a model of
    its own. Raises InputError if there are no histories or too few days to train on.
    """
    histories = open_histories(storage)
    schedule = Schedule(settings.zone, settings.deadline)
    last_day = resolve_as_of(as_of, histories, schedule, now)
    with progress.stage("read histories"):
        data = training_data.load(
            storage,
            settings,
            histories,
            last_day,
            days=training_data.days_of_training(histories, settings, last_day),
        )
    context = data.context if weather else data.context.without_weather()
    fitted = training.fit(
        data.panel, last_day, context, settings, categories=data.categories, progress=progress
    )
    usual = f"{last_day:%Y%m%d}-{now:%Y%m%dT%H%M%S}"
    for version in (usual, *(f"{usual}-{number}" for number in range(2, _SAME_SECOND + 1))):
        description = model.describe(
            version=version,
            created_at=now,
            as_of=last_day,
            inputs=fitted.inputs,
            features=fitted.features,
            trained_on=fitted.trained_on,
            target="blend",
            intervals=fitted.intervals,
            blend=fitted.blend,
            item_levels=fitted.item_levels,
            metrics=fitted.metrics,
            settings_digest=provenance.settings_digest(settings),
        )
        artifact, description = model.dump(fitted.regressor, description)
        try:
            registry.register(storage, version, artifact, description.to_bytes())
            break
        except ConflictError:
            # Another training began in the same second. Ours took too long to be thrown away.
            if version.endswith(f"-{_SAME_SECOND}"):
                raise
    is_first = registry.current(storage) is None
    if is_first:
        registry.promote(storage, version, now)
    return TrainingReport(
        version=version,
        current=is_first,
        as_of=last_day,
        trained_on=description.trained_on,
        features=len(description.features),
        metrics=fitted.metrics,
        kinds={
            kind: {
                "series": fitted.series[kind],
                "method": "rule" if blend.rule else "model",
                **blend.model_dump(mode="json"),
            }
            for kind, blend in fitted.blend.kinds.items()
            if fitted.series[kind]
        },
    )
