"""A raw file as an ingest handles it, and the error for raw files that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ray_job.bucket import keys
from ray_job.bucket.errors import InputError, NotFoundError
from ray_job.bucket.storage import ObjectInfo

FORMATS = (".csv", ".csv.gz", ".parquet")
UNKNOWN_FORMAT = (
    "a raw file's name must end in .csv, .csv.gz or .parquet: rename, convert or remove the file"
)


class BadFilesError(InputError):
    """Raw files that cannot be read. `problems` has a sentence for each, by the file's name.

    The message is the first file's sentence, with the number of the other files.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        name, problem = next(iter(self.problems.items()))
        others = len(self.problems) - 1
        suffix = f" (and {others} more {'file is' if others == 1 else 'files are'} bad)"
        super().__init__(f"{name}: {problem}{suffix if others else ''}")


def bad_file(name: str, problem: str) -> BadFilesError:
    """The error for the file `name` alone."""
    return BadFilesError({name: problem})


@dataclass(frozen=True, slots=True)
class RawFile:
    """A raw file that is to be read.

    `key` is its key in the bucket, `name` its name in messages, `path` a local file with its
    content. `info` describes the object in the bucket; it is None before the file is uploaded.
    """

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
    def stored(self) -> ObjectInfo:
        """The description of the object. Raises NotFoundError before the file is uploaded."""
        if self.info is None:
            raise NotFoundError(f"{self.key}: the file is not in the bucket yet")
        return self.info

    @property
    def replaces(self) -> bool:
        """Whether the file replaces all earlier rows of its (store, date) pairs."""
        return keys.raw_replaces(self.key)


def has_known_format(name: str) -> bool:
    return name.lower().endswith(FORMATS)


@contextmanager
def same_problem(files: Sequence[RawFile]) -> Iterator[None]:
    """Raise a BadFilesError of one file as one of all `files`, which have the same header."""
    try:
        yield
    except BadFilesError as error:
        (problem,) = error.problems.values()
        raise BadFilesError({file.name: problem for file in files}) from error
