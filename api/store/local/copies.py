"""Copies of the pointer, the grants and the releases in the cache folder.

A process that starts while the bucket cannot be read serves what the process before it verified.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from api.store.local.checked_files import CheckedFiles

_LOG = logging.getLogger("api.copies")
Kind = Literal["pointer", "grants"]


@dataclass(frozen=True, slots=True)
class Copy:
    """The bytes of an object, and when they were last seen in the bucket."""

    data: bytes
    seen_at: datetime


class LocalCopies:
    """Copies of the objects of one bucket. The folder may hold those of others, too.

    A copy that cannot be written is logged and missing: it is not needed while the bucket can be
    read.
    """

    def __init__(self, folder: Path, bucket_url: str) -> None:
        self._objects = CheckedFiles(folder, "object")
        self._releases = CheckedFiles(folder, "release")
        self._bucket = hashlib.sha256(bucket_url.encode()).hexdigest()[:16]

    def keep(self, kind: Kind, data: bytes, seen_at: datetime) -> None:
        self._write(
            self._objects, self._name(kind), seen_at.isoformat().encode("ascii") + b"\n" + data
        )

    def kept(self, kind: Kind) -> Copy | None:
        path = self._objects.find(self._name(kind))
        if path is None:
            return None
        seen_at, _, data = path.read_bytes().partition(b"\n")
        return Copy(data, datetime.fromisoformat(seen_at.decode("ascii")))

    def forget(self, kind: Kind) -> None:
        self._objects.remove(self._name(kind))

    def keep_release(self, sha256: str, data: bytes) -> None:
        self._write(self._releases, sha256, data)

    def kept_release(self, sha256: str) -> bytes | None:
        """The bytes of the release with that digest."""
        path = self._releases.find(sha256)
        return None if path is None else path.read_bytes()

    def keep_only_releases(self, digests: Collection[str]) -> None:
        for name in self._releases.names().difference(digests):
            self._releases.remove(name)

    def _name(self, kind: Kind) -> str:
        return f"{kind}-{self._bucket}"

    def _write(self, files: CheckedFiles, name: str, data: bytes) -> None:
        try:
            files.write(name, lambda path: _write_bytes(path, data))
        except OSError as error:
            _LOG.warning("the copy %s cannot be written: %s", name, error.strerror or error)


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
