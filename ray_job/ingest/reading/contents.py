"""What a raw file contains after it was decompressed: its digest, and what it begins with."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from ray_job.bucket.errors import NotFoundError
from ray_job.bucket.storage import Storage
from ray_job.data.manifest import KnownFile
from ray_job.ingest.reading.raw_files import RawFile, content_identity

_BLOCK = 1 << 20
_DAMAGED = (EOFError, zlib.error)


def content_digest(path: Path) -> str:
    """The SHA-256 of the file's content, decompressed if it is gzip; empty if it is damaged.

    Raises OSError.
    """
    digest = hashlib.sha256()
    try:
        for block in _blocks(path):
            digest.update(block)
    except (*_DAMAGED, gzip.BadGzipFile):
        return ""
    return digest.hexdigest()


def known_contents(known: Mapping[str, KnownFile]) -> dict[tuple[str, ...], str]:
    """The key of a raw file that was brought in, by the identity of each content."""
    return {
        content_identity(key, content): key
        for key, file in known.items()
        for content in file.contents
        if content
    }


def without_repeated(
    files: Collection[RawFile], known: Mapping[str, KnownFile]
) -> tuple[list[RawFile], dict[str, str]]:
    """The files without those whose content is known, and the key that has it by file name.

    Of several files of the same content the first one stays.
    """
    key_by_identity = known_contents(known)
    staying: list[RawFile] = []
    repeated: dict[str, str] = {}
    for file in files:
        if file.identity is not None and file.identity in key_by_identity:
            repeated[file.name] = key_by_identity[file.identity]
            continue
        if file.identity is not None:
            key_by_identity[file.identity] = file.key
        staying.append(file)
    return staying, repeated


def begins_with_object(storage: Storage, path: Path, key: str, folder: Path) -> bool:
    """Whether the file at `path` has the content of the object `key`, and more after it."""
    earlier = folder / ("earlier.gz" if key.lower().endswith(".gz") else "earlier")
    try:
        storage.download(key, earlier)
    except NotFoundError:
        return False
    try:
        return _begins_with(path, earlier)
    except (*_DAMAGED, gzip.BadGzipFile):
        return False
    finally:
        earlier.unlink()


def _begins_with(path: Path, start: Path) -> bool:
    with _opened(path) as longer, _opened(start) as shorter:
        while block := shorter.read(_BLOCK):
            if longer.read(len(block)) != block:
                return False
    return True


def _blocks(path: Path) -> Iterator[bytes]:
    with _opened(path) as file:
        while block := file.read(_BLOCK):
            yield block


def _opened(path: Path) -> BinaryIO:
    """The file for reading, decompressed if its name says so."""
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")
