"""The registered models of a bucket, and which one is current.

An artifact and its description are immutable. `models/current.json` names a version and the sha256
of its artifact; it is changed by compare-and-set only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from ray_job.bucket import keys
from ray_job.bucket.errors import (
    ConflictError,
    CorruptError,
    InputError,
    NotFoundError,
    StorageError,
)
from ray_job.bucket.parts import sha256
from ray_job.bucket.records import Record
from ray_job.bucket.storage import Storage

_RACES = 16


class Promotion(Record):
    version: str
    sha256: str
    promoted_at: datetime


class CurrentModel(Record):
    """`history` is newest first; its first entry is the current model."""

    history: tuple[Promotion, ...]

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Self:
        """Raises CorruptError, also for a history without an entry, which nobody writes."""
        record = super().from_bytes(data, key)
        if not record.history:
            raise CorruptError(
                f"{key}: history: it is empty; delete the object, and `storecast promote VERSION`"
                " makes it again"
            )
        return record

    @property
    def current(self) -> Promotion:
        return self.history[0]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model's bytes as they are in the bucket; nothing is unpickled or verified yet.

    `sha256` is the one that the pointer has for `model`, not the one of the bytes.
    """

    version: str
    model: bytes
    description: bytes
    sha256: str


def register(storage: Storage, version: str, model: bytes, description: bytes) -> None:
    """Write an artifact and its description.

    Raises ConflictError where the version is taken, and InputError for one that is no name.
    """
    _check_version(version)
    storage.create(keys.model_artifact(version), model)
    storage.create(keys.model_description(version), description)


def current(storage: Storage) -> Promotion | None:
    """The current model, None where no model was ever promoted."""
    try:
        data = storage.read(keys.CURRENT_MODEL)
    except NotFoundError:
        return None
    return CurrentModel.from_bytes(data, keys.CURRENT_MODEL).current


def history(storage: Storage) -> tuple[Promotion, ...]:
    """All promotions, newest first: the first one is current."""
    return _read(storage)[1]


def load(storage: Storage, version: str | None = None) -> Artifact:
    """The current artifact, or the registered one of `version`.

    Raises InputError where there is none.
    """
    promoted = current(storage)
    if version is None and promoted is None:
        raise InputError(f"{storage.url}: there is no model yet; `storecast train` makes one")
    if promoted is not None and version in (None, promoted.version):
        version, digest = promoted.version, promoted.sha256
    else:
        digest = ""
    _check_version(str(version))
    try:
        model = storage.read(keys.model_artifact(str(version)))
        description = storage.read(keys.model_description(str(version)))
    except NotFoundError as error:
        raise InputError(f"{version}: no such model is registered") from error
    return Artifact(str(version), model, description, digest or sha256(model))


def promote(storage: Storage, version: str, now: datetime) -> Promotion:
    """Make a registered model current. Idempotent for the one that is.

    Raises InputError where no such model is registered, and CorruptError where its bytes are not
    those that an earlier promotion of the version had.
    """
    _check_version(version)
    try:
        model = storage.read(keys.model_artifact(version))
        storage.read(keys.model_description(version))
    except NotFoundError as error:
        raise InputError(f"{version}: no such model is registered") from error
    earlier = {each.sha256 for each in _read(storage)[1] if each.version == version}
    if earlier and sha256(model) not in earlier:
        raise CorruptError(
            f"{keys.model_artifact(version)}: the sha256 of the object is not the one with which"
            " the version was promoted before: restore the object, or train another version"
        )
    promotion = Promotion(version=version, sha256=sha256(model), promoted_at=now)
    unseen = 0
    for _ in range(_RACES):
        generation, history = _read(storage)
        if history and history[0].version == version:
            return history[0]
        record = CurrentModel(history=(promotion, *history))
        try:
            storage.replace(keys.CURRENT_MODEL, record.to_bytes(), generation)
        except ConflictError as error:
            unseen += generation is None
            if unseen > 1:
                raise StorageError(
                    f"{keys.CURRENT_MODEL}: the storage says that there is no such object, and"
                    " refuses to make it since there is one: see whether the account may read it"
                ) from error
            continue
        return promotion
    raise ConflictError(f"{keys.CURRENT_MODEL}: {_RACES} writers in a row were faster")


def _check_version(version: str) -> None:
    """Raise InputError unless a version can be the name of a folder, the same for every program."""
    if not version or "/" in version or keys.problem(version) is not None:
        raise InputError(f"{version!a}: this cannot be the name of a model's version")


def _read(storage: Storage) -> tuple[str | None, tuple[Promotion, ...]]:
    try:
        record = storage.read_versioned(keys.CURRENT_MODEL)
    except NotFoundError:
        return None, ()
    return record.generation, CurrentModel.from_bytes(record.data, keys.CURRENT_MODEL).history
