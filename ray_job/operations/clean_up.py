"""Clean-up: deletes orphans under results/, and vacuums the histories.

An object is reachable if the pointer names it, or if a release that the pointer names refers to it.
Every other object under results/ that is older than seven days is an orphan: a part of a run that
was never published, a release that lost its race, the receipt of a run that the pointer has
forgotten. Runs adopt unreachable parts only while these are younger than six days, so that
clean-up deletes nothing that a run is about to use.
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
    """`objects` under results/ were deleted, of `bytes` in all.

    `table_files` is the number of files of the tables as delta-rs counts them. Files that earlier
    clean-ups deleted may be among them.
    """

    objects: int
    bytes: int
    table_files: int


def clean_up(storage: Storage, now: datetime, older_than: timedelta = FLOOR) -> CleanUp:
    """Delete orphans that are older than `older_than`. Idempotent, and safe beside runs.

    Raises InputError for an age below FLOOR. Raises CorruptError or NotFoundError, and deletes
    nothing, if a release that the pointer names cannot be read: its objects are then not known.
    """
    if older_than < FLOOR:
        raise InputError(
            f"--older-than: {FLOOR.days} days is the least; runs and readers may use newer objects"
        )
    # Listing first, then the pointer: what is published in between is not old yet.
    old = [
        info
        for folder in _FOLDERS
        for info in storage.list(folder)
        if now - info.created > older_than
    ]
    current, _ = pointer.read(storage)
    kept = reachable(storage, current)
    deleted = [info for info in old if info.key not in kept and _delete(storage, info)]
    return CleanUp(
        objects=len(deleted),
        bytes=sum(info.size for info in deleted),
        table_files=sum(_vacuum(storage, root, older_than) for root in _TABLES),
    )


def reachable(storage: Storage, current: Pointer) -> set[str]:
    """The keys that the pointer names, and those that its releases refer to.

    A damaged release that a rollback marked as bad refers to nothing: nobody reads it.
    """
    reached = {keys.POINTER, *current.accuracy.values()}
    for entry in current.history:
        reached.add(keys.release(entry.release))
        reached.add(keys.receipt(entry.as_of, entry.run_id))
        try:
            stores = releases.load(storage, entry.release, entry.sha256).stores
        except (CorruptError, NotFoundError):
            if entry.release in current.bad:
                continue
            raise
        reached.update(_parts(stores["parts"]))
    return reached


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
