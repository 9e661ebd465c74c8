"""The model of the benchmarks: as many trees as a real one, fitted on few rows.

How well it predicts does not matter. Its number of trees, leaves and features, on which the time of
a prediction depends, is that of the default model.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sklearn.ensemble import HistGradientBoostingRegressor

from ray_job.bucket.storage import Storage
from ray_job.model import registry
from ray_job.settings import Settings
from tests.support.models import register_model

TREES = 300
LEAVES = 127
_VERSION = "measured"
_AS_OFS = 16
_SPACING = timedelta(days=20)


def register(storage: Storage, settings: Settings, now: datetime) -> None:
    """Fit, register and promote."""
    last = now.date() - timedelta(days=1)
    pairs = []
    for back in range(1, _AS_OFS + 1):
        as_of = last - back * _SPACING
        pairs.append((as_of, as_of + timedelta(days=1 + back % settings.horizon)))
    regressor = HistGradientBoostingRegressor(
        max_iter=TREES, max_leaf_nodes=LEAVES, learning_rate=0.05, random_state=1
    )
    register_model(
        storage,
        settings,
        _VERSION,
        regressor,
        pairs,
        made_on=last,
        days=settings.lookback_days,
        now=now,
    )
    registry.promote(storage, _VERSION, now)
