"""A raw file as an ingest handles it, and the error for raw files that cannot be read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ray_job.bucket import keys
from ray_job.bucket.errors import InputError, NotFoundError
from ray_job.bucket.storage import ObjectInfo

FORMATS = (".csv", ".csv.gz", ".parquet")
_LONGEST = 1_000
"""Sentences are cut after so many characters; a header may be as long as its file."""
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
UNKNOWN_FORMAT = (
    "a raw file's name must end in .csv, .csv.gz or .parquet: rename, convert or remove the file"
)


class BadFilesError(InputError):
    """Raw files that cannot be read. `problems` has a sentence for each, by the file's name.

    The message is the first file's sentence, with the number of the other files.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = {name: _one_line(problem) for name, problem in problems.items()}
        name, problem = next(iter(self.problems.items()))
        name = keys.printable(name)
        others = len(self.problems) - 1
        suffix = f" (and {others} more {'file is' if others == 1 else 'files are'} bad)"
        super().__init__(f"{name}: {problem}{suffix if others else ''}")


def _one_line(sentence: str) -> str:
    """The sentence without line ends and control characters, which values may have, cut if long."""
    printable = "".join(mark if mark.isprintable() else " " for mark in sentence)
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]} …"


def bad_file(name: str, problem: str) -> BadFilesError:
    """The error for the file `name` alone."""
    return BadFilesError({name: problem})


@dataclass(frozen=True, slots=True)
class RawFile:
    """A raw file that is to be read.

    `key` is its key in the bucket, `name` its name in messages, `path` a local file with its
    content. `info` describes the object in the bucket; it is None before the file is uploaded.
    `content` is the SHA-256 of the decompressed content, empty if it cannot be decompressed.
    `version_of` is the key that a file of a command would have if no other file had it; a file that
    lies `in_place` takes the place of what had this key.
    `modified` tells whether a file of a command was changed. `plain` is a plain copy of a CSV file
    that is not plain, without its first `skipped` lines. `replaced_keys` are the keys of raw files
    that this one contains and replaces.
    """

    key: str
    name: str
    path: Path
    checksum: str
    size: int
    info: ObjectInfo | None
    content: str = ""
    modified: int | None = None
    plain: Path | None = None
    skipped: int = 0
    replaced_keys: tuple[str, ...] = ()
    version_of: str = ""
    in_place: bool = False

    @property
    def base(self) -> str:
        """The key that all versions of the file have in common; see `one_name`."""
        return one_name(self.version_of or self.key)

    @property
    def readable(self) -> Path:
        """The local file that is read."""
        return self.plain or self.path

    @property
    def path_columns(self) -> dict[str, str]:
        """The columns in the folders of the key: `store_id=17/a.parquet` has store_id 17."""
        pairs = [folder.partition("=") for folder in self.key.split("/")[:-1] if "=" in folder]
        return {
            unquote(name): "" if text == _HIVE_NULL else unquote(text) for name, _, text in pairs
        }

    @property
    def identity(self) -> tuple[str, ...] | None:
        """What a file of the same content, kind and folder columns has, too. None if not known."""
        return content_identity(self.key, self.content) if self.content else None

    @property
    def kind(self) -> str:
        return keys.raw_kind(self.key)

    @property
    def stored(self) -> ObjectInfo:
        """The description of the object. Raises NotFoundError before the file is uploaded."""
        if self.info is None:
            raise NotFoundError(f"{self.key}: the file is not in the bucket yet")
        return self.info

    @property
    def replaces(self) -> bool:
        """Whether the file replaces all earlier rows of its (store, date) pairs."""
        return keys.raw_replaces(self.key)


def one_name(key: str) -> str:
    """The key in one of the forms that Unicode has for a letter with a mark: a Mac has another."""
    return unicodedata.normalize("NFC", key)


def content_identity(key: str, content: str) -> tuple[str, ...]:
    """What files have in common of which only the first one is brought in."""
    columns = sorted(folder for folder in key.split("/")[:-1] if "=" in folder)
    return (keys.raw_kind(key), str(keys.raw_replaces(key)), content, *columns)


def has_known_format(name: str) -> bool:
    return name.lower().endswith(FORMATS)


def ending_of(key: str) -> str:
    """The ending of a raw file's key, as it is written there: `.csv`, `.csv.gz` or `.parquet`."""
    return next(key[-len(ending) :] for ending in FORMATS if key.lower().endswith(ending))


@contextmanager
def same_problem(files: Sequence[RawFile]) -> Iterator[None]:
    """Raise a BadFilesError of one file as one of all `files`, which have the same header."""
    try:
        yield
    except BadFilesError as error:
        (problem,) = error.problems.values()
        raise BadFilesError({file.name: problem for file in files}) from error
