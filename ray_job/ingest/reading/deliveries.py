"""Which raw files are new, how they become local files, and how a file of a command is uploaded.

A raw file is identified by its key and the checksum of its content. The object's generation, which
needs no request, saves the checksum of files that an earlier ingest has read. An object with other
content under an earlier key is a new raw file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, InputError, NotFoundError
from ray_job.bucket.storage import ObjectInfo, Storage
from ray_job.bucket.storage.checksums import crc32c_of_file
from ray_job.bucket.storage.directory import DirectoryStorage
from ray_job.data.manifest import KnownFile
from ray_job.data.requests import is_local, map_in_order
from ray_job.ingest.reading.raw_files import (
    FORMATS,
    UNKNOWN_FORMAT,
    BadFilesError,
    RawFile,
    has_known_format,
)
from ray_job.progress import Stage

_IGNORED_PREFIXES = (".", "_")


def list_new_objects(
    storage: Storage, known: Mapping[str, KnownFile], left_out: Collection[str] = ()
) -> list[ObjectInfo]:
    """The objects in raw_data whose generation no earlier ingest has read, the oldest first.

    `known` are the files of earlier ingests by key. Objects are ignored if their name begins with a
    dot or an underscore, or if their key is in `left_out`. Raises BadFilesError for any other name
    that has no ending of a raw file.
    """
    new_objects = []
    problems: dict[str, str] = {}
    for info in storage.list(keys.RAW_DATA):
        name = PurePosixPath(info.key).name
        is_folder = info.key.endswith("/")
        if is_folder or name.startswith(_IGNORED_PREFIXES) or info.key in left_out:
            continue
        earlier = known.get(info.key)
        if earlier is not None and earlier.generation == info.generation:
            continue
        if not has_known_format(name):
            problems[info.key] = UNKNOWN_FORMAT
        new_objects.append(info)
    if problems:
        raise BadFilesError(problems)
    return sorted(new_objects, key=lambda info: (info.created, info.key))


def fetch_files(
    storage: Storage,
    objects: Sequence[ObjectInfo],
    known: Mapping[str, KnownFile],
    folder: Path,
    stage: Stage,
) -> list[RawFile]:
    """The objects as local files, downloaded into `folder` if the bucket is not a directory.

    Objects are left out if an earlier ingest has read the same content under the same key, or if
    they were deleted since they were listed.
    """

    def fetch_file(numbered: tuple[int, ObjectInfo]) -> RawFile | None:
        number, info = numbered
        if isinstance(storage, DirectoryStorage):
            path = storage.root / info.key
        else:
            path = folder / f"{number}{''.join(PurePosixPath(info.key).suffixes[-2:])}"
            try:
                storage.download(info.key, path)
            except NotFoundError:
                return None
        try:
            checksum = crc32c_of_file(path)
        except FileNotFoundError:
            return None
        earlier = known.get(info.key)
        if earlier is not None and checksum in earlier.checksums:
            return None
        return RawFile(info.key, info.key, path, checksum, info.size, info)

    files = []
    for file in map_in_order(storage, fetch_file, enumerate(objects)):
        stage.advance()
        if file is not None:
            files.append(file)
    return files


def files_to_upload(
    storage: Storage, paths: Sequence[Path], kind: str, *, replace_rows: bool
) -> list[RawFile]:
    """The files of a command that are not in raw_data yet, each with its future key.

    If another file has the key already, a part of the content's SHA-256 is added to the key. Raises
    InputError for a path that is not a readable raw file.
    """
    files: dict[str, RawFile] = {}
    for path in paths:
        _check_path(path)
        try:
            checksum, size = crc32c_of_file(path), path.stat().st_size
        except OSError as error:
            raise InputError(f"{path}: the file cannot be read: {error.strerror}") from error
        key = keys.raw(kind, path.name, replace=replace_rows)
        for candidate in (key, _key_with_digest(key, path)):
            stored = storage.stat(candidate)
            pending = files.get(candidate)
            if stored is not None and storage.checksum(stored) == checksum:
                break
            if pending is not None and pending.checksum == checksum:
                break
            if stored is None and pending is None:
                files[candidate] = RawFile(candidate, str(path), path, checksum, size, None)
                break
        else:
            raise ConflictError(
                f"{candidate}: the object exists already, with other content: rename {path}"
            )
    return list(files.values())


def _check_path(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    if not path.is_file():
        raise InputError(f"{path}: this is a directory: name the files in it")
    if path.name.startswith(_IGNORED_PREFIXES):
        raise InputError(f"{path}: a name that begins with . or _ is ignored: rename the file")
    if not has_known_format(path.name):
        raise InputError(f"{path}: {UNKNOWN_FORMAT}")


def _key_with_digest(key: str, path: Path) -> str:
    """`raw_data/a.csv.gz` → `raw_data/a-<12 hex digits of the content's SHA-256>.csv.gz`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    ending = next(ending for ending in FORMATS if key.lower().endswith(ending))
    return f"{key[: -len(ending)]}-{digest}{key[-len(ending) :]}"


def upload(storage: Storage, file: RawFile) -> RawFile:
    """Copy a file of a command into raw_data. Idempotent.

    Raises ConflictError if the key has got other content, NotFoundError if the new object was
    deleted at once.
    """
    storage.upload(file.path, file.key)
    info = storage.stat(file.key)
    if info is None:
        raise NotFoundError(f"{file.key}: the object was deleted right after its upload")
    return replace(file, info=info)


def check_unchanged(storage: Storage, files: Iterable[RawFile]) -> None:
    """Raise BadFilesError for files of a directory that were changed while they were read."""
    if not is_local(storage):
        return
    problems: dict[str, str] = {}
    for file in files:
        if file.info is None:
            continue
        current = storage.stat(file.key)
        if current is None or current.generation != file.info.generation:
            problems[file.name] = (
                "the file was changed while it was read: ingest it again when it is complete"
            )
    if problems:
        raise BadFilesError(problems)
