"""Manifests: which raw files each ingest brought in.

An ingest writes its manifest under a number that was never used, then commits to the histories with
this number as its application transaction. Each manifest names the manifest of the table's snapshot
that it was built on. A manifest counts only if it is in the chain that starts with the table's
transaction. So the manifest of an ingest that died before its commit, or lost a race, never counts,
and its number is never used again.

To read what was brought in takes few requests, however many ingests there were: manifest number i
of the chain repeats the files of as many earlier ones as the lowest bit of i says (a Fenwick tree),
and names the next manifest to read. A raw file stays known after it was deleted.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from ray_job.bucket import keys
from ray_job.bucket.compatibility import check_format
from ray_job.bucket.errors import ConflictError, CorruptError, NotFoundError
from ray_job.bucket.storage import Storage

_REPEATED_FIELDS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """A raw file that was brought in. `delivered` is in microseconds since 1970, UTC.

    `content` is the SHA-256 of the file after it was decompressed; empty in old manifests.
    """

    key: str
    generation: str
    checksum: str
    delivered: int
    kind: str
    bytes: int
    rows: int
    content: str = ""


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
    repeated: tuple[tuple[str, str, str, int, str], ...] = ()
    """(key, generation, checksum, delivered, content) of the files of earlier manifests that are
    repeated."""
    newest_sales: date | None = None
    """The last date that has sales, in this ingest or an earlier one."""

    def to_json(self) -> builtins.bytes:
        newest = None if self.newest_sales is None else self.newest_sales.isoformat()
        document = asdict(self) | {"made_at": self.made_at.isoformat(), "newest_sales": newest}
        delivered = [entry.delivered for entry in self.files]
        # Version 0.1 drops this key. It refuses a manifest with any other key that it has not.
        document["delivered"] = {
            "first": min(delivered, default=None),
            "last": max(delivered, default=None),
            "contents": [entry.pop("content") for entry in document["files"]],
            "repeated_contents": [content for *_, content in self.repeated],
        }
        document["repeated"] = [file[:-1] for file in self.repeated]
        return json.dumps(document, indent=None, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, key: str, data: builtins.bytes) -> Manifest:
        try:
            document: dict[str, Any] = json.loads(data)
            check_format(document.get("format"), key)
            delivered = document["delivered"]
            added = delivered if isinstance(delivered, dict) else {}
            document["made_at"] = datetime.fromisoformat(document["made_at"])
            if document["newest_sales"] is not None:
                document["newest_sales"] = date.fromisoformat(document["newest_sales"])
            # Version 0.2.0 had the digests of contents beside the other fields, 0.1 had none.
            contents = [*added.get("contents", [""] * len(document["files"]))]
            document["files"] = [
                {"content": content} | entry
                for entry, content in zip(document["files"], contents, strict=True)
            ]
            contents = [*added.get("repeated_contents", [""] * len(document["repeated"]))]
            document["repeated"] = tuple(
                (*file, content)[:_REPEATED_FIELDS]
                for file, content in zip(document["repeated"], contents, strict=True)
            )
            manifest = _adapter().validate_python(document)
            # Otherwise whoever follows them could read in circles.
            if not max(manifest.previous, manifest.next) < manifest.number:
                raise ValueError("it names itself or a later one")  # noqa: TRY301
            if key != keys.manifest(manifest.number):
                raise ValueError("it is that of another ingest")  # noqa: TRY301
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CorruptError(f"{key}: this is not a manifest of an ingest") from error
        return manifest


@cache
def _adapter() -> TypeAdapter[Manifest]:
    """Checks the types of all fields. Others are ignored: a newer version may have written more."""
    return TypeAdapter(Manifest)


@dataclass(slots=True)
class KnownFile:
    """A raw file that was brought in: its last generation, and of every content the checksum, the
    time of delivery and the digest."""

    generation: str
    checksums: set[str] = field(default_factory=set)
    delivered: set[int] = field(default_factory=set)
    contents: set[str] = field(default_factory=set)


@dataclass(slots=True)
class PastIngests:
    """What the ingests up to transaction `number` brought in."""

    number: int = 0
    chain: list[Manifest] = field(default_factory=list)
    files: dict[str, KnownFile] = field(default_factory=dict)
    delivered: set[int] = field(default_factory=set)


def read_past(storage: Storage, number: int) -> PastIngests:
    """What was brought in up to the table's transaction `number`.

    Raises CorruptError where a manifest is missing or damaged, or StorageError.
    """
    past = PastIngests(number)
    while number:
        manifest = _read(storage, number)
        past.chain.append(manifest)
        number = manifest.next
    for manifest in reversed(past.chain):
        own = (
            (entry.key, entry.generation, entry.checksum, entry.delivered, entry.content)
            for entry in manifest.files
        )
        for name, generation, checksum, delivered, content in (*manifest.repeated, *own):
            known = past.files.setdefault(name, KnownFile(generation))
            known.generation = generation
            known.checksums.add(checksum)
            known.delivered.add(delivered)
            known.contents.add(content)
            past.delivered.add(delivered)
    return past


def _read(storage: Storage, number: int) -> Manifest:
    key = keys.manifest(number)
    try:
        return Manifest.from_json(key, storage.read(key))
    except NotFoundError as error:
        raise CorruptError(f"{key}: the manifest of a committed ingest is missing") from error


def next_manifest(
    past: PastIngests,
    number: int,
    attempt: str,
    files: Sequence[Entry],
    stores: int,
    now: datetime,
    newest_sales: date | None = None,
) -> Manifest:
    """The manifest that follows `past`, under the free number `number`.

    `newest_sales` is the last date of these files that has sales. A newest date of `past` that is
    still to come was a mistake, and is forgotten.
    """
    latest = now.date() + timedelta(days=1)
    earlier = (manifest.newest_sales for manifest in past.chain[:1])
    known = [*(day for day in earlier if day is None or day <= latest), newest_sales]
    position = past.chain[0].position + 1 if past.chain else 1
    covered = position - (position & -position)
    repeated: list[tuple[str, str, str, int, str]] = []
    following = 0
    for manifest in past.chain:
        if manifest.position <= covered:
            following = manifest.number
            break
        repeated[:0] = manifest.repeated + tuple(
            (entry.key, entry.generation, entry.checksum, entry.delivered, entry.content)
            for entry in manifest.files
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
    past: PastIngests,
    attempt: str,
    files: Sequence[Entry],
    stores: int,
    now: datetime,
    newest_sales: date | None = None,
) -> Manifest:
    """Write the manifest that follows `past` under the first unused number.

    A manifest that exists under a number already belongs to an ingest that died or is about to
    commit, and is left alone.
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
    return _read(storage, number).newest_sales


def is_in(storage: Storage, number: int, manifest: Manifest) -> bool:
    """Whether the table whose transaction is `number` holds the ingest of `manifest`."""
    while number > manifest.number:
        number = _read(storage, number).previous
    return number == manifest.number


def delivery_times(
    created: Mapping[str, datetime], taken: Collection[int], now: datetime
) -> dict[str, int]:
    """When each raw file was delivered, in microseconds since 1970, by key.

    Each is later than those of all earlier ingests, which are `taken`: what is brought in later
    corrects, whatever the clock of its file says. Among these files the order is that of (created,
    key). The time itself is that of the object's creation where the order allows it, and not later
    than `now`.
    """
    times: dict[str, int] = {}
    last = max(taken, default=0)
    for key, moment in sorted(created.items(), key=lambda item: (item[1], item[0])):
        microseconds = (min(moment, now) - _EPOCH) // timedelta(microseconds=1)
        last = max(microseconds, last + 1)
        times[key] = last
    return times
