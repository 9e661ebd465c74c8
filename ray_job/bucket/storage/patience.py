"""How long this process waits for a storage that fails or stalls. See decision 0093.

Each request has a bound of its own. `PATIENCE` adds up the time during which any request of the
process was late or failed. A command limits this sum: when it is used up, no further request is
sent, and each call fails at once. After some failures in a row a call is tried for a short time
only, until one succeeds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from ray_job.bucket.errors import AccessRefusedError, NotFoundError, StorageError

CALL_SECONDS = 40.0
"""So long a call is tried again."""
_SHORT_SECONDS = 5.0
_FAILURES = 3
"""After so many failed calls in a row the next one is tried for a short time only."""
_QUICK_SECONDS = 1.0
"""A failure within this time came at once."""
_USUAL_SECONDS = 3.0
"""A call that took longer was kept waiting."""


@dataclass(slots=True)
class Patience:
    """The waiting of a process. `total` None: without a limit. Thread-safe."""

    total: float | None = None
    owner: str = ""
    waited: float = 0.0
    """Seconds; calls that waited at the same time count once."""
    failures: int = 0
    _last_end: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def limit(self, owner: str, total: float) -> None:
        """Let the run `owner` wait for `total` seconds. Idempotent for an owner."""
        with self._lock:
            if owner != self.owner:
                self.owner, self.total, self.waited, self.failures = owner, total, 0.0, 0

    @contextmanager
    def limited(self, total: float) -> Iterator[None]:
        """Wait for `total` seconds at most in what this block does.

        Within another such block its limit goes on: what a command does in all has one limit.
        """
        if self.owner:
            yield
            return
        self.limit(uuid4().hex, total)
        try:
            yield
        finally:
            with self._lock:
                self.owner, self.total, self.waited, self.failures = "", None, 0.0, 0

    def pass_on(self, owner: str) -> None:
        """Go on with the same limit under another name."""
        with self._lock:
            self.owner = owner

    def call_seconds(self) -> float:
        """So long the next call may be tried again."""
        seconds = _SHORT_SECONDS if self.failures >= _FAILURES else CALL_SECONDS
        left = seconds if self.total is None else self.total - self.waited
        return max(0.1, min(seconds, left))

    @contextmanager
    def call(self, key: str, usual_seconds: float = _USUAL_SECONDS) -> Iterator[None]:
        """A call to the storage. It was kept waiting if it takes longer than usual.

        Raises StorageError, which names `key`, if the limit is reached. An object that does not
        exist is an answer, and no failure.
        """
        if self.total is not None and self.waited >= self.total:
            raise StorageError(
                f"{key}: the storage has kept this run waiting for {self.total:g} seconds in all"
                " (run.storage_wait_seconds), and is not asked again"
            )
        began = time.monotonic()
        try:
            yield
        except NotFoundError:
            self._note(began, usual_seconds)
            raise
        except StorageError as error:
            # A refusal that came at once was no waiting. Any other failure was tried again for as
            # long as was left, however short that is.
            quick = _QUICK_SECONDS if isinstance(error, AccessRefusedError) else 0.0
            self._note(began, quick, failed=True)
            raise
        self._note(began, usual_seconds)

    def _note(self, began: float, usual_seconds: float, *, failed: bool = False) -> None:
        """A failure that came at once does not shorten later tries."""
        ended = time.monotonic()
        is_late = ended - began > usual_seconds
        with self._lock:
            is_long_failure = failed and ended - began > _QUICK_SECONDS
            self.failures = self.failures + 1 if is_long_failure else 0
            if is_late:
                self.waited += max(0.0, ended - max(began, self._last_end))
                self._last_end = max(ended, self._last_end)


PATIENCE = Patience()
"""That of this process."""
