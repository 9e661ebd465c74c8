"""Features: the numbers that a model is given about a series and a target date.

`dictionary` has the meaning of each of them.
"""

from ray_job.features.inputs import MAX_CATEGORIES, Inputs, feature_names
from ray_job.features.matrix import PanelSummary, features, features_at, features_for, summarise

__all__ = [
    "MAX_CATEGORIES",
    "Inputs",
    "PanelSummary",
    "feature_names",
    "features",
    "features_at",
    "features_for",
    "summarise",
]
