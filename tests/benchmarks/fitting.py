"""The model of the benchmarks: as many trees as a real one, fitted on few rows.

How well it predicts does not matter here; how long it takes to predict, and how many features it
wants, is that of the default model.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from ray_job.bucket.storage import Storage
from ray_job.data.histories import open_histories
from ray_job.features import Inputs, feature_names, features
from ray_job.model import registry, training_data
from ray_job.model.model import TrainedOn, describe, dump
from ray_job.model.training import scored
from ray_job.settings import Settings

TREES = 300
LEAVES = 127
_AS_OFS = 16
_SPACING = timedelta(days=20)


def register(storage: Storage, settings: Settings, now: datetime) -> None:
    """Fit, register and promote."""
    histories = open_histories(storage)
    last = now.date() - timedelta(days=1)
    data = training_data.load(storage, settings, histories, last, days=settings.lookback_days)
    wanted = Inputs.of(
        data.panel, data.context, categories=data.categories, horizon=settings.horizon
    )
    counted = scored(data.panel)
    matrices, answers = [], []
    for back in range(1, _AS_OFS + 1):
        as_of = last - back * _SPACING
        target = as_of + timedelta(days=1 + back % settings.horizon)
        column = data.panel.column(target)
        rows = counted[:, column]
        matrices.append(features(data.panel, as_of, target, data.context, wanted)[rows])
        answers.append(np.log1p(np.maximum(data.panel.sales[rows, column], 0.0)))
    matrix = np.concatenate(matrices)
    names = np.array(feature_names(wanted))
    baseline = matrix[:, list(names).index("baseline")]
    known = ~np.isnan(baseline)
    usable = ~np.isnan(matrix[known]).all(axis=0)
    regressor = HistGradientBoostingRegressor(
        max_iter=TREES, max_leaf_nodes=LEAVES, learning_rate=0.05, random_state=1
    )
    regressor.fit(matrix[known][:, usable], (np.concatenate(answers) - baseline)[known])
    described = describe(
        version="measured",
        created_at=now,
        as_of=last,
        inputs=wanted,
        features=names[usable].tolist(),
        trained_on=TrainedOn(
            first=last - _AS_OFS * _SPACING,
            last=last,
            rows=int(known.sum()),
            stores=len(histories.store_ids),
        ),
        target="log_ratio",
    )
    artifact, described = dump(regressor, described)
    registry.register(storage, "measured", artifact, described.to_bytes())
    registry.promote(storage, "measured", now)
