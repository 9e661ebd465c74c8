"""What decides a prediction beside data and model: the code and the libraries it rests on."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ray_job.settings import Settings

SOURCES = (
    "bucket/parts.py",
    "calendar_days.py",
    "context.py",
    "data_age.py",
    "features/__init__.py",
    "features/ahead.py",
    "features/along_days.py",
    "features/past.py",
    "forecast.py",
    "history.py",
    "intervals.py",
    "model.py",
    "panel.py",
    "partition.py",
    "predict.py",
    "ranged.py",
    "tally.py",
)
_LIBRARIES = ("holidays", "joblib", "numpy", "pyarrow", "scikit-learn")
REVISION = "STORECAST_REVISION"
"""The environment variable in which an image says its git revision."""


def versions() -> dict[str, str]:
    """The versions of the libraries that decide a prediction."""
    return {name: version(name) for name in _LIBRARIES}


def revision() -> str | None:
    return os.environ.get(REVISION)


@cache
def code_digest() -> str:
    """The sha256 over the sources and library versions that decide a prediction.

    An engineer's working directory thereby never shares parts with the image.
    """
    digest = hashlib.sha256(json.dumps(versions(), sort_keys=True).encode())
    folder = Path(__file__).parent
    for name in SOURCES:
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return digest.hexdigest()


def settings_digest(settings: Settings) -> str:
    """The sha256 over the settings that decide a prediction."""
    what = {
        "known_ahead": settings.sales.known_ahead,
        "fallback_after_days": settings.run.fallback_after_days,
        "minimum_history_days": settings.run.minimum_history_days,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
