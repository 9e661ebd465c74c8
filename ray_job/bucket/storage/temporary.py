"""Temporary files of a bucket in a directory, and how one of them gets its name."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray_job.bucket.errors import InputError

TEMPORARY = ".storecast-"
LOCK = f"{TEMPORARY}folder.lock"
_DEMO = f"{TEMPORARY}demo"
"""The mark of a demo's bucket; see `ray_job.nightly.demo`."""
_DELTA_TEMPORARY = re.compile(r"#\d+$|^_commit_.*\.json\.tmp$")
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def link(temporary: Path, target: Path) -> None:
    """Give a file its name, unless there is one of that name. Raises FileExistsError.

    Raises InputError on a file system without hard links: delta-rs commits by a link, too, and
    without one nothing else keeps two writers from both succeeding.
    """
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise InputError(
            f"{target}: the file system has no hard links ({error.strerror}), which new objects and"
            " commits need: put the bucket on another file system"
        ) from error


@contextmanager
def temporary_file(folder: Path) -> Iterator[Path]:
    """A new file that no listing shows, deleted afterwards."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=TEMPORARY)
    os.close(handle)
    path = Path(name)
    path.chmod(0o644)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether a file is a writer's temporary one: ours, or one of delta-rs in a log."""
    if path.name.startswith(TEMPORARY):
        return path.name not in (LOCK, _DEMO)
    return path.parent.name == "_delta_log" and _DELTA_TEMPORARY.search(path.name) is not None
