"""Manifests: which raw files each ingest brought in.

An ingest writes its manifest under a number that nobody used, then commits to the histories with
that number as its application transaction. A manifest counts if the table's transaction leads to
it: each one names the one that its snapshot of the table had. So one whose ingest died before the
commit, or lost a race, is never believed, and its number is never used again.

To find out what is known takes few reads, however many ingests there were: beside its own files,
manifest number i of the chain repeats those of the ones before it, as many as the lowest bit of i
says (a Fenwick tree), and names the next one to read. What was in stays known when the raw file is
deleted.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, CorruptError, NotFoundError
from ray_job.bucket.storage import Storage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """A raw file that was brought in. `delivered` is in microseconds since 1970, UTC."""

    key: str
    generation: str
    checksum: str
    delivered: int
    kind: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """`previous` is the transaction that the ingest built on, 0 for the first one."""

    number: int
    previous: int
    position: int
    next: int
    attempt: str
    made_at: datetime
    files: tuple[Entry, ...]
    rows: int
    bytes: int
    stores: int
    repeated: tuple[tuple[str, str, str, int], ...] = ()
    """(key, generation, checksum, delivered) of the earlier manifests that this one covers."""
    newest_sales: date | None = None
    """The last date that has sales, in this ingest or one that it builds on."""

    def to_json(self) -> builtins.bytes:
        newest = None if self.newest_sales is None else self.newest_sales.isoformat()
        told = asdict(self) | {"made_at": self.made_at.isoformat(), "newest_sales": newest}
        delivered = [entry.delivered for entry in self.files]
        told["delivered"] = [min(delivered), max(delivered)] if delivered else None
        return json.dumps(told, indent=None, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, key: str, data: builtins.bytes) -> Manifest:
        try:
            told: dict[str, Any] = json.loads(data)
            told.pop("delivered")
            told["made_at"] = datetime.fromisoformat(told["made_at"])
            if told["newest_sales"] is not None:
                told["newest_sales"] = date.fromisoformat(told["newest_sales"])
            told["files"] = tuple(Entry(**entry) for entry in told["files"])
            told["repeated"] = tuple(tuple(one) for one in told["repeated"])
            return cls(**told)
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptError(f"{key}: this is not a manifest of an ingest") from error


@dataclass(slots=True)
class Known:
    """A raw file that is in: the generation seen last, and every content that was brought in."""

    generation: str
    checksums: set[str]


@dataclass(slots=True)
class Past:
    """What the ingests up to transaction `number` brought in."""

    number: int = 0
    chain: list[Manifest] = field(default_factory=list)
    files: dict[str, Known] = field(default_factory=dict)
    delivered: set[int] = field(default_factory=set)


def read_past(storage: Storage, number: int) -> Past:
    """What is in as of the table's transaction `number`. Raises CorruptError, or StorageError."""
    past = Past(number)
    while number:
        key = keys.manifest(number)
        try:
            manifest = Manifest.from_json(key, storage.read(key))
        except NotFoundError as error:
            raise CorruptError(f"{key}: the manifest of a committed ingest is missing") from error
        past.chain.append(manifest)
        number = manifest.next
    for manifest in reversed(past.chain):
        own = ((one.key, one.generation, one.checksum, one.delivered) for one in manifest.files)
        for name, generation, checksum, delivered in (*manifest.repeated, *own):
            known = past.files.setdefault(name, Known(generation, set()))
            known.generation = generation
            known.checksums.add(checksum)
            past.delivered.add(delivered)
    return past


def next_manifest(
    past: Past,
    number: int,
    attempt: str,
    files: Sequence[Entry],
    stores: int,
    now: datetime,
    newest_sales: date | None = None,
) -> Manifest:
    """The manifest that follows `past`, under the free number `number`.

    `newest_sales` is the last date of these files that has sales.
    """
    known = [*(manifest.newest_sales for manifest in past.chain[:1]), newest_sales]
    position = past.chain[0].position + 1 if past.chain else 1
    covered = position - (position & -position)
    repeated: list[tuple[str, str, str, int]] = []
    following = 0
    for manifest in past.chain:
        if manifest.position <= covered:
            following = manifest.number
            break
        repeated[:0] = manifest.repeated + tuple(
            (one.key, one.generation, one.checksum, one.delivered) for one in manifest.files
        )
    return Manifest(
        number=number,
        previous=past.number,
        position=position,
        next=following,
        attempt=attempt,
        made_at=now,
        files=tuple(files),
        rows=sum(entry.rows for entry in files),
        bytes=sum(entry.bytes for entry in files),
        stores=stores,
        repeated=tuple(repeated),
        newest_sales=max((day for day in known if day is not None), default=None),
    )


def write_manifest(
    storage: Storage,
    past: Past,
    attempt: str,
    files: Sequence[Entry],
    stores: int,
    now: datetime,
    newest_sales: date | None = None,
) -> Manifest:
    """Write the manifest that follows `past` under the first number that nobody used.

    Only the writer knows the number as its own: a manifest that lies there already belongs to an
    ingest that died or is about to commit, and is left alone.
    """
    number = past.number + 1
    while True:
        manifest = next_manifest(past, number, attempt, files, stores, now, newest_sales)
        try:
            storage.create(keys.manifest(number), manifest.to_json())
        except ConflictError:
            number += 1
        else:
            return manifest


def newest_sales(storage: Storage, number: int) -> date | None:
    """The last date that has sales, as of the table's transaction `number`."""
    if not number:
        return None
    key = keys.manifest(number)
    return Manifest.from_json(key, storage.read(key)).newest_sales


def is_in(storage: Storage, number: int, manifest: Manifest) -> bool:
    """Whether the table whose transaction is `number` holds the ingest of `manifest`."""
    while number > manifest.number:
        key = keys.manifest(number)
        number = Manifest.from_json(key, storage.read(key)).previous
    return number == manifest.number


def delivery_times(created: Mapping[str, datetime], taken: Iterable[int]) -> dict[str, int]:
    """When each raw file was delivered, in microseconds since 1970, by key.

    The object's creation time, made later where another delivery has the same: by the order of
    (created, key) among these files, and later than those of earlier ingests.
    """
    used = set(taken)
    times: dict[str, int] = {}
    last = 0
    for key, moment in sorted(created.items(), key=lambda item: (item[1], item[0])):
        last = max((moment - _EPOCH) // timedelta(microseconds=1), last + 1)
        while last in used:
            last += 1
        times[key] = last
    return times
