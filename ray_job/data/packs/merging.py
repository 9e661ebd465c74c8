"""Keeping the number of packs small: small ones are joined, those that nothing needs are left out.

Both are bounded work, and decide nothing: a pack proves what it is wherever its bytes lie. The
objects of packs that are left out are deleted by clean-up.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import uuid4

import google_crc32c

from ray_job.bucket import keys
from ray_job.bucket.errors import NotFoundError
from ray_job.bucket.storage import Storage
from ray_job.data.packs.index import (
    PackIndex,
    PackRecord,
    Section,
    change_index,
    file_name,
    read_index,
    sorted_index,
)
from ray_job.data.requests import map_in_order

_SMALL_BYTES = 32 * 2**20
"""One day of 100,000 stores takes 9 MB. What is not small is not joined again: so each row is
copied a few times at most, and a join needs the memory of some packs of this size."""
_MOST_SMALL = 4
"""With more small packs than that they are joined: a chunk sends a request to each pack."""


def join_small_packs(storage: Storage, most: int = _MOST_SMALL) -> None:
    """Join the small packs into one if there are more than `most`. Harmless beside others.

    Raises StorageError.
    """
    small = [pack for pack in read_index(storage).packs if pack.bytes <= _SMALL_BYTES]
    if len(small) <= most:
        return
    pieces: list[tuple[Section, bytes]] = []
    for sections in map_in_order(storage, lambda pack: _whole_sections(storage, pack), small):
        pieces += sections
    # Neighbours by hash lie side by side, so that a chunk gets them with one request.
    pieces.sort(key=lambda piece: piece[0].first)
    sections_of_pack: list[Section] = []
    size = 0
    for section, data in pieces:
        sections_of_pack.append(section._replace(offset=size))
        size += len(data)
    joined = PackRecord(
        key=keys.pack(uuid4().hex),
        sections=tuple(sections_of_pack),
        stores=sum(pack.stores for pack in small),
        rows=sum(pack.rows for pack in small),
        bytes=size,
        first_delivered=min(pack.first_delivered for pack in small),
        files=tuple(sorted({name for pack in small for name in pack.files})),
    )
    if pieces:
        storage.write_unseen(joined.key, b"".join(data for _, data in pieces))
        storage.sync()
    replaced = {pack.key for pack in small}

    def change(index: PackIndex) -> PackIndex:
        if not replaced <= {pack.key for pack in index.packs}:
            return index  # another process was faster
        kept = [pack for pack in index.packs if pack.key not in replaced]
        return sorted_index([*kept, joined] if pieces else kept)

    change_index(storage, change)


def leave_out_unused_packs(storage: Storage, known: PackIndex, paths: Collection[str]) -> None:
    """Leave out the packs of `known` none of whose files is among the table's `paths`.

    `known` must have been read before the table was opened: a pack that was published since then
    may have newer files.
    """
    live = {file_name(path) for path in paths}
    unused = {pack.key for pack in known.packs if live.isdisjoint(pack.files)}
    if unused:
        change_index(
            storage,
            lambda index: sorted_index([pack for pack in index.packs if pack.key not in unused]),
        )


def _whole_sections(storage: Storage, pack: PackRecord) -> list[tuple[Section, bytes]]:
    """The sections of a pack that are not damaged, with their bytes."""
    try:
        data = storage.read(pack.key)
    except NotFoundError:
        return []
    pieces = [
        (section, data[section.offset : section.offset + section.length])
        for section in pack.sections
    ]
    return [piece for piece in pieces if google_crc32c.value(piece[1]) == piece[0].crc32c]
