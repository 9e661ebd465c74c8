"""The pointer `results/current.json`: the one object that decides what readers see.

It is changed by compare-and-set only. `move` reads it, asks for the next state and writes that on
the condition that nobody wrote in between; on a lost race it reads and asks again. A writer whose
acknowledgement was lost finds its own entry in `history`, and so neither fails nor publishes twice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time

from pydantic import Field

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, NotFoundError
from ray_job.bucket.records import Record
from ray_job.bucket.sanity import SILENT_DAYS
from ray_job.bucket.storage import Storage, Versioned

_RACES = 64
"""Each lost race means that another writer succeeded, so this many in a row is not contention."""


class Published(Record):
    """One publication."""

    release: str
    sha256: str
    as_of: date
    run_id: str
    published_at: datetime


class Pointer(Record):
    """`history` is newest first, and every release that `current` or `dates` name is in it.

    `dates` has the newest good release of each as-of; `accuracy` the scores of each target date.
    No scheduled run publishes an as-of up to `hold_through`.
    """

    current: str | None = None
    history: tuple[Published, ...] = ()
    bad: tuple[str, ...] = ()
    dates: dict[date, str] = Field(default_factory=dict)
    accuracy: dict[date, str] = Field(default_factory=dict)
    hold_through: date | None = None
    time_zone: str = "UTC"
    deadline: time = time(6, 0)
    silent_days: int = SILENT_DAYS

    def entry(self, release: str) -> Published | None:
        return next((entry for entry in self.history if entry.release == release), None)

    @property
    def current_entry(self) -> Published | None:
        return None if self.current is None else self.entry(self.current)


def read(storage: Storage) -> tuple[Pointer, str | None]:
    """The pointer and its generation; an empty one and None where nothing was ever published."""
    try:
        found: Versioned = storage.read_versioned(keys.POINTER)
    except NotFoundError:
        return Pointer(), None
    return Pointer.from_bytes(found.data, keys.POINTER), found.generation


def move(storage: Storage, change: Callable[[Pointer], Pointer | None]) -> Pointer:
    """Replace the pointer by `change(pointer)`, until no one was faster; None leaves it alone.

    Returns the pointer as it is then. `change` may be called several times and must recognise its
    own earlier success in the pointer's history.
    """
    for _ in range(_RACES):
        pointer, generation = read(storage)
        changed = change(pointer)
        if changed is None or changed == pointer:
            return pointer
        try:
            storage.replace(keys.POINTER, changed.to_bytes(), generation)
        except ConflictError:
            continue
        return changed
    raise ConflictError(f"{keys.POINTER}: {_RACES} writers in a row were faster")
