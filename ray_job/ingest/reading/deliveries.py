"""Which raw files are new, how they become local files, and how a file of a command is uploaded.

A raw file is identified by its key and the checksum of its content. The object's generation, which
needs no request, saves the checksum of files that an earlier ingest has read. An object with other
content under an earlier key is a new raw file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ray_job.bucket import keys
from ray_job.bucket.errors import (
    DISK_FULL,
    AccessRefusedError,
    ConflictError,
    CorruptError,
    InputError,
    NotFoundError,
    StorageError,
    StorecastError,
)
from ray_job.bucket.storage import ObjectInfo, Storage
from ray_job.bucket.storage.checksums import crc32c_of_file
from ray_job.bucket.storage.directory import DirectoryStorage
from ray_job.bucket.storage.local_files import open_file, walk
from ray_job.data.manifest import KnownFile
from ray_job.data.requests import is_local, map_in_order
from ray_job.ingest.reading.contents import content_digest, keys_of_versions
from ray_job.ingest.reading.raw_files import (
    UNKNOWN_FORMAT,
    BadFilesError,
    RawFile,
    ending_of,
    has_known_format,
    one_name,
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
        if info.key.endswith("/") or name.startswith(_IGNORED_PREFIXES) or info.key in left_out:
            continue
        earlier = known.get(info.key)
        if earlier is not None and earlier.generation == info.generation:
            continue
        if (why := keys.problem(info.key)) is not None:
            problems[info.key] = f"{why}: rename the file"
        elif not has_known_format(name):
            problems[info.key] = _unreadable(storage, info.key) or UNKNOWN_FORMAT
        new_objects.append(info)
    if problems:
        raise BadFilesError(problems)
    return sorted(new_objects, key=lambda info: (info.created, info.key))


def _unreadable(storage: Storage, key: str) -> str | None:
    """What keeps something in a directory, such as a link to a folder, from being read."""
    try:
        is_local(storage) and storage.read_range(key, 0, 1)
    except (StorageError, CorruptError, NotFoundError) as error:
        return str(error).removeprefix(f"{key}: ")
    return None


def fetch_files(
    storage: Storage,
    objects: Sequence[ObjectInfo],
    known: Mapping[str, KnownFile],
    folder: Path,
    stage: Stage,
) -> list[RawFile]:
    """The objects as local files, downloaded into `folder` if the bucket is not a directory.

    Objects are left out if an earlier ingest has read the same content under the same key, or if
    they were deleted since they were listed. Raises BadFilesError for objects that cannot be read,
    and StorageError if it is the storage that cannot.
    """

    def fetch_file(numbered: tuple[int, ObjectInfo]) -> RawFile | StorecastError | None:
        number, info = numbered
        try:
            path = local_copy(storage, info.key, folder / f"{number}{ending_of(info.key)}")
            checksum = storage.checksum(info) if is_local(storage) else crc32c_of_file(path)
            earlier = known.get(info.key)
            if earlier is not None and checksum in earlier.checksums:
                return None
            content = content_digest(path)
        except (NotFoundError, FileNotFoundError):
            return None
        except (StorageError, CorruptError) as error:
            return error
        return RawFile(info.key, info.key, path, checksum, info.size, info, content)

    files = []
    problems: dict[str, str] = {}
    fetched = map_in_order(storage, fetch_file, enumerate(objects))
    for info, file in zip(objects, fetched, strict=True):
        stage.advance()
        if isinstance(file, RawFile):
            files.append(file)
        elif file is not None:
            problems[info.key] = problem_of_object(storage, info.key, file)
    if problems:
        raise BadFilesError(problems)
    return files


def local_copy(storage: Storage, key: str, path: Path) -> Path:
    """A local file with an object's content: `path`, or the object's own file in a directory.

    Raises NotFoundError, StorageError or CorruptError.
    """
    if isinstance(storage, DirectoryStorage):
        return storage.root / key
    storage.download(key, path)
    return path


def problem_of_object(storage: Storage, key: str, error: StorecastError) -> str:
    """What is wrong with an object that cannot be read. Raises `error` if it is the storage's.

    A refusal, or bytes that never match their checksum, are the object's problem. Any other error
    is if the storage answers about this object meanwhile, and the disk here is not full.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            raise error
        cause = cause.__cause__
    if not isinstance(error, AccessRefusedError | CorruptError):
        try:
            storage.stat(key)
        except StorecastError:
            raise error from None
    return f"{str(error).removeprefix(f'{key}: ')}; the next ingest tries it again"


@dataclass(frozen=True, slots=True)
class Upload:
    """The files of a command: their kind, and whether they replace earlier rows.

    `foreign` are files of batch_data/ that another program wrote: they are copied, too.
    """

    paths: Sequence[Path]
    kind: str
    replaces: bool
    foreign: Sequence[ObjectInfo] = ()


def files_to_upload(
    storage: Storage, command: Upload, known: Mapping[str, KnownFile], folder: Path
) -> list[RawFile]:
    """The files of a command that are not in raw_data yet, each with its future key.

    If another file has the key already, a part of the content's SHA-256 is added to the key.
    `known` are the files of earlier ingests; `folder` is a directory for temporary files. Raises
    InputError for a path that is not a readable raw file.
    """
    files: dict[str, RawFile] = {}
    named = [(path, name, str(path)) for path, name in named_paths(command.paths, command.kind)]
    foreign = list(_foreign_paths(storage, command, known, folder))
    for place, (path, name, label) in enumerate([*named, *foreign]):
        try:
            checksum, status = crc32c_of_file(path), path.stat()
            content = content_digest(path)
        except OSError as error:
            raise InputError(f"{label}: the file cannot be read: {error.strerror}") from error
        key = keys.raw(command.kind, name, replace=command.replaces)
        keys.check(key)
        for candidate in (key, _key_with_digest(key, path)):
            stored = storage.stat(candidate)
            pending = files.get(candidate)
            if stored is not None and storage.checksum(stored) == checksum:
                break
            if pending is not None and pending.checksum == checksum:
                break
            if stored is None and pending is None:
                files[candidate] = RawFile(
                    candidate,
                    label,
                    path,
                    checksum,
                    status.st_size,
                    None,
                    content,
                    modified=status.st_mtime_ns,
                    version_of=key,
                    in_place=place >= len(named),
                )
                break
        else:
            raise ConflictError(
                f"{candidate}: the object exists already, with other content: rename {label}"
            )
    return list(files.values())


def _foreign_paths(
    storage: Storage, command: Upload, known: Mapping[str, KnownFile], folder: Path
) -> Iterator[tuple[Path, str, str]]:
    """(local file, name in raw_data, key) of each foreign file whose content is not known yet."""
    by_base = keys_of_versions(known)
    for number, info in enumerate(command.foreign):
        versions = by_base.get(one_name(keys.raw(command.kind, info.key)), ())
        if not has_known_format(info.key) or (
            versions and any(storage.checksum(info) in known[key].checksums for key in versions)
        ):
            continue
        try:
            path = local_copy(storage, info.key, folder / f"foreign-{number}{ending_of(info.key)}")
        except (StorageError, CorruptError) as error:
            raise BadFilesError({info.key: problem_of_object(storage, info.key, error)}) from error
        yield path, info.key, info.key


def named_paths(paths: Sequence[Path], kind: str) -> list[tuple[Path, str]]:
    """The files at `paths`, each with its name in raw_data. A directory means the files in it.

    Raises InputError for a path that is not a raw file.
    """
    named: list[tuple[Path, str]] = []
    for path in paths:
        if not path.is_dir():
            _check_path(path)
            named.append((path, path.name))
            continue
        folder = path.resolve().name
        if kind == "sales" and (folder in keys.CONTEXT_KINDS or folder == "replace"):
            folder = f"{folder}-files"
        members = _members(path)
        if not members:
            raise InputError(f"{path}: there is no raw file in this directory")
        for member in members:
            _check_path(member)
            named.append((member, f"{folder}/{member.relative_to(path).as_posix()}"))
    return named


def _members(folder: Path) -> list[Path]:
    """What is in a directory of a command and is no directory; links are followed, each once."""
    try:
        walked = walk(str(folder), str(folder.resolve()))
        paths = [Path(parent, name) for parent, names in walked for name in names]
    except OSError as error:
        raise InputError(f"{folder}: the directory cannot be read: {error.strerror}") from error
    return sorted(path for path in paths if not _is_ignored(path.relative_to(folder)))


def _is_ignored(path: Path) -> bool:
    return any(name.startswith(_IGNORED_PREFIXES) for name in path.parts)


def _check_path(path: Path) -> None:
    try:
        os.close(open_file(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read: {error.strerror}") from error
    if path.name.startswith(_IGNORED_PREFIXES):
        raise InputError(f"{path}: a name that begins with . or _ is ignored: rename the file")
    if not has_known_format(path.name):
        raise InputError(f"{path}: {UNKNOWN_FORMAT}")


def _key_with_digest(key: str, path: Path) -> str:
    """`raw_data/a.csv.gz` → `raw_data/a-<12 hex digits of the content's SHA-256>.csv.gz`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    ending = ending_of(key)
    return f"{key.removesuffix(ending)}-{digest}{ending}"


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
    """Raise BadFilesError for files on this machine that were changed while they were read."""
    problems: dict[str, str] = {}
    for file in files:
        if file.info is None:
            is_changed = _modified(file.path) != file.modified
        elif is_local(storage):
            current = storage.stat(file.key)
            is_changed = current is None or current.generation != file.info.generation
        else:
            continue
        if is_changed:
            problems[file.name] = (
                "the file was changed while it was read: ingest it again when it is complete"
            )
    if problems:
        raise BadFilesError(problems)


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
