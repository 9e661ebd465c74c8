"""A bucket in a local directory: the default.

A new object becomes visible as a whole: it is written under a temporary name, synced, and then
linked or renamed. A change of an existing object holds a lock file, so that compare-and-set holds
between the processes of one machine. A generation is the file's inode, time of change and size.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ray_job.bucket import keys
from ray_job.bucket.errors import (
    AccessRefusedError,
    BucketMissingError,
    ConflictError,
    CorruptError,
    NotFoundError,
    StorageError,
)
from ray_job.bucket.storage.checksums import crc32c_of_file
from ray_job.bucket.storage.interface import ObjectInfo, Versioned
from ray_job.bucket.storage.local_files import (
    NoFileError,
    make_folder,
    open_binary,
    open_file,
    status_of,
    walk,
)
from ray_job.bucket.storage.temporary import LOCK, TEMPORARY, is_temporary, link, temporary_file

_BLOCK = 4 * 2**20
_SMALL = 64 * 2**10
_LAST = datetime(9000, 1, 1, tzinfo=UTC).timestamp()
"""A file system takes any number as a time: a later one, and one before 1970, are these bounds."""


@contextmanager
def _translated_errors(key: str) -> Iterator[None]:
    """Raise an error of the operating system as an error of ours that names `key`.

    FileExistsError passes: the callers decide what it means.
    """
    try:
        yield
    except NoFileError as error:
        raise CorruptError(f"{key}: {error.strerror}") from error
    except FileNotFoundError as error:
        raise NotFoundError(f"{key}: there is no such object") from error
    except NotADirectoryError as error:
        raise StorageError(f"{key}: a part of this path is a file, and no folder") from error
    except FileExistsError:
        raise
    except PermissionError as error:
        raise AccessRefusedError(f"{key}: {error.strerror}") from error
    except OSError as error:
        raise StorageError(f"{key}: {error.strerror or error}") from error


def _read_file(path: str) -> bytes:
    """The bytes of the file at `path`.

    A run reads hundreds of thousands of small files. A `Path` and a file object would add half of
    the time that these system calls take.
    """
    descriptor = open_file(path)
    try:
        pieces = [os.read(descriptor, _SMALL)]
        if len(pieces[0]) == _SMALL:
            pieces.extend(iter(lambda: os.read(descriptor, _BLOCK), b""))
    finally:
        os.close(descriptor)
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class DirectoryStorage:
    """The `Storage` of a local directory. A key is the path of a file below `root`."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> DirectoryStorage:
        """Raises BucketMissingError if `root` is not a directory."""
        try:
            if root.is_file():
                raise BucketMissingError(f"{root}: this is a file: a bucket is a directory")
            if not root.is_dir():
                raise BucketMissingError(f"{root}: there is no such directory to use as a bucket")
            return cls(root.resolve())
        except OSError as error:
            raise BucketMissingError(f"{root}: {error.strerror}") from error

    @property
    def url(self) -> str:
        return str(self.root)

    def read(self, key: str) -> bytes:
        with _translated_errors(key):
            return _read_file(f"{self.root}/{key}")  # `Path` is slower

    def read_range(self, key: str, begin: int, end: int) -> bytes:
        with _translated_errors(key), open_binary(self.root / key) as file:
            return os.pread(file.fileno(), end - begin, begin)

    def read_versioned(self, key: str) -> Versioned:
        with _translated_errors(key), open_binary(self.root / key) as file:
            return Versioned(file.read(), _generation(os.fstat(file.fileno())))

    def read_if_changed(self, key: str, generation: str) -> Versioned | None:
        with _translated_errors(key):
            if _generation((self.root / key).stat()) == generation:
                return None
        return self.read_versioned(key)

    def stat(self, key: str) -> ObjectInfo | None:
        try:
            with _translated_errors(key):
                path = f"{self.root}/{key}"
                status = status_of(path)
                if status is None:
                    return None
                if stat.S_ISDIR(status.st_mode):
                    os.close(open_file(path))  # raises
                return _info(key, status)
        except NotFoundError:
            return None

    def checksum(self, info: ObjectInfo) -> str:
        with _translated_errors(info.key):
            return crc32c_of_file(self.root / info.key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        # Paths are joined as texts: a `Path` for each of 100,000 objects would take seconds.
        root = str(self.root)
        folder = os.path.join(root, prefix.rpartition("/")[0]).rstrip("/")  # noqa: PTH118
        with _translated_errors(prefix):
            paths = sorted(
                key
                for parent, names in walk(folder, root, keys.FOLDERS)
                for name in names
                if not name.startswith(TEMPORARY)
                and (key := f"{parent}/{name}"[len(root) + 1 :]).startswith(prefix)
            )
        for key in paths:
            with _translated_errors(key):
                status = status_of(f"{root}/{key}")
            if status is not None:
                yield _info(key, status)

    def create(self, key: str, data: bytes) -> None:
        keys.check(key)
        with _translated_errors(key), self._temporary_copy(key, data) as temporary:
            try:
                link(temporary, self.root / key)
            except FileExistsError:
                if self.read(key) != data:
                    raise ConflictError(
                        f"{key}: the object exists already, with other content"
                    ) from None
            _sync_directory((self.root / key).parent)

    def replace(self, key: str, data: bytes, generation: str | None) -> str:
        keys.check(key)
        with (
            _translated_errors(key),
            self._temporary_copy(key, data) as temporary,
            self._folder_lock(key),
        ):
            path = self.root / key
            status = status_of(str(path))
            current = None if status is None else _generation(status)
            if current != generation:
                if current is not None and self.read(key) == data:
                    return current
                raise ConflictError(f"{key}: another writer changed the object")
            temporary.replace(path)
            _sync_directory(path.parent)
            return _generation(path.stat())

    def write_unseen(self, key: str, data: bytes) -> None:
        keys.check(key)
        path = self.root / key
        with _translated_errors(key):
            try:
                path.write_bytes(data)
            except FileNotFoundError:
                make_folder(path.parent)
                path.write_bytes(data)

    def sync(self) -> None:
        os.sync()

    def remove_leftovers(self, before: datetime) -> int:
        removed = 0
        with _translated_errors(str(self.root)):
            for parent, names in walk(str(self.root), str(self.root)):
                for name in names:
                    path = Path(parent, name)
                    if not is_temporary(str(path)[len(str(self.root)) + 1 :]):
                        continue
                    with suppress(FileNotFoundError):  # its writer has ended just now
                        if path.stat().st_mtime < before.timestamp():
                            path.unlink()
                            removed += 1
        return removed

    def delete(self, key: str, generation: str) -> None:
        path = self.root / key
        with _translated_errors(key), suppress(FileNotFoundError), self._folder_lock(key):
            status = status_of(str(path))
            if status is not None and _generation(status) != generation:
                raise ConflictError(f"{key}: another writer changed the object")
            path.unlink()

    def upload(self, path: Path, key: str) -> None:
        keys.check(key)
        target = self.root / key
        with _translated_errors(str(path)):
            source_size = path.stat().st_size
        with _translated_errors(key):
            make_folder(target.parent)
            with temporary_file(target.parent) as temporary:
                with path.open("rb") as source, temporary.open("wb") as copy:
                    while block := source.read(_BLOCK):
                        copy.write(block)
                    copy.flush()
                    os.fsync(copy.fileno())
                try:
                    link(temporary, target)
                except FileExistsError:
                    status = status_of(str(target))
                    is_other = status is None or status.st_size != source_size
                    if is_other or _content_differs(target, path):
                        raise ConflictError(
                            f"{key}: the object exists already, with other content"
                        ) from None

    def download(self, key: str, path: Path) -> None:
        with (
            _translated_errors(key),
            open_binary(self.root / key) as source,
            path.open("xb") as copy,
        ):
            while block := source.read(_BLOCK):
                copy.write(block)

    def delta(self, root: str) -> tuple[str, dict[str, str]]:
        return str(self.root / root), {}

    @contextmanager
    def _temporary_copy(self, key: str, data: bytes) -> Iterator[Path]:
        folder = (self.root / key).parent
        make_folder(folder)
        with temporary_file(folder) as temporary:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary

    @contextmanager
    def _folder_lock(self, key: str) -> Iterator[None]:
        # The lock is the folder's: a deletion would leave a lock file of the object behind.
        with ((self.root / key).parent / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _content_differs(path: Path, other_path: Path) -> bool:
    """Whether two files of one size differ."""
    with open_binary(path) as file, open_binary(other_path) as other_file:
        while block := file.read(_BLOCK):
            if block != other_file.read(_BLOCK):
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
    created = datetime.fromtimestamp(min(max(status.st_mtime, 0), _LAST), UTC)
    return ObjectInfo(key, status.st_size, _generation(status), created)
