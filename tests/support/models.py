"""Models of a few features and few rows, registered in a bucket: quick to make, and real."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np

from ray_job.bucket.storage import Storage
from ray_job.data.histories import open_histories
from ray_job.features import Inputs, feature_names, features
from ray_job.model import registry, training_data
from ray_job.model.examples import scored
from ray_job.model.model import TrainedOn, describe, dump
from ray_job.settings import Settings


def register_model(
    storage: Storage,
    settings: Settings,
    version: str,
    regressor: Any,
    pairs: Sequence[tuple[date, date]],
    *,
    made_on: date,
    days: int,
    now: datetime,
) -> None:
    """Fit a regressor on the histories of a bucket and register it as a model of log ratios.

    Its rows are those of all series for each (as-of, target date) of `pairs`, its features those
    that are known in any row. `made_on` is the last date of its data, `days` how many it loads.
    """
    histories = open_histories(storage)
    data = training_data.load(storage, settings, histories, made_on, days=days)
    inputs = Inputs.of(
        data.panel, data.context, categories=data.categories, horizon=settings.horizon
    )
    counted = scored(data.panel)
    matrices, answers = [], []
    for as_of, target in pairs:
        column = data.panel.column(target)
        rows = counted[:, column]
        matrices.append(features(data.panel, as_of, target, data.context, inputs)[rows])
        answers.append(np.log1p(np.maximum(data.panel.sales[rows, column], 0.0)))
    matrix = np.concatenate(matrices)
    names = np.array(feature_names(inputs))
    baseline = matrix[:, list(names).index("baseline")]
    known = ~np.isnan(baseline)
    usable = ~np.isnan(matrix[known]).all(axis=0)
    regressor.fit(matrix[known][:, usable], (np.concatenate(answers) - baseline)[known])
    description = describe(
        version=version,
        created_at=now,
        as_of=made_on,
        inputs=inputs,
        features=names[usable].tolist(),
        trained_on=TrainedOn(
            first=min(as_of for as_of, _ in pairs),
            last=made_on,
            rows=int(known.sum()),
            stores=len(histories.store_ids),
        ),
        target="log_ratio",
    )
    artifact, description = dump(regressor, description)
    registry.register(storage, version, artifact, description.to_bytes())
