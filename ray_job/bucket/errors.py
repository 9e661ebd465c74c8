"""Exceptions of the project: one class for each exit code of a command or status of an answer.

A message is one sentence. It names the file, row, column or key, and what is wrong with it.
"""

import errno
from typing import Final

DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the operating system says where there is no room, or where a limit of it is reached."""


class StorecastError(Exception):
    """The base of every exception that this project raises on purpose."""


class InputError(StorecastError):
    """Wrong use or bad input. The caller can correct it."""


class SettingsError(InputError):
    """A settings file or an environment variable has a value that is not valid."""


class UnusableModelError(InputError):
    """The model cannot be loaded in this environment."""


class NothingPublishedError(InputError):
    """The current release was asked for, and nothing was published yet."""


class RayUnavailableError(StorecastError):
    """The Ray cluster cannot be started or reached."""


class NotFoundError(StorecastError):
    """There is no object of this key."""


class BucketMissingError(InputError):
    """The bucket does not exist, or the caller may not read it."""


class ConflictError(StorecastError):
    """A conditional write failed, because another writer was first."""


class CorruptError(StorecastError):
    """The bytes of an object do not match its name, digest, checksum or format."""


class UnknownFormatError(CorruptError):
    """A newer version of this program wrote the object, in a format that this one cannot read."""


class StorageError(StorecastError):
    """The storage failed or refused a request. The state of the object is not known."""


class AccessRefusedError(StorageError):
    """The storage refuses access to an object: whoever asks has not the rights."""


class TransientError(StorecastError):
    """A failure that may pass. The same command may succeed later."""


EXIT_CODES: Final[tuple[tuple[type[StorecastError], int], ...]] = (
    (InputError, 2),
    (CorruptError, 2),
    (TransientError, 75),
    (StorecastError, 1),
)
"""The first class that matches decides. Any other exception is a defect, with a traceback."""


def exit_code(error: StorecastError) -> int:
    """The exit code of a command that `error` ends."""
    return next(code for error_class, code in EXIT_CODES if isinstance(error, error_class))
