"""The interface to the bucket. A local directory and Google Cloud Storage implement it.

Both implementations behave the same: one test suite runs over both. `create` never overwrites an
object. `replace` is a compare-and-set on the generation that was read. Both are idempotent for the
same bytes, so that a caller may repeat a call whose answer was lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object's description. Generations can be compared for equality, nothing more."""

    key: str
    size: int
    generation: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Versioned:
    """An object's bytes and the generation that they are of."""

    data: bytes
    generation: str


class Storage(Protocol):
    """Objects by key. Each method may raise StorageError, or CorruptError for a wrong checksum.

    The methods that write raise InputError for a key that programs would read differently, before
    anything is written; see `keys.check`.
    """

    @property
    def url(self) -> str:
        """The address with which `open_bucket` opens the same storage in another process."""

    def read(self, key: str) -> bytes:
        """The object's bytes, with one request. Raises NotFoundError."""

    def read_range(self, key: str, begin: int, end: int) -> bytes:
        """The object's bytes from `begin` up to and without `end`. Raises NotFoundError.

        The storage verifies no checksum here. The caller has to verify one of its own.
        """

    def read_versioned(self, key: str) -> Versioned:
        """The object's bytes with their generation. Raises NotFoundError."""

    def read_if_changed(self, key: str, generation: str) -> Versioned | None:
        """The object, or None if it is still of `generation`. Raises NotFoundError."""

    def stat(self, key: str) -> ObjectInfo | None:
        """The object's description, None if there is no such object."""

    def checksum(self, info: ObjectInfo) -> str:
        """The CRC32C of the object's content, as `crc32c:<8 hex digits>`."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins with `prefix`, in order of keys."""

    def create(self, key: str, data: bytes) -> None:
        """Write a new object. Raises ConflictError if the key holds other bytes."""

    def replace(self, key: str, data: bytes, generation: str | None) -> str:
        """Write the object if it is still of `generation`; None means that it must not exist.

        Returns the new generation. Raises ConflictError if another writer was first.
        """

    def write_unseen(self, key: str, data: bytes) -> None:
        """Write an object that nobody reads until another object names it.

        The write is unconditional. It is durable only after `sync`.
        """

    def sync(self) -> None:
        """Make all objects of `write_unseen` durable."""

    def remove_leftovers(self, before: datetime) -> int:
        """Delete what writers that were killed before this moment left of their temporary files.

        Returns their number. No `list` shows these files.
        """

    def delete(self, key: str, generation: str) -> None:
        """Delete the object of `generation`. Does nothing if there is no object.

        Raises ConflictError if the object is of another generation.
        """

    def upload(self, path: Path, key: str) -> None:
        """Write a file's content as a new object. Raises ConflictError as `create` does."""

    def download(self, key: str, path: Path) -> None:
        """Write the object's content to a new file. Raises NotFoundError."""

    def delta(self, root: str) -> tuple[str, dict[str, str]]:
        """The address of the Delta table at `root`, and the storage options of delta-rs for it."""
