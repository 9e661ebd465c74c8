"""What a raw file contains after it was decompressed: its digest, and what it begins with."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from ray_job.data.manifest import KnownFile
from ray_job.ingest.reading.raw_files import (
    RawFile,
    content_identity,
    ending_of,
    has_known_format,
    one_name,
)

_BLOCK = 1 << 20
_DIGEST = re.compile(r"(.+)-([0-9a-f]{12})", re.DOTALL)
"""The key of a file, and the beginning of its digest, without the ending."""
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


def keys_of_versions(known: Mapping[str, KnownFile]) -> dict[str, list[str]]:
    """The keys of the files that were given under one name, by the base that they have in common.

    Later ones have a digest in their key. A name may end as those do, such as
    `tills-202611010800.csv`, so that the digest is compared where the manifest has it.
    """
    by_base: dict[str, list[str]] = {}
    for key in known:
        by_base.setdefault(one_name(key), []).append(key)
    for key, file in known.items():
        ending = ending_of(key) if has_known_format(key) else ""
        match = _DIGEST.fullmatch(key.removesuffix(ending))
        base = one_name(match[1] + ending) if match else ""
        if base in by_base and match is not None:
            is_compressed = ending.lower().endswith(".gz")
            if is_compressed or any(content[:12] == match[2] for content in file.contents):
                by_base[base].append(key)
    return by_base


def begins_with(path: Path, start: Path) -> bool:
    """Whether the file at `path` has the content of the file `start`, and perhaps more after it."""
    try:
        with _opened(path) as longer, _opened(start) as shorter:
            while block := shorter.read(_BLOCK):
                if longer.read(len(block)) != block:
                    return False
    except (*_DAMAGED, gzip.BadGzipFile):
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
