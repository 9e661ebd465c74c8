"""A pointer that is missing although releases were published."""

from __future__ import annotations

from collections.abc import Iterator

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import Storage

PUBLISHED = ("published", "published_with_failures")
"""The statuses of runs whose release became visible."""


def readable_receipts(storage: Storage) -> Iterator[Receipt]:
    """All receipts in the bucket without those that are damaged."""
    for info in storage.list(keys.RECEIPTS):
        try:
            yield Receipt.from_bytes(storage.read(info.key), info.key)
        except CorruptError:
            continue


def refuse_lost_pointer(storage: Storage, current: Pointer) -> None:
    """Raise CorruptError if the pointer is missing although a release was published.

    Whoever went on without it would begin a new history, or take every release for an orphan.
    `current` is the pointer as it was read; nothing else is read if it names a release. Where the
    releases are gone, too, there is nothing to go on from, and a run may begin anew.
    """
    if current.current is not None:
        return
    releases = {info.key for info in storage.list(keys.RELEASES)}
    receipts = readable_receipts(storage) if releases else ()
    if any(
        receipt.status in PUBLISHED and keys.release(receipt.release or "") in releases
        for receipt in receipts
    ):
        raise CorruptError(
            f"{keys.POINTER}: there is no such object, although releases were published: make it"
            " again with `storecast restore-pointer`; see docs/restore.md"
        )
