"""A pointer that was lost is made again from the releases, receipts and scores in the bucket."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from ray_job.bucket import keys, releases
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError, UnknownFormatError
from ray_job.bucket.lost_pointer import PUBLISHED, readable_receipts
from ray_job.bucket.parts import sha256
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.releases import ReleaseHeader
from ray_job.bucket.storage import Storage
from ray_job.publishing.decide import with_publication
from ray_job.settings import Settings


@dataclass(frozen=True, slots=True)
class RestoredPointer:
    """`release` is current now. `unreadable` are keys that were left out, with the reason.

    `abandoned` were published later than a release that the caller named, and are marked bad.
    """

    release: str
    as_of: date
    publications: int
    abandoned: tuple[str, ...]
    hold_through: date | None
    unreadable: tuple[str, ...]
    repeated: bool = False
    """The pointer was good, and is what releases and receipts say: nothing was written."""


def restore_pointer(
    storage: Storage, settings: Settings, release: str | None = None
) -> RestoredPointer:
    """Write the pointer anew, if it is missing or damaged.

    A release counts as published if a receipt says so, or if a published one is based on it. The
    newest is current, or `release`; then those after it are marked bad, as by a rollback. A hold
    and what earlier rollbacks marked cannot be known. Idempotent: a pointer that is good already
    stays, and is no error if this call would make the same one. Raises InputError if another one is
    good, if no release was published, or if `release` is none of them; UnknownFormatError if a
    newer version wrote the pointer; ConflictError if another writer was faster.
    """
    stored, generation = _stored_pointer(storage)
    headers, unreadable = _headers(storage)
    named = {header.release for header in headers.values()}
    published = _published(headers.values(), readable_receipts(storage))
    if release is not None and release not in named:
        raise InputError(f"{keys.release(release)}: there is no such release, or it is damaged")
    entries = [
        Published(
            release=header.release,
            sha256=digest,
            as_of=header.as_of,
            run_id=header.run_id,
            published_at=header.created_at,
        )
        for digest, header in headers.items()
        if header.release in published or header.release == release
    ]
    if not entries:
        raise InputError(
            f"{keys.RELEASES}: no release was published, so `storecast run` publishes the first one"
        )
    entries.sort(key=lambda entry: (entry.published_at, entry.release))
    pointer = _pointer(entries, release, settings)
    pointer = pointer.model_copy(update={"accuracy": _accuracy(storage, settings)})
    if stored is None:
        storage.replace(keys.POINTER, pointer.to_bytes(), generation)
    elif not _says_the_same(stored, pointer):
        raise InputError(
            f"{keys.POINTER}: the pointer is good; `storecast rollback` moves it to another release"
        )
    current = pointer.current_entry
    if current is None:
        raise AssertionError("a pointer that was restored names a release of its history")
    return RestoredPointer(
        release=current.release,
        as_of=current.as_of,
        publications=len(pointer.history),
        abandoned=pointer.bad,
        hold_through=pointer.hold_through,
        unreadable=tuple(unreadable),
        repeated=stored is not None,
    )


def _stored_pointer(storage: Storage) -> tuple[Pointer | None, str | None]:
    """The pointer if it is good, and the generation of what there is; None for what is missing."""
    try:
        stored = storage.read_versioned(keys.POINTER)
    except NotFoundError:
        return None, None
    try:
        return Pointer.from_bytes(stored.data, keys.POINTER), stored.generation
    except UnknownFormatError:
        raise
    except CorruptError:
        return None, stored.generation


def _says_the_same(stored: Pointer, made: Pointer) -> bool:
    """Whether two pointers name the same releases, under whatever settings they were written."""
    fields = ("current", "history", "bad", "dates", "hold_through")
    return all(getattr(stored, name) == getattr(made, name) for name in fields)


def _headers(storage: Storage) -> tuple[dict[str, ReleaseHeader], list[str]]:
    """The headers of all whole releases by the digest of their bytes, and what is not whole."""
    headers, unreadable = {}, []
    for info in storage.list(keys.RELEASES):
        try:
            data = storage.read(info.key)
            header = releases.decode(data, info.key).header
        except CorruptError as error:
            unreadable.append(str(error))
            continue
        if keys.release(header.release) == info.key:
            headers[sha256(data)] = header
        else:
            unreadable.append(f"{info.key}: the object is the release {header.release}")
    return headers, unreadable


def _published(headers: Iterable[ReleaseHeader], receipts: Iterable[Receipt]) -> set[str]:
    published = {
        receipt.release
        for receipt in receipts
        if receipt.release is not None and receipt.status in PUBLISHED
    }
    bases = {header.release: header.base for header in headers}
    for release in sorted(published):
        base = bases.get(release)
        while base is not None and base not in published:
            published.add(base)
            base = bases.get(base)
    return published


def _pointer(entries: Sequence[Published], release: str | None, settings: Settings) -> Pointer:
    """The pointer after these publications, which are in the order of their times. Pure."""
    target = next((entry for entry in entries if entry.release == release), None)
    abandoned = []
    if target is not None:
        later = entries[entries.index(target) + 1 :]
        abandoned = [entry for entry in later if entry.as_of >= target.as_of]
    pointer = Pointer()
    for entry in entries:
        if entry not in abandoned:
            pointer = with_publication(pointer, entry, settings)
    if target is None:
        return pointer
    kept = {entry.release for entry in (*pointer.history, *abandoned)}
    return pointer.model_copy(
        update={
            "current": target.release,
            "history": tuple(entry for entry in reversed(entries) if entry.release in kept),
            "bad": tuple(entry.release for entry in reversed(abandoned)),
            "hold_through": max((entry.as_of for entry in abandoned), default=None),
        }
    )


def _accuracy(storage: Storage, settings: Settings) -> Mapping[date, str]:
    """The newest scores of each target date, as many days as the settings keep."""
    newest = {}
    for info in sorted(storage.list(keys.ACCURACY), key=lambda info: (info.created, info.key)):
        match = re.fullmatch(
            rf"{keys.ACCURACY}target_date=(\d{{4}}-\d\d-\d\d)/.+\.parquet", info.key
        )
        if match:
            newest[date.fromisoformat(match[1])] = info.key
    days = sorted(newest)[-settings.publish.accuracy_days :]
    return {day: newest[day] for day in days}
