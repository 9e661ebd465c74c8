"""The outcome of a submission, and the event `submit_finished` that reports every end of it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from types import FrameType
from typing import Final

from ray_job.bucket.errors import StorecastError, TransientError, exit_code
from ray_job.events import emit
from ray_job.submit import rayjob

TERMINATED: Final = 128 + signal.SIGTERM
"""The exit code of a submitter that SIGTERM ended."""

QUIET_OUTCOMES: Final = frozenset(
    {
        "published",
        "published_with_failures",
        "unchanged",
        "held",
        "unpublished",
        "left_running",
        "interrupted",
    }
)
"""Outcomes that wake nobody: their event is an INFO, that of all others an ERROR."""


@dataclass(slots=True)
class SubmissionOutcome:
    """The fields of `submit_finished`. `outcome` is the receipt's status or why there is none.

    `exit_code` is the command's; None only for a defect.
    """

    outcome: str = "not_submitted"
    submission: str | None = None
    as_of: date | None = None
    exit_code: int | None = None


@contextmanager
def reported_outcome(*, adhoc: bool, waits: bool) -> Iterator[SubmissionOutcome]:
    """An Outcome for the block to fill in; with `waits` it is emitted, however the block ends.

    A caller that does not wait sees the error itself. SIGTERM ends the block with the exit code
    TERMINATED.
    """
    outcome, began = SubmissionOutcome(), time.monotonic()
    try:
        with _sigterm_raises():
            yield outcome
    except _TerminatedError:
        outcome.outcome = "left_running" if outcome.submission else "interrupted"
        outcome.exit_code = TERMINATED
    except StorecastError as error:
        if isinstance(error, TransientError) and outcome.outcome not in rayjob.TRANSIENT:
            outcome.outcome = "unreachable"
        outcome.exit_code = exit_code(error)
        raise
    finally:
        if waits:
            emit(
                "submit_finished",
                "INFO" if outcome.outcome in QUIET_OUTCOMES else "ERROR",
                **asdict(outcome),
                adhoc=adhoc,
                seconds=round(time.monotonic() - began, 1),
            )


class _TerminatedError(BaseException):
    """SIGTERM, raised where the main thread waits."""


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """In the main thread SIGTERM raises _TerminatedError; in others, which get no signals, not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
