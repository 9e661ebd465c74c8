"""A bucket in a local directory: the embedded default.

New objects appear whole: they are written under a temporary name, synced and linked or renamed.
What is changed in place is changed under a lock file, so that compare-and-set holds between the
processes of one machine. A generation is a file's inode, time of change and size.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem

from ray_job.bucket.checksums import crc32c_of_file
from ray_job.bucket.errors import BucketMissingError, ConflictError, NotFoundError, StorageError
from ray_job.bucket.interface import ObjectInfo, Versioned

_TEMPORARY = ".storecast-"
_LOCK = f"{_TEMPORARY}folder.lock"
_BLOCK = 4 * 2**20
_SMALL = 64 * 2**10


@contextmanager
def _told(key: str) -> Iterator[None]:
    """Tell an operating system's error as one of ours."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFoundError(f"{key}: there is no such object") from error
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageError(f"{key}: {error.strerror or error}") from error


def _read(path: str) -> bytes:
    """The bytes of a file.

    A run reads hundreds of thousands of small ones: a `Path` and a file object cost half as much
    again as these three calls of the system.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        pieces = [os.read(descriptor, _SMALL)]
        if len(pieces[0]) == _SMALL:
            pieces.extend(iter(lambda: os.read(descriptor, _BLOCK), b""))
    finally:
        os.close(descriptor)
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class DirectoryStorage:
    root: Path

    @classmethod
    def open(cls, root: Path) -> DirectoryStorage:
        if not root.is_dir():
            raise BucketMissingError(f"{root}: there is no such directory to use as a bucket")
        return cls(root.resolve())

    @property
    def url(self) -> str:
        return str(self.root)

    def read(self, key: str) -> bytes:
        with _told(key):
            return _read(os.path.join(self.root, key))  # noqa: PTH118 - see there

    def read_range(self, key: str, begin: int, end: int) -> bytes:
        with _told(key), (self.root / key).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), end - begin, begin)

    def read_versioned(self, key: str) -> Versioned:
        with _told(key), (self.root / key).open("rb", buffering=0) as file:
            return Versioned(file.read(), _generation(os.fstat(file.fileno())))

    def read_if_changed(self, key: str, generation: str) -> Versioned | None:
        with _told(key):
            if _generation((self.root / key).stat()) == generation:
                return None
        return self.read_versioned(key)

    def stat(self, key: str) -> ObjectInfo | None:
        try:
            with _told(key):
                path = self.root / key
                return _info(key, path.stat()) if path.is_file() else None
        except NotFoundError:
            return None

    def checksum(self, info: ObjectInfo) -> str:
        with _told(info.key):
            return crc32c_of_file(self.root / info.key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = self.root / prefix.rpartition("/")[0]
        with _told(prefix):
            paths = sorted(
                (Path(parent) / name).relative_to(self.root).as_posix()
                for parent, _, names in os.walk(folder)
                for name in names
                if not name.startswith(_TEMPORARY)
            )
        for key in paths:
            if key.startswith(prefix) and (info := self.stat(key)) is not None:
                yield info

    def create(self, key: str, data: bytes) -> None:
        with _told(key), self._written(key, data) as temporary:
            try:
                os.link(temporary, self.root / key)
            except FileExistsError:
                if self.read(key) != data:
                    raise ConflictError(f"{key}: the object is there already") from None
            _sync_directory((self.root / key).parent)

    def replace(self, key: str, data: bytes, generation: str | None) -> str:
        with _told(key), self._written(key, data) as temporary, self._locked(key):
            path = self.root / key
            there = _generation(path.stat()) if path.exists() else None
            if there != generation:
                if there is not None and self.read(key) == data:
                    return there
                raise ConflictError(f"{key}: the object was changed by somebody else")
            temporary.replace(path)
            _sync_directory(path.parent)
            return _generation(path.stat())

    def write_unseen(self, key: str, data: bytes) -> None:
        path = self.root / key
        with _told(key):
            try:
                path.write_bytes(data)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def sync(self) -> None:
        os.sync()

    def delete(self, key: str, generation: str) -> None:
        path = self.root / key
        with _told(key), suppress(FileNotFoundError), self._locked(key):
            if _generation(path.stat()) != generation:
                raise ConflictError(f"{key}: the object was changed by somebody else")
            path.unlink()

    def upload(self, path: Path, key: str) -> None:
        target = self.root / key
        with _told(str(path)):
            content = path.stat()
        with _told(key):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _temporary(target.parent) as temporary:
                with path.open("rb") as source, temporary.open("wb") as copy:
                    while block := source.read(_BLOCK):
                        copy.write(block)
                    copy.flush()
                    os.fsync(copy.fileno())
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    if target.stat().st_size != content.st_size or _differ(target, path):
                        raise ConflictError(f"{key}: the object is there already") from None

    def download(self, key: str, path: Path) -> None:
        with _told(key), (self.root / key).open("rb") as source, path.open("xb") as copy:
            while block := source.read(_BLOCK):
                copy.write(block)

    def files(self) -> FileSystem:
        return SubTreeFileSystem(str(self.root), LocalFileSystem())

    def delta(self, root: str) -> tuple[str, dict[str, str]]:
        return str(self.root / root), {}

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        folder = (self.root / key).parent
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary(folder) as temporary:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        # One lock for a folder: a lock of each object would be left behind by each deletion.
        with ((self.root / key).parent / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=folder, prefix=_TEMPORARY)
    os.close(handle)
    path = Path(name)
    path.chmod(0o644)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _differ(one: Path, other: Path) -> bool:
    with one.open("rb") as first, other.open("rb") as second:
        while block := first.read(_BLOCK):
            if block != second.read(_BLOCK):
                return True
    return False


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _generation(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    created = datetime.fromtimestamp(status.st_mtime, UTC)
    return ObjectInfo(key, status.st_size, _generation(status), created)
