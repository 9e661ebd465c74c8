"""The grants in force: those of the bucket, or the last ones that could be verified.

They do not depend on the pointer. A file that is damaged or cannot be read leaves the last verified
grants in force for a bounded time, also in a process that starts meanwhile. A file that was deleted
denies everybody at once.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from api.auth.grants import DENY_ALL, Grants, GrantsFile, compile_grants
from api.store.local.copies import LocalCopies
from api.store.reads import Missing, ReadResult, Unchanged
from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, StorecastError
from ray_job.bucket.storage import Versioned

_LOG = logging.getLogger("api.grants")
_COPY_AGE = timedelta(minutes=1)
"""The copy on the disk says when the grants were last verified, to within this time."""


class GrantsKeeper:
    """For one event loop. `grants` may be used for `max_age` after they were last verified."""

    def __init__(self, copies: LocalCopies, max_age: timedelta) -> None:
        self.grants: Grants = DENY_ALL
        self.generation: str | None = None
        """The generation of the file that was read last, damaged or not."""
        self.verified_at: datetime | None = None
        """When the grants in force were last seen in the bucket, or their absence."""
        self._copies = copies
        self._max_age = max_age
        self._data: bytes | None = None
        self._copied_at: datetime | None = None
        self._damaged: str | None = None
        self._unreadable: str | None = None

    @property
    def refused(self) -> str | None:
        """Why the grants of the bucket are not known to be those in force."""
        return self._damaged or self._unreadable

    def apply(self, result: ReadResult, now: datetime) -> StorecastError | None:
        """Take what a read of the file gave. Returns the error if the file cannot be used."""
        error = self._take(result, now)
        if error is not None and self.verified_at is None:
            self._restore()
        if self.refused is not None and not self._is_young(now):
            self.grants = DENY_ALL
        return error

    def _take(self, result: ReadResult, now: datetime) -> StorecastError | None:
        if isinstance(result, StorecastError):
            self._unreadable = str(result)
            return result
        self._unreadable = None
        if isinstance(result, Missing):
            self._set(DENY_ALL, None, now)
            self.generation = None
            self._copies.forget("grants")
        elif isinstance(result, Unchanged):
            if self._damaged is None:
                self.verified_at = now
                self._copy(now)
        else:
            self.generation = result.generation
            return self._compile(result, now)
        return None

    def _compile(self, stored: Versioned, now: datetime) -> CorruptError | None:
        try:
            grants = compile_grants(GrantsFile.from_bytes(stored.data, keys.GRANTS))
        except CorruptError as error:
            self._damaged = str(error)
            return error
        self._set(grants, stored.data, now)
        self._copied_at = None
        self._copy(now)
        return None

    def _set(self, grants: Grants, data: bytes | None, now: datetime) -> None:
        self.grants, self._data, self.verified_at, self._damaged = grants, data, now, None

    def _copy(self, now: datetime) -> None:
        if self._data is None:
            return
        if self._copied_at is None or now - self._copied_at >= _COPY_AGE:
            self._copies.keep("grants", self._data, now)
            self._copied_at = now

    def _restore(self) -> None:
        copy = self._copies.kept("grants")
        if copy is None:
            return
        try:
            self.grants = compile_grants(GrantsFile.from_bytes(copy.data, keys.GRANTS))
        except CorruptError as error:
            _LOG.warning("the copy of the grants: %s", error)
            return
        self.verified_at, self._data = copy.seen_at, copy.data

    def _is_young(self, now: datetime) -> bool:
        return self.verified_at is not None and now - self.verified_at < self._max_age
