"""A bucket that need not be there when the process starts."""

from __future__ import annotations

import threading
from typing import Any, cast

from ray_job.bucket.errors import BucketMissingError, StorageError
from ray_job.bucket.storage import Storage, open_bucket


def open_later(url: str) -> Storage:
    """A directory is opened now: raises BucketMissingError if there is none.

    A bucket in Cloud Storage is opened by the first call, and again by the next one if that failed.
    Each call then raises StorageError, also if there is no such bucket.
    """
    if not url.startswith("gs://"):
        return open_bucket(url)
    return cast(Storage, _OpenedLater(url))


class _OpenedLater:
    def __init__(self, url: str) -> None:
        self.url = url
        self._storage: Storage | None = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._open(), name)

    def _open(self) -> Storage:
        if self._storage is None:
            with self._lock:
                if self._storage is None:
                    try:
                        self._storage = open_bucket(self.url)
                    except BucketMissingError as error:
                        raise StorageError(str(error)) from error
        return self._storage
