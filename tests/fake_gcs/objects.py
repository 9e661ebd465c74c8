"""What lies in the buckets: bodies, generations, and the rules of conditional writes.

Every write is checked and done under one lock, so that of any number of racing
writers with the same precondition exactly one wins. Generations come from one counter
with uneven steps: unique, also for a key that was deleted and written again, and
growing here, though the real storage promises no order and nobody may lean on one.
"""

from __future__ import annotations

import base64
import hashlib
import random
import threading
from bisect import bisect_left, insort
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import google_crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

FIRST_GENERATION = 1_700_000_000_000_000
LARGEST_PAGE = 1000


class Refusal(Exception):  # noqa: N818 - an answer of the storage, not a failure of it
    """The storage says no: an HTTP status, the JSON API's reason, and a sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Stored:
    """One generation of an object. `fields` are the writable ones of the JSON resource."""

    bucket: str
    key: str
    body: bytes
    generation: int
    created: datetime
    updated: datetime
    crc32c: str
    md5: str | None
    fields: Mapping[str, Any]
    metageneration: int = 1
    components: int | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """Preconditions of one request; None asks nothing, generation 0 stands for absence."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    def check(self, current: Stored | None, *, reading: bool) -> None:
        """Raise the refusal (412; 304 for a read's "not match") that `current` calls for."""
        generation = current.generation if current else 0
        metageneration = current.metageneration if current else 0
        if self.generation_match not in (None, generation) or self.metageneration_match not in (
            None,
            metageneration,
        ):
            raise Refusal(412, "conditionNotMet", "At least one precondition did not hold.")
        if (
            self.generation_not_match == generation
            or self.metageneration_not_match == metageneration
        ):
            if reading:
                raise Refusal(304, "notModified", "Not Modified")
            raise Refusal(412, "conditionNotMet", "At least one precondition did not hold.")


ALWAYS = Conditions()


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing; `resume` is the first key of the next one, or None."""

    items: list[Stored]
    prefixes: list[str]
    resume: str | None


@dataclass(slots=True)
class Bucket:
    name: str
    created: datetime
    objects: dict[str, Stored] = field(default_factory=dict)
    ordered: list[str] = field(default_factory=list)


def crc32c(body: bytes) -> str:
    """The checksum as Google writes it: base64 of its four bytes, the highest first."""
    return base64.b64encode(google_crc32c.value(body).to_bytes(4, "big")).decode()


def md5(body: bytes) -> str:
    """base64 of the digest."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


class Store:
    """Buckets and objects in memory; every method may be called from any thread."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.lock = threading.RLock()
        self._buckets: dict[str, Bucket] = {}
        self._generation = FIRST_GENERATION
        self._steps = random.Random(20)

    def create_bucket(self, name: str) -> Bucket:
        with self.lock:
            if name in self._buckets:
                raise Refusal(409, "conflict", f"Bucket {name} exists already.")
            self._buckets[name] = Bucket(name, self._now())
            return self._buckets[name]

    def drop_bucket(self, name: str, *, with_objects: bool = False) -> None:
        with self.lock:
            if self.bucket(name).objects and not with_objects:
                raise Refusal(409, "conflict", f"Bucket {name} is not empty.")
            del self._buckets[name]

    def bucket(self, name: str) -> Bucket:
        with self.lock:
            if name not in self._buckets:
                raise Refusal(404, "bucketNotFound", "The specified bucket does not exist.")
            return self._buckets[name]

    def bucket_names(self) -> list[str]:
        with self.lock:
            return sorted(self._buckets)

    def find(self, bucket: str, key: str, generation: int | None = None) -> Stored | None:
        """The object, or None; an overwritten generation is gone, as without versioning."""
        with self.lock:
            stored = self.bucket(bucket).objects.get(key)
        return (
            stored if generation is None or (stored and stored.generation == generation) else None
        )

    def get(
        self,
        bucket: str,
        key: str,
        generation: int | None = None,
        conditions: Conditions = ALWAYS,
    ) -> Stored:
        stored = self.find(bucket, key, generation)
        if stored is None:
            raise Refusal(404, "notFound", f"No such object: {bucket}/{key}")
        conditions.check(stored, reading=True)
        return stored

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        conditions: Conditions = ALWAYS,
        fields: Mapping[str, Any] | None = None,
        components: int | None = None,
    ) -> Stored:
        """Write a new generation; an object of several components carries no md5."""
        sums = crc32c(body), None if components else md5(body)
        with self.lock:
            home = self.bucket(bucket)
            conditions.check(home.objects.get(key), reading=False)
            self._generation += self._steps.randint(1, 5_000_000)
            now = self._now()
            stored = Stored(
                bucket,
                key,
                body,
                self._generation,
                now,
                now,
                *sums,
                dict(fields or {}),
                1,
                components,
            )
            if key not in home.objects:
                insort(home.ordered, key)
            home.objects[key] = stored
            return stored

    def delete(
        self,
        bucket: str,
        key: str,
        generation: int | None = None,
        conditions: Conditions = ALWAYS,
    ) -> None:
        with self.lock:
            home = self.bucket(bucket)
            stored = self.find(bucket, key, generation)
            if stored is None:
                raise Refusal(404, "notFound", f"No such object: {bucket}/{key}")
            conditions.check(stored, reading=False)
            del home.objects[key]
            del home.ordered[bisect_left(home.ordered, key)]

    def patch(
        self, bucket: str, key: str, fields: Mapping[str, Any], conditions: Conditions = ALWAYS
    ) -> Stored:
        """Change fields (None takes one out): same generation, next metageneration."""
        with self.lock:
            stored = self.find(bucket, key)
            if stored is None:
                raise Refusal(404, "notFound", f"No such object: {bucket}/{key}")
            conditions.check(stored, reading=False)
            merged = {k: v for k, v in {**stored.fields, **fields}.items() if v is not None}
            patched = replace(
                stored,
                fields=merged,
                metageneration=stored.metageneration + 1,
                updated=self._now(),
            )
            self.bucket(bucket).objects[key] = patched
            return patched

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """All keys that begin with `prefix`, sorted."""
        with self.lock:
            ordered = self.bucket(bucket).ordered
            end = bisect_left(ordered, _successor(prefix)) if prefix else len(ordered)
            return ordered[bisect_left(ordered, prefix) : end]

    def page(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        trailing: bool = False,
        resume: str = "",
        start: str = "",
        end: str = "",
        size: int = LARGEST_PAGE,
    ) -> Page:
        """Up to `size` items and common prefixes, in order of their names.

        start is inclusive, end exclusive ("" asks nothing); resume is what the page
        before gave; trailing lists an object that is named like a common prefix as an
        item too.
        """
        items: list[Stored] = []
        prefixes: list[str] = []
        with self.lock:
            home = self.bucket(bucket)
            ordered = home.ordered
            at = bisect_left(ordered, max(prefix, start, resume))
            while at < len(ordered):
                key = ordered[at]
                if not key.startswith(prefix) or (end and key >= end):
                    break
                if len(items) + len(prefixes) >= size:
                    return Page(items, prefixes, key)
                cut = key.find(delimiter, len(prefix)) if delimiter else -1
                if cut < 0:
                    items.append(home.objects[key])
                    at += 1
                else:
                    prefixes.append(key[: cut + len(delimiter)])
                    if trailing and key == prefixes[-1]:
                        items.append(home.objects[key])
                    at = bisect_left(ordered, _successor(prefixes[-1]), at)
        return Page(items, prefixes, None)


def _successor(prefix: str) -> str:
    """The smallest text that is larger than all that begin with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
