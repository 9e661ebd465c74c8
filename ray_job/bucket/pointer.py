"""The pointer `results/current.json`: the only object that decides which release readers get.

Each change is a compare-and-set. `move` reads the pointer, computes the next state, and writes it
if no other writer was faster; otherwise it starts again. If the answer to a write was lost, the
writer finds its own entry in `history`: it does not fail, and it does not publish twice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from typing import Self

from pydantic import ConfigDict, Field

from ray_job.bucket import keys
from ray_job.bucket.errors import (
    ConflictError,
    CorruptError,
    NotFoundError,
    StorageError,
    UnknownFormatError,
)
from ray_job.bucket.records import Record
from ray_job.bucket.sanity import SILENT_DAYS
from ray_job.bucket.storage import Storage, Versioned

_WAY_OUT = (
    "restore an earlier generation of the object, or make it again with `storecast restore-pointer`"
)
_RACES = 64
"""After so many lost races in a row a writer gives up. In each race another writer succeeded."""


class Published(Record):
    """A publication of a release. Fields that a newer version added stay in the pointer."""

    model_config = ConfigDict(extra="allow")

    release: str
    sha256: str
    as_of: date
    run_id: str
    published_at: datetime


class Pointer(Record):
    """The pointer's fields, which are the keys of its JSON object.

    `history` begins with the newest publication. It contains every release that `current` or
    `dates` name. `bad` are releases that a rollback gave up. `dates` names the newest good release
    of each as-of, `accuracy` the object with the scores of each target date. A scheduled run
    publishes only an as-of that is later than `hold_through`. `unit` and `currency` are those of
    the sales, None where the settings name none. Fields that a newer version added stay when this
    version moves the pointer.
    """

    model_config = ConfigDict(extra="allow")

    current: str | None = None
    history: tuple[Published, ...] = ()
    bad: tuple[str, ...] = ()
    dates: dict[date, str] = Field(default_factory=dict)
    accuracy: dict[date, str] = Field(default_factory=dict)
    hold_through: date | None = None
    time_zone: str = "UTC"
    deadline: time = time(6, 0)
    silent_days: int = SILENT_DAYS
    unit: str | None = None
    currency: str | None = None

    def entry(self, release: str) -> Published | None:
        """The newest publication of `release` in the history."""
        return next((entry for entry in self.history if entry.release == release), None)

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Self:
        """Raises CorruptError, also for an object that no writer of a pointer can have written.

        Each pointer that was written names a release of its history.
        """
        try:
            pointer = super().from_bytes(data, key)
        except UnknownFormatError:
            raise
        except CorruptError as error:
            raise CorruptError(f"{error}; {_WAY_OUT}") from error
        if pointer.current_entry is None:
            raise CorruptError(f"{key}: current: it names no release of the history; {_WAY_OUT}")
        return pointer

    @property
    def current_entry(self) -> Published | None:
        return None if self.current is None else self.entry(self.current)


def read(storage: Storage) -> tuple[Pointer, str | None]:
    """The pointer and its generation; an empty pointer and None before the first publication."""
    try:
        stored: Versioned = storage.read_versioned(keys.POINTER)
    except NotFoundError:
        return Pointer(), None
    return Pointer.from_bytes(stored.data, keys.POINTER), stored.generation


def move(storage: Storage, change: Callable[[Pointer], Pointer | None]) -> Pointer:
    """Replace the pointer by `change(pointer)`. None from `change` means: do not replace it.

    Returns the pointer that is then stored. Each lost race calls `change` again, with the newer
    pointer. `change` must recognise its own earlier success in the pointer's history. Raises
    ConflictError after many lost races.
    """
    unseen = 0
    for _ in range(_RACES):
        pointer, generation = read(storage)
        changed = change(pointer)
        if changed is None or changed == pointer:
            return pointer
        try:
            storage.replace(keys.POINTER, changed.to_bytes(), generation)
        except ConflictError as error:
            unseen += generation is None
            if unseen > 1:
                raise StorageError(
                    f"{keys.POINTER}: the storage says that there is no such object, and refuses"
                    " to make it since there is one: see whether the account may read it"
                ) from error
            continue
        return changed
    raise ConflictError(f"{keys.POINTER}: {_RACES} other writers in a row were faster: try again")
