"""A read of an object that changes in place, with its outcome as a value."""

from __future__ import annotations

from dataclasses import dataclass

from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError, StorecastError
from ray_job.bucket.storage import Storage, Versioned


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no object of the key."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The object is still of the generation that was read before."""


ReadResult = Versioned | Missing | Unchanged | StorecastError
"""A StorecastError is a StorageError or a CorruptError: the bytes did not arrive whole."""


def read_object(storage: Storage, key: str, generation: str | None) -> ReadResult:
    """Read the object unless it is still of `generation`. Raises nothing of the storage."""
    try:
        if generation is None:
            return storage.read_versioned(key)
        return storage.read_if_changed(key, generation) or Unchanged()
    except NotFoundError:
        return Missing()
    except (StorageError, CorruptError) as error:
        return error
