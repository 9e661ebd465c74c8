"""Clean-up: deletes orphans under results/, models/ and packs/, and vacuums the tables.

An object is reachable if the pointer names it, or if a release that the pointer names refers to it.
Every other object of a run under results/ that is older than seven days is an orphan: a part of a
run that was never published, a release that lost its race, the receipt of a run that the pointer
has forgotten. The artifact of a training that was killed before it wrote the description is one,
too, if it was never promoted: no command can load it. A pack is an orphan if the index of packs
does not name it. What this program has not written is left alone, wherever it lies. Runs adopt
unreachable parts only while these are younger than six days, so that clean-up deletes nothing that
a run is about to use.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc

from ray_job.bucket import keys, pointer, releases
from ray_job.bucket.errors import (
    AccessRefusedError,
    ConflictError,
    CorruptError,
    InputError,
    NotFoundError,
)
from ray_job.bucket.lost_pointer import refuse_lost_pointer
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.storage import ObjectInfo, Storage
from ray_job.bucket.widths import KeptWidths
from ray_job.data.packs.index import read_index
from ray_job.data.requests import WORKING_FOLDER
from ray_job.data.table_files import ForeignFiles, vacuum
from ray_job.model import registry

FLOOR = timedelta(days=7)
_FOLDERS = (
    keys.PARTS,
    keys.RELEASES,
    keys.RECEIPTS,
    keys.ACCURACY,
    keys.WIDTHS,
    keys.PACKS_OF_FORMAT,
)
_CLOCK_STEP = 86_400.0
"""Seconds by which the clock may have been set meanwhile."""
_TABLES = (keys.BATCH_DATA, *(keys.context(kind) for kind in keys.CONTEXT_KINDS))


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Deleted: `objects` under results/ and packs/, of `bytes` in all, and `table_files` of tables.

    `foreign_files` were left alone, since this program did not write them. `foreign_examples` are
    the keys of some of them.
    """

    objects: int
    bytes: int
    table_files: int
    foreign_files: int = 0
    foreign_examples: tuple[str, ...] = ()
    leftovers: int = 0
    """Temporary files and working folders of commands that were killed, which were deleted."""
    unread_releases: tuple[str, ...] = ()
    """Earlier releases that are damaged or gone: what they may name was left alone."""


def clean_up(storage: Storage, now: datetime, older_than: timedelta = FLOOR) -> CleanUp:
    """Delete orphans that are older than `older_than`. Idempotent, and safe beside runs.

    Raises InputError for an age below FLOOR. Raises CorruptError or NotFoundError, and deletes
    nothing, if the pointer is lost or the current release cannot be read: what is reachable is then
    not known. For an earlier one that cannot be read, the parts of its night and of those before it
    stay.
    """
    if older_than < FLOOR:
        raise InputError(
            f"--older-than: {FLOOR.days} days is the least; runs and readers may use newer objects"
        )
    # Listing first, then the pointer: what is published in between is not old yet.
    listed = [info for folder in _FOLDERS for info in storage.list(folder)]
    old = [
        info for info in listed if now - info.created > older_than and keys.is_own_object(info.key)
    ]
    foreign = [info for info in listed if not keys.is_own_object(info.key)]
    current, _ = pointer.read(storage)
    refuse_lost_pointer(storage, current)
    reached = reachable(storage, current)
    kept = reached.keys | _named_packs(storage)
    old += [info for info in _half_models(storage) if now - info.created > older_than]
    orphans = [info for info in old if info.key not in kept and not reached.may_be_named(info.key)]
    unlike = [info for info in orphans if not _is_what_its_name_says(storage, info.key)]
    foreign += unlike
    deleted = [info for info in orphans if info not in unlike and _delete(storage, info)]
    vacuums = [vacuum(storage, root, now, older_than) for root in _TABLES]
    foreign += [info for table in vacuums for info in table.foreign]
    return CleanUp(
        objects=len(deleted),
        bytes=sum(info.size for info in deleted),
        table_files=sum(len(table.deleted) for table in vacuums),
        foreign_files=len(foreign),
        foreign_examples=ForeignFiles.of(foreign).examples,
        leftovers=storage.remove_leftovers(now - older_than) + _remove_folders(now - older_than),
        unread_releases=tuple(entry.release for entry in reached.unread),
    )


@dataclass(frozen=True, slots=True)
class Reached:
    """The keys that readers reach, and the earlier releases that cannot be read."""

    keys: set[str]
    unread: tuple[Published, ...] = ()

    def may_be_named(self, key: str) -> bool:
        """Whether a release that cannot be read may name the object: one of its nights or before.

        It may come back, by soft delete or from a copy.
        """
        if not key.startswith((keys.PARTS, keys.WIDTHS)):
            return False
        as_of = key.split("as_of=")[1].partition("/")[0]
        return any(as_of <= entry.as_of.isoformat() for entry in self.unread)


def reachable(storage: Storage, current: Pointer) -> Reached:
    """What the pointer names, and what its releases refer to.

    A damaged release that a rollback marked as bad refers to nothing: nobody reads it. Raises
    CorruptError or NotFoundError if the current release cannot be read.
    """
    reached = {keys.POINTER, *current.accuracy.values()}
    unread = []
    for entry in current.history:
        reached.add(keys.release(entry.release))
        reached.add(keys.receipt(entry.as_of, entry.run_id))
        try:
            release = releases.load(storage, entry.release, entry.sha256)
        except (CorruptError, NotFoundError):
            if entry.release == current.current:
                raise
            if entry.release not in current.bad:
                unread.append(entry)
            continue
        reached.update(_parts(release.stores["parts"]))
        reached.add(keys.widths(release.header.as_of, release.header.model_version))
    return Reached(reached, tuple(unread))


def _remove_folders(before: datetime) -> int:
    """Delete the working folders that killed commands left on this machine; their number.

    Their names end with the id of their process, which must have ended. The system gives ids again:
    a process that began after the folder was last changed is another one.
    """
    removed = 0
    for path in Path(tempfile.gettempdir()).glob(f"{WORKING_FOLDER}*"):
        process = path.name.rpartition("-")[2]
        with suppress(OSError):
            changed = path.stat().st_mtime
            is_old = changed < before.timestamp()
            if process.isdecimal() and is_old and not _is_alive(int(process), changed):
                shutil.rmtree(path)
                removed += 1
    return removed


def _is_alive(process: int, since: float) -> bool:
    """Whether the process that ran at this time does so still."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        pass
    began = _beginning(process)
    return began is None or began < since + _CLOCK_STEP


def _beginning(process: int) -> float | None:
    """When a process began, in seconds since 1970; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    boot = next((int(line.split()[1]) for line in lines if line.startswith("btime ")), None)
    return None if boot is None else boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _parts(column: object) -> Iterator[str]:
    yield from pc.unique(pc.struct_field(pc.list_flatten(column), "part")).to_pylist()


def _is_what_its_name_says(storage: Storage, key: str) -> bool:
    """False for an object among the widths that is none of ours: a model may have any name."""
    if not key.startswith(keys.WIDTHS):
        return True
    try:
        widths = KeptWidths.from_bytes(storage.read(key), key)
    except (CorruptError, NotFoundError, AccessRefusedError):
        return False
    return keys.widths(widths.as_of, widths.model_version) == key


def _half_models(storage: Storage) -> Iterator[ObjectInfo]:
    """Artifacts under names of our trainings that are alone, and that no promotion names.

    None where the history of promotions is missing or damaged: then nobody knows.
    """
    try:
        promoted = {promotion.version for promotion in registry.history(storage)}
    except CorruptError:
        promoted = set()
    objects = {info.key: info for info in storage.list(keys.MODELS)} if promoted else {}
    for key, info in objects.items():
        version = key.removeprefix(keys.MODELS).partition("/")[0]
        beside = sum(other.startswith(f"{keys.MODELS}{version}/") for other in objects)
        is_artifact = keys.is_trained(version) and key == keys.model_artifact(version)
        if is_artifact and beside == 1 and version not in promoted:
            yield info


def _named_packs(storage: Storage) -> set[str]:
    try:
        packs = read_index(storage).packs
    except CorruptError:
        packs = ()
    return {keys.PACK_INDEX, *(pack.key for pack in packs)}


def _delete(storage: Storage, info: ObjectInfo) -> bool:
    try:
        storage.delete(info.key, info.generation)
    except ConflictError:
        return False
    return True
