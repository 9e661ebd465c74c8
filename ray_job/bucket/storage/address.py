"""Opening a bucket by its address, which has to be the same place for every client.

Google's client, Arrow, delta-rs and the operating system read some characters differently: one of
them cuts an address at `#`, decodes `%20`, or takes a backslash for a slash. An address with such
a character is refused before anything is written. See decision 0103.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from ray_job.bucket.errors import BucketMissingError, InputError
from ray_job.bucket.keys import printable
from ray_job.bucket.storage.directory import DirectoryStorage
from ray_job.bucket.storage.interface import Storage

_GCS = "gs://"
_FILE = "file://"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_READ_DIFFERENTLY = re.compile(r"%[0-9A-Fa-f]{2}|\\")
_CUTS_URL = re.compile(r"[#?]")


def open_bucket(url: str) -> Storage:
    """Open `gs://name[/prefix]`, `file://…` or a directory.

    Raises BucketMissingError if the bucket does not exist, and InputError for any other kind of
    address, and for one that clients read differently.
    """
    if not url.startswith(_GCS):
        return DirectoryStorage.open(local_directory(url))
    name, _, prefix = url.removeprefix(_GCS).partition("/")
    if not name:
        raise InputError(f"{url}: the bucket has no name: an address is gs://name[/prefix]")
    if not _BUCKET_NAME.fullmatch(name):
        raise InputError(
            f"{printable(url)}: {printable(name)!r} is no bucket's name: names have lower-case"
            " letters, digits, '-', '_' and '.'"
        )
    _check(url, prefix, (_READ_DIFFERENTLY, _CUTS_URL))
    if prefix.strip("/") and not {"", ".", ".."}.isdisjoint(prefix.strip("/").split("/")):
        raise InputError(
            f"{url}: a prefix has no empty part and none that is '.' or '..', since programs read"
            " them differently: write it without them"
        )
    # Google's client takes most of a second to import. A directory does not need it.
    from ray_job.bucket.storage.gcs import GcsStorage  # noqa: PLC0415

    return GcsStorage.open(url)


def local_directory(url: str) -> Path:
    """The directory that an address names; a `file://` address is decoded as any URL.

    Raises InputError for an address of another kind, and for one that clients read differently.
    """
    if not url.strip():
        raise InputError(
            "the bucket's address is empty: name one with --bucket or STORECAST_BUCKET"
        )
    path = Path(url)
    if url.startswith(_FILE):
        host, slash, _ = url.removeprefix(_FILE).partition("/")
        if host not in ("", "localhost") or not slash or _CUTS_URL.search(url):
            raise InputError(
                f"{printable(url)}: an address of this kind is file:///directory, with %23 for '#'"
                " and %3F for '?'"
            )
        path = Path(unquote(url.removeprefix(_FILE).removeprefix(host)))
    elif _SCHEME.match(url.strip()):
        raise InputError(
            f"{printable(url)}: a bucket is a directory, file://… or gs://name[/prefix]"
        )
    _check(url, str(path), (_READ_DIFFERENTLY,))
    # What counts is where the directory is: links and a working directory may be above it.
    _check(url, str(path.resolve()), (_READ_DIFFERENTLY,))
    return path


def make_directory(url: str) -> None:
    """Make the directory that an address names, unless it is there. For `gs://` do nothing.

    Raises InputError as `local_directory` does, and BucketMissingError if it cannot be made.
    """
    if url.startswith(_GCS):
        return
    directory = local_directory(url)
    try:
        if not directory.is_file():
            directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BucketMissingError(
            f"{url}: the directory cannot be made: {error.strerror}"
        ) from error


def _check(url: str, name: str, patterns: tuple[re.Pattern[str], ...]) -> None:
    """Raise InputError, which names the first character of `name` that clients read differently."""
    bad = [match[0] for pattern in patterns if (match := pattern.search(name))]
    bad += [mark for mark in name if printable(mark) != mark]
    if bad:
        where = "" if name in url else f" ({printable(name)})"
        raise InputError(
            f"{printable(url)}{where}: programs read {printable(bad[0])!r} in an address"
            " differently, so that one bucket would be two places: choose another name"
        )
