"""Files of the cache folder whose names hold the SHA-256 of their content.

A process that starts again uses the files of the one before, if their content still has the digest.
Files that this process wrote or verified are not verified again.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

_TEMPORARY = ".part"
_DIGEST_CHARACTERS = 64


class CheckedFiles:
    """Files `<name>-<sha256>.<suffix>`. Thread-safe. No other process may use the folder."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self._folder = folder
        self._suffix = suffix
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"*.{suffix}{_TEMPORARY}"):
            path.unlink(missing_ok=True)
        # Names to paths: those that are known to be whole, and those to be verified before use.
        self._whole: dict[str, Path] = {}
        self._unverified: dict[str, Path] = {}
        for path in sorted(folder.glob(f"*.{suffix}")):
            name, _, digest = path.stem.rpartition("-")
            if name and len(digest) == _DIGEST_CHARACTERS:
                self._unverified[name] = path
            else:
                path.unlink(missing_ok=True)

    def find(self, name: str) -> Path | None:
        """The file of that name, or None. A file with other content than its digest is deleted."""
        path = self._whole.get(name)
        if path is not None:
            return path
        path = self._unverified.get(name)
        if path is None:
            return None
        is_whole = _digest(path) == path.stem.rpartition("-")[2]
        with self._lock:
            self._unverified.pop(name, None)
            if is_whole:
                self._whole.setdefault(name, path)
            else:
                path.unlink(missing_ok=True)
            return self._whole.get(name)

    def write(self, name: str, write: Callable[[Path], None]) -> Path:
        """Replace the file of that name. `write` makes the file at the path that it is given."""
        temporary = self._folder / f"{name}-{threading.get_ident()}.{self._suffix}{_TEMPORARY}"
        try:
            write(temporary)
            path = self._folder / f"{name}-{_digest(temporary)}.{self._suffix}"
            with self._lock:
                before = self._whole.get(name) or self._unverified.pop(name, None)
                temporary.replace(path)
                self._whole[name] = path
                if before is not None and before != path:
                    before.unlink(missing_ok=True)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def remove(self, name: str) -> None:
        """Does nothing if there is no file of that name. A file that is mapped stays readable."""
        with self._lock:
            for paths in (self._whole, self._unverified):
                path = paths.pop(name, None)
                if path is not None:
                    path.unlink(missing_ok=True)

    def names(self) -> set[str]:
        return {*self._whole, *self._unverified}


def _digest(path: Path) -> str | None:
    """None if the file cannot be read."""
    try:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
