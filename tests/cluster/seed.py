"""The bucket of the cluster's nights: a small chain, its model, and yesterday's file."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cluster.places import CACHE
from tests.cluster.project import SEED
from tests.k8s.support import nights


def make() -> None:
    """Make the bucket in the cache, unless it is there for this day."""
    mark = CACHE / "bucket.day"
    if mark.exists() and mark.read_text() == str(nights.YESTERDAY):
        return
    shutil.rmtree(SEED, ignore_errors=True)
    made = nights.make_bucket(CACHE / "bucket-in-the-making")
    shutil.move(made, SEED)
    shutil.rmtree(CACHE / "bucket-in-the-making", ignore_errors=True)
    mark.write_text(str(nights.YESTERDAY))


def objects(folder: Path = SEED) -> dict[str, bytes]:
    """Every object of a bucket that is a folder, by its key."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
