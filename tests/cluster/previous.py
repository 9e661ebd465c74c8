"""An earlier version of the project, from git: its images, its manifests, a bucket that it made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster import images, project
from tests.cluster.places import CACHE, ROOT
from tests.k8s.support import nights

COMMIT = "5b72904"
SUFFIX = f"-{COMMIT}"
SOURCES = CACHE / f"sources-{COMMIT}"
_BUCKET = CACHE / f"bucket-{COMMIT}"


def build() -> None:
    """Build that version's images. Nothing happens where git does not have the commit."""
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    if known.returncode:
        return
    if not SOURCES.exists():
        _extract()
    images.build_project(SOURCES, SUFFIX)


def archives() -> list[Path]:
    """Its images, if they were built."""
    return images.of_project(SOURCES, SUFFIX) if SOURCES.exists() else []


def _extract() -> None:
    half_done = SOURCES.with_suffix(".half-done")
    shutil.rmtree(half_done, ignore_errors=True)
    half_done.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "archive", "--format=tar", COMMIT], cwd=ROOT, check=True, capture_output=True
    )
    subprocess.run(
        ["tar", "--extract", f"--directory={half_done}"], input=archive.stdout, check=True
    )
    half_done.rename(SOURCES)


def make_bucket() -> Path:
    """A bucket that was ingested and trained by that version. Yesterday's sales are delivered, and
    not yet ingested."""
    shutil.rmtree(_BUCKET, ignore_errors=True)
    raw = _BUCKET / "raw_data"
    shutil.copytree(project.SEED / "raw_data", raw)
    newest = raw / f"sales-{nights.YESTERDAY}.csv"
    hidden = _BUCKET.parent / newest.name
    newest.rename(hidden)
    for command in ("ingest", "train"):
        subprocess.run(
            [sys.executable, "-m", "ray_job", command],
            cwd=SOURCES,
            env={
                **os.environ,
                **nights.SMALL_MODEL,
                "PYTHONPATH": str(SOURCES),
                "STORECAST_BUCKET": str(_BUCKET),
            },
            check=True,
            capture_output=True,
            timeout=400,
        )
    hidden.rename(newest)
    return _BUCKET
