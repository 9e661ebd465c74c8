"""Provenance: the code and the libraries that decide a prediction, beside data and model.

The sources are all modules of `DECIDING` and whatever else these packages contain later. The
libraries are those that these modules import. So nobody has to keep a list.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from ray_job.settings import Settings

DECIDING = ("bucket", "data", "features", "forecasting", "model")
"""The packages whose modules decide what is in a part."""

REVISION = "STORECAST_REVISION"
"""The environment variable in which an image says its git revision."""

_OURS = "ray_job"
_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)


def sources(folder: Path = Path(__file__).parent) -> list[Path]:
    """The modules of `DECIDING`, sorted."""
    return sorted(path for name in DECIDING for path in (folder / name).rglob("*.py"))


def libraries(modules: Sequence[Path]) -> list[str]:
    """The installed distributions that modules import, sorted by name.

    Imports within functions count, and so do those for types only.
    """
    names = {name for path in modules for name in _imported(path)}
    foreign = names - set(sys.stdlib_module_names) - {_OURS}
    distributions = packages_distributions()
    return sorted({name for package in foreign for name in distributions.get(package, ())})


@cache
def versions() -> dict[str, str]:
    """The version of each library that decides a prediction."""
    return {name: version(name) for name in libraries(sources())}


def revision() -> str | None:
    """The git revision of the image in which this process runs, None outside of an image."""
    return os.environ.get(REVISION)


@cache
def code_digest() -> str:
    """The sha256 of the sources and library versions that decide a prediction.

    An engineer's working directory therefore never shares parts with the image.
    """
    digest = hashlib.sha256(json.dumps(versions(), sort_keys=True).encode())
    root = Path(__file__).parent
    for path in sources():
        name = path.relative_to(root).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def settings_digest(settings: Settings) -> str:
    """The sha256 of the settings that decide a prediction."""
    deciding = {
        "known_ahead": settings.sales.known_ahead,
        "missing_is_zero": settings.sales.missing_is_zero,
        "fallback_after_days": settings.run.fallback_after_days,
        "minimum_history_days": settings.run.minimum_history_days,
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def all_settings_digest(settings: Settings) -> str:
    """The sha256 of all settings that a run reads: all but the bucket and those of training."""
    read = settings.model_dump_json(exclude={"bucket", "training"})
    return hashlib.sha256(read.encode()).hexdigest()


def _imported(path: Path) -> set[str]:
    """The top-level packages that a module imports.

    By its lines, since to parse all modules takes a quarter of a second of every run. A line of
    prose that looks like an import names no package, or one that is imported elsewhere.
    """
    return set(_IMPORT.findall(path.read_text(encoding="utf-8")))
