"""The bucket of the cluster's nights: a small chain, its model, and yesterday's file.

A second one has what a night two days earlier published, too, run on this machine.
"""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

from tests.cluster.places import CACHE
from tests.cluster.project import SEED
from tests.k8s.support import nights

EARLIER = nights.YESTERDAY - timedelta(days=2)
"""The night that was published before those of the tests."""
PUBLISHED = CACHE / "bucket-published"


def make() -> None:
    """Make the buckets in the cache, unless they are there for this day."""
    mark = CACHE / "bucket.day"
    if PUBLISHED.exists() and mark.exists() and mark.read_text() == str(nights.YESTERDAY):
        return
    making = CACHE / "bucket-in-the-making"
    for folder in (SEED, PUBLISHED, making):
        shutil.rmtree(folder, ignore_errors=True)
    mark.unlink(missing_ok=True)
    shutil.move(nights.make_bucket(making), SEED)
    shutil.rmtree(making)
    shutil.copytree(SEED, PUBLISHED)
    subprocess.run(
        [nights.BIN / "storecast", "run", "--as-of", str(EARLIER)],
        env=nights.environment(STORECAST_BUCKET=str(PUBLISHED)),
        check=True,
        capture_output=True,
        timeout=280,
    )
    mark.write_text(str(nights.YESTERDAY))


def objects(folder: Path = SEED) -> dict[str, bytes]:
    """Every object of a bucket that is a folder, by its key."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
