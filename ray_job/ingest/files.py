"""Which delivered files are new, and where a file given on the command line goes.

A delivered file is known by its key and the checksum of its content; its generation, which costs
nothing to ask for, spares the checksum of what was seen before. A key under which other content
lies today than was brought in is a new delivery.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ray_job.bucket import keys
from ray_job.bucket.storage.checksums import crc32c_of_file
from ray_job.bucket.storage.directory import DirectoryStorage
from ray_job.bucket.errors import ConflictError, InputError, NotFoundError
from ray_job.bucket.storage import ObjectInfo, Storage
from ray_job.data.manifest import Known
from ray_job.data.requests import in_order, is_local
from ray_job.ingest.bad import BadFilesError
from ray_job.ingest.shapes import FORMATS, has_known_format
from ray_job.progress import Stage

_HIDDEN = (".", "_")


@dataclass(frozen=True, slots=True)
class Source:
    """A delivered file that is brought in. `info` is None until it lies in the bucket."""

    key: str
    name: str
    path: Path
    checksum: str
    size: int
    info: ObjectInfo | None

    @property
    def kind(self) -> str:
        return keys.raw_kind(self.key)

    @property
    def lying(self) -> ObjectInfo:
        """The object in the bucket, which there is once the file was delivered."""
        if self.info is None:
            raise NotFoundError(f"{self.key}: the file is not in the bucket yet")
        return self.info

    @property
    def replaces(self) -> bool:
        return keys.raw_replaces(self.key)


def new_objects(
    storage: Storage, known: Mapping[str, Known], left_out: Collection[str] = ()
) -> list[ObjectInfo]:
    """What lies in raw_data and is not known by its generation, the oldest first.

    Names that begin with a dot or an underscore are nobody's delivery. Raises BadFilesError for any
    other name that is none of a CSV or Parquet file, unless it is to be left out.
    """
    found = []
    unknown: dict[str, str] = {}
    for info in storage.list(keys.RAW_DATA):
        name = PurePosixPath(info.key).name
        if info.key.endswith("/") or name.startswith(_HIDDEN) or info.key in left_out:
            continue
        earlier = known.get(info.key)
        if earlier is not None and earlier.generation == info.generation:
            continue
        if not has_known_format(name):
            unknown[info.key] = f"a delivered file ends in {', '.join(FORMATS)}"
        found.append(info)
    if unknown:
        raise BadFilesError(unknown)
    return sorted(found, key=lambda info: (info.created, info.key))


def fetch(
    storage: Storage,
    objects: Sequence[ObjectInfo],
    known: Mapping[str, Known],
    folder: Path,
    stage: Stage,
) -> list[Source]:
    """The new objects as local files, without those whose content was brought in before.

    An object that is gone since it was listed is left out.
    """

    def one(numbered: tuple[int, ObjectInfo]) -> Source | None:
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
        return Source(info.key, info.key, path, checksum, info.size, info)

    found = []
    for source in in_order(storage, one, enumerate(objects)):
        stage.advance()
        if source is not None:
            found.append(source)
    return found


def given(
    storage: Storage, files: Sequence[Path], kind: str, *, replace_rows: bool
) -> list[Source]:
    """The FILEs of a command that are not in raw_data yet, each with the key that it will have.

    A file whose name is taken by other content gets a name that its checksum makes distinct.
    Raises InputError for what is no readable file.
    """
    sources: dict[str, Source] = {}
    for path in files:
        _check_path(path)
        try:
            checksum, size = crc32c_of_file(path), path.stat().st_size
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        key = keys.raw(kind, path.name, replace=replace_rows)
        for candidate in (key, _distinct(key, path)):
            there = storage.stat(candidate)
            pending = sources.get(candidate)
            if there is not None and storage.checksum(there) == checksum:
                break
            if pending is not None and pending.checksum == checksum:
                break
            if there is None and pending is None:
                sources[candidate] = Source(candidate, str(path), path, checksum, size, None)
                break
        else:
            raise ConflictError(f"{candidate}: the object is there already")
    return list(sources.values())


def _check_path(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    if not path.is_file():
        raise InputError(f"{path}: this is a directory, not a file")
    if path.name.startswith(_HIDDEN):
        raise InputError(f"{path}: a name that begins with . or _ is nobody's delivery")
    if not has_known_format(path.name):
        raise InputError(f"{path}: a delivered file ends in {', '.join(FORMATS)}")


def _distinct(key: str, path: Path) -> str:
    """`raw_data/a.csv.gz` with part of the content's sha256 before its ending."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    ending = next(one for one in FORMATS if key.lower().endswith(one))
    return f"{key[: -len(ending)]}-{digest}{key[-len(ending) :]}"


def deliver(storage: Storage, source: Source) -> Source:
    """Copy a FILE into raw_data: from now on it lies there like any other delivery."""
    storage.upload(source.path, source.key)
    info = storage.stat(source.key)
    if info is None:
        raise NotFoundError(f"{source.key}: the object is gone again")
    return replace(source, info=info)


@contextmanager
def all_of(sources: Sequence[Source]) -> Iterator[None]:
    """What is wrong with the first of these files, which are alike, is wrong with all of them."""
    try:
        yield
    except BadFilesError as error:
        (problem,) = error.problems.values()
        raise BadFilesError({source.name: problem for source in sources}) from error


def check_unchanged(storage: Storage, sources: Iterable[Source]) -> None:
    """Raise BadFilesError for files of a directory that somebody wrote to while they were read."""
    if not is_local(storage):
        return
    changed: dict[str, str] = {}
    for source in sources:
        if source.info is None:
            continue
        there = storage.stat(source.key)
        if there is None or there.generation != source.info.generation:
            changed[source.name] = "the file was changed while it was read"
    if changed:
        raise BadFilesError(changed)
