"""Clean-up: deletes what nothing reaches any more, and vacuums the histories.

Reached is what the pointer names, in whatever place, and what the releases that it names refer to.
Everything else under results/ that is older than seven days is an orphan: a part of a run that was
never published, a release that lost its race, the receipt of a forgotten run. Runs adopt unreached
parts only while they are younger than six days, so that nothing is deleted under their hands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow.compute as pc

from ray_job.bucket import keys, pointer, releases
from ray_job.bucket.errors import ConflictError, CorruptError, InputError, NotFoundError
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.storage import ObjectInfo, Storage
from ray_job.data import delta

FLOOR = timedelta(days=7)
_FOLDERS = (keys.PARTS, keys.RELEASES, keys.RECEIPTS, keys.ACCURACY)
_TABLES = (keys.BATCH_DATA, *(keys.context(kind) for kind in keys.CONTEXT_KINDS))


@dataclass(frozen=True, slots=True)
class CleanUp:
    """How many objects under results/ were deleted, and files of the tables as delta-rs counts
    them: those that earlier clean-ups deleted may be among them."""

    objects: int
    bytes: int
    table_files: int


def clean_up(storage: Storage, now: datetime, older_than: timedelta = FLOOR) -> CleanUp:
    """Delete orphans that are older. Safe to run beside everything else, and again.

    Raises InputError for an age below the floor; CorruptError or NotFoundError, having deleted
    nothing, where a release that the pointer names cannot be read: what it reaches is not known.
    """
    if older_than < FLOOR:
        raise InputError(
            f"--older-than: {FLOOR.days} days is the least, since runs and readers count on them"
        )
    # In this order: what was published since the listing is not yet old.
    old = [
        info
        for folder in _FOLDERS
        for info in storage.list(folder)
        if now - info.created > older_than
    ]
    current, _ = pointer.read(storage)
    reached = reachable(storage, current)
    deleted = [info for info in old if info.key not in reached and _delete(storage, info)]
    return CleanUp(
        objects=len(deleted),
        bytes=sum(info.size for info in deleted),
        table_files=sum(_vacuum(storage, root, older_than) for root in _TABLES),
    )


def reachable(storage: Storage, current: Pointer) -> set[str]:
    """The keys that the pointer names, and those that its releases do.

    A damaged release that a rollback marked as bad reaches nothing: nobody reads or continues it.
    """
    found = {keys.POINTER, *current.accuracy.values()}
    for entry in current.history:
        found.add(keys.release(entry.release))
        found.add(keys.receipt(entry.as_of, entry.run_id))
        try:
            stores = releases.load(storage, entry.release, entry.sha256).stores
        except (CorruptError, NotFoundError):
            if entry.release in current.bad:
                continue
            raise
        found.update(_parts(stores["parts"]))
    return found


def _parts(column: object) -> Iterator[str]:
    yield from pc.unique(pc.struct_field(pc.list_flatten(column), "part")).to_pylist()


def _delete(storage: Storage, info: ObjectInfo) -> bool:
    try:
        storage.delete(info.key, info.generation)
    except ConflictError:
        return False
    return True


def _vacuum(storage: Storage, root: str, older_than: timedelta) -> int:
    table = delta.open_table(storage, root)
    return 0 if table is None else len(delta.vacuum(table, older_than))
