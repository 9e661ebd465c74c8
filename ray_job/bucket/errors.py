"""What can go wrong, one class per kind of answer: an exit code or an HTTP status.

Messages are one sentence and name the file, row, column or key.
"""


class StorecastError(Exception):
    """Anything that this project raises on purpose."""


class InputError(StorecastError):
    """Wrong use or bad input: the caller can mend it."""


class SettingsError(InputError):
    """A settings file or variable does not fit."""


class NotFoundError(StorecastError):
    """No object lies at a key."""


class BucketMissingError(InputError):
    """The bucket itself does not exist or may not be read."""


class ConflictError(StorecastError):
    """A conditional write lost: somebody else wrote first."""


class CorruptError(StorecastError):
    """An object's bytes are not what its name, digest or checksum says."""


class StorageError(StorecastError):
    """The storage failed or refused; nothing is known about the object."""


class TransientError(StorecastError):
    """What failed may pass: the same command may succeed when it is given again."""
