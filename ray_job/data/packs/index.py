"""The index of all packs: one object, changed by compare-and-set only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, CorruptError, NotFoundError, StorageError
from ray_job.bucket.records import Record
from ray_job.bucket.storage import Storage

HASHES = 2**32
_TRIES = 20


class Section(NamedTuple):
    """The place of a section in its pack, and the first and the last hash of its stores.

    `items` is the range of items that it has of its only store, None if it has all.
    """

    first: int
    last: int
    offset: int
    length: int
    crc32c: int
    items: tuple[str | None, str | None] | None = None


class PackRecord(Record):
    """A pack; its sections are sorted by hash. `first_delivered` is that of all rows."""

    key: str
    sections: tuple[Section, ...]
    stores: int
    rows: int
    bytes: int
    first_delivered: int
    files: tuple[str, ...] = ()
    """The names of the table's files in it, without their folders: one for each commit."""


class PackIndex(Record):
    """The packs that may be of use, those of the earliest rows first."""

    packs: tuple[PackRecord, ...] = ()


NO_PACKS = PackIndex()


def store_hash(store_id: str) -> int:
    """The leading 32 bits of the hash that also groups the chunks of a plan."""
    return int.from_bytes(hashlib.sha256(store_id.encode()).digest()[:4], "big")


def read_index(storage: Storage) -> PackIndex:
    """The index; an empty one where there is none. Raises CorruptError or StorageError."""
    try:
        return PackIndex.from_bytes(storage.read(keys.PACK_INDEX), keys.PACK_INDEX)
    except NotFoundError:
        return PackIndex()


def readable_index(storage: Storage) -> PackIndex:
    """The index; an empty one where it cannot be read, since every reader can do without packs."""
    return index_or_reason(storage)[0]


def index_or_reason(storage: Storage) -> tuple[PackIndex, str | None]:
    """The index; where it cannot be read, an empty one and a sentence. No index is no reason."""
    try:
        return read_index(storage), None
    except (CorruptError, StorageError) as error:
        reason = str(error).partition("\n")[0]
        return NO_PACKS, (
            f"the packs of histories cannot be read ({reason}): each store is read from its"
            " partition, which takes longer and changes no forecast"
        )


def change_index(storage: Storage, change: Callable[[PackIndex], PackIndex]) -> PackIndex:
    """Change the index, however many others do so at once. A damaged index counts as empty.

    Raises ConflictError after many lost races, or StorageError.
    """
    for _ in range(_TRIES):
        generation = None
        index = PackIndex()
        try:
            current = storage.read_versioned(keys.PACK_INDEX)
            generation = current.generation
            index = PackIndex.from_bytes(current.data, keys.PACK_INDEX)
        except (NotFoundError, CorruptError):
            pass
        changed = change(index)
        if changed == index:
            return index
        try:
            storage.replace(keys.PACK_INDEX, changed.model_dump_json().encode(), generation)
        except ConflictError:
            continue
        return changed
    raise ConflictError(f"{keys.PACK_INDEX}: others changed it {_TRIES} times in a row")


def with_packs(index: PackIndex, added: tuple[PackRecord, ...]) -> PackIndex:
    """The index with these packs. Idempotent."""
    known = {pack.key for pack in index.packs}
    return sorted_index([*index.packs, *(pack for pack in added if pack.key not in known)])


def sorted_index(packs: Iterable[PackRecord]) -> PackIndex:
    return PackIndex(packs=tuple(sorted(packs, key=lambda pack: (pack.first_delivered, pack.key))))


def file_name(path: str) -> str:
    """The name of a table's file, without its folder."""
    return path.rpartition("/")[2]
