"""Storage: the one interface to the bucket, a local directory or Google Cloud Storage.

Both sides behave the same, which one suite of tests shows. What must not be blind is conditional:
`create` never overwrites, `replace` is a compare-and-set on the generation that was read. Both are
idempotent for the same bytes: a caller whose acknowledgement was lost may call again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pyarrow.fs import FileSystem


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object's description. Generations can be compared for equality, nothing more."""

    key: str
    size: int
    generation: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Versioned:
    data: bytes
    generation: str


class Storage(Protocol):
    """Objects by key. Every method may raise StorageError; CorruptError where a checksum fails."""

    @property
    def url(self) -> str:
        """What `open_bucket` takes to open the same storage again, in another process."""

    def read(self, key: str) -> bytes:
        """The object's bytes, in one request. Raises NotFoundError."""

    def read_range(self, key: str, begin: int, end: int) -> bytes:
        """The object's bytes from `begin` on and before `end`. Raises NotFoundError.

        No checksum is verified: whoever reads a range has one of its own.
        """

    def read_versioned(self, key: str) -> Versioned:
        """The object's bytes with their generation. Raises NotFoundError."""

    def read_if_changed(self, key: str, generation: str) -> Versioned | None:
        """The object, or None while it is still of that generation. Raises NotFoundError."""

    def stat(self, key: str) -> ObjectInfo | None:
        """The object's description, None where there is none."""

    def checksum(self, info: ObjectInfo) -> str:
        """The CRC32C of an object's content, as text."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins with `prefix`, in order of keys."""

    def create(self, key: str, data: bytes) -> None:
        """Write a new object. Raises ConflictError where other bytes lie there already."""

    def replace(self, key: str, data: bytes, generation: str | None) -> str:
        """Write if the object is still of `generation` (None: if there is none).

        Returns the new generation. Raises ConflictError where somebody else was first.
        """

    def write_unseen(self, key: str, data: bytes) -> None:
        """Write an object that nobody reads before something names it: blind, maybe unsynced."""

    def sync(self) -> None:
        """Make everything that was written unseen durable."""

    def delete(self, key: str, generation: str) -> None:
        """Delete that generation. Does nothing where it is gone; ConflictError if it changed."""

    def upload(self, path: Path, key: str) -> None:
        """Write a file's content as a new object. Raises ConflictError like `create`."""

    def download(self, key: str, path: Path) -> None:
        """Write an object's content to a new file. Raises NotFoundError."""

    def files(self) -> FileSystem:
        """The bucket as an Arrow file system whose paths are keys: for partitions and parts."""

    def delta(self, root: str) -> tuple[str, dict[str, str]]:
        """A Delta table's address and delta-rs's storage options for it."""
