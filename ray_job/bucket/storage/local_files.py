"""Files of a directory as others leave them: links, pipes, sockets, and folders in their places.

What lies under an object's name and is no readable file is never "nothing there": it is listed, and
whoever reads it gets an error that names it. See decision 0121.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link to itself",
}


class NoFileError(OSError):
    """Something lies there that is no file. `strerror` says what it is."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(0, f"this is {what}, and no file: remove it, or put the file there", path)


def open_file(path: str | Path) -> int:
    """A descriptor of a file to read. Raises OSError; NoFileError for anything but a file.

    A plain open of a pipe waits for somebody who writes to it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        refuse_broken_link(str(path))
        raise
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ELOOP):  # of a socket, and of a link to itself
            raise NoFileError(str(path), _kind(str(path), os.lstat(path))) from error
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NoFileError(str(path), _kind(str(path), status))
    return descriptor


def open_binary(path: str | Path) -> BinaryIO:
    """The same as a file object without a buffer."""
    return os.fdopen(open_file(path), "rb", buffering=0)


def refuse_broken_link(path: str) -> None:
    """Raise NoFileError if the path, or a folder above it, is a link to nothing."""
    above = path
    while not os.path.lexists(above) and above != os.path.dirname(above):  # noqa: PTH120
        above = os.path.dirname(above)  # noqa: PTH120
    if not os.path.exists(above):  # noqa: PTH110 - `Path` is slower, and this is asked often
        raise NoFileError(path, f"a link to nothing ({above})")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there. Raises OSError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "", str(folder)) from error


def _kind(path: str, status: os.stat_result) -> str:
    if stat.S_ISDIR(status.st_mode) and os.path.islink(path):  # noqa: PTH114
        return f"a link to the folder {os.path.realpath(path)}, which is not followed"
    return _KINDS.get(stat.S_IFMT(status.st_mode), "of another kind")


def status_of(path: str) -> os.stat_result | None:
    """Of the file that a path leads to; of a link itself if it leads nowhere. None: nothing there.

    Raises OSError for what cannot be looked at.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - a bucket has hundreds of thousands of files
    except OSError:
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None


def walk(folder: str, root: str, own: Collection[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Each folder at and below `folder`, with the names of its files, and of what is none.

    Linked folders are followed, each folder once. A folder that is deleted meanwhile has no files.
    Below `folder` a folder that cannot be read counts as a file of its parent, which nobody can
    read; so does a link to `root`, to what is above it, or into one of the folders `own` of `root`
    in which `folder` is not. Raises OSError where that is `folder` itself.
    """
    own_paths = [f"{root}/{name}" for name in own if not _contains(f"{root}/{name}", folder)]
    seen: set[tuple[int, int]] = set()
    unreadable: list[str] = []

    def check(error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            refuse_broken_link(folder)
        elif error.filename in (folder, None):
            raise error
        elif not isinstance(error, NotADirectoryError):
            unreadable.append(os.fspath(error.filename))

    for parent, folders, names in os.walk(folder, onerror=check, followlinks=True):
        try:
            status = _status_to_follow(parent, root, own_paths)
        except OSError as error:
            check(error)
            folders.clear()
            continue
        place = (status.st_dev, status.st_ino)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        yield parent, names
    for path in unreadable:
        above, _, name = path.rpartition("/")
        yield above, [name]


def _status_to_follow(folder: str, root: str, own_paths: Collection[str]) -> os.stat_result:
    """Raises NoFileError for a link to a folder around `root`, or in one of `own_paths`."""
    status = os.lstat(folder)
    if stat.S_ISLNK(status.st_mode):
        status, target = os.stat(folder), os.path.realpath(folder)  # noqa: PTH116
        if _contains(target, root) or any(_contains(path, target) for path in own_paths):
            raise NoFileError(folder, _kind(folder, status))
    return status


def _contains(folder: str, path: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
