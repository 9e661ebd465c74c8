"""Temporary files of a bucket in a directory, and how one of them gets its name."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray_job.bucket import keys
from ray_job.bucket.errors import InputError

TEMPORARY = ".storecast-"
LOCK = f"{TEMPORARY}folder.lock"
_OWN = re.compile(r"(.*/)?\.storecast-[a-z0-9_]{8}")
"""The names that `temporary_file` gives; those of a lock and of a demo's mark are others."""
_TABLES = "|".join((keys.BATCH_DATA, *(keys.context(kind) for kind in keys.CONTEXT_KINDS)))
_OF_DELTA = re.compile(
    rf"({_TABLES})/_delta_log/"
    r"((\d{20}\.(json|crc|checkpoint(\.\d{10}\.\d{10})?\.parquet)|_last_checkpoint)#\d+"
    r"|_commit_[0-9a-f-]{36}\.json\.tmp)"
)
"""What delta-rs writes before it links or renames it: `NAME#1`, and in older versions the last."""
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


def is_temporary(key: str) -> bool:
    """Whether a file is a writer's temporary one: ours, or one of delta-rs in the log of a table.

    `key` is its path below the bucket's directory. Nobody reads such a file, whoever wrote it.
    """
    return _OWN.fullmatch(key) is not None or _OF_DELTA.fullmatch(key) is not None
