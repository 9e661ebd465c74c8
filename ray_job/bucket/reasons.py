"""Outcomes, reasons and methods, as parts, releases, receipts and answers name them.

Each reason code has a line in `ray_job/FAILURES.md`.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What a run did for a store."""

    OK = "ok"
    """The model made a forecast of at least one series."""
    CLOSED = "closed"
    """The store is closed on every target date. Its forecast is 0."""
    FALLBACK = "fallback"
    """Every series has too little or too old history. A simple rule made the forecast."""
    FAILED = "failed"
    """The run made no forecast. An earlier forecast of the store is carried."""
    NO_DATA = "no_data"
    """No sales of the store are known."""

    @property
    def is_covered(self) -> bool:
        """Whether the outcome counts as a forecast."""
        return self in (Outcome.OK, Outcome.CLOSED, Outcome.FALLBACK)


COVERED = tuple(outcome for outcome in Outcome if outcome.is_covered)
"""The outcomes that count as a forecast."""


class ReasonCode(StrEnum):
    """Why a store has no forecast of the model, or why it is taken for closed on some days."""

    GONE = "gone"
    """A file of the store's history does not exist any more: it was vacuumed, or it was lost."""
    CORRUPT = "corrupt"
    """The bytes of a file of the store's history are not what was written."""
    BAD_COLUMN = "bad_column"
    """A column of the store's history is missing or has another type."""
    STORAGE = "storage"
    """The storage failed or refused a request for the store's history or its part."""
    MEMORY = "memory"
    """The store alone does not fit into the memory of its worker."""
    ERROR = "error"
    """An unexpected exception was raised for the store."""
    KILLED_WORKER = "killed_worker"
    """The worker process died each time that it met the store alone."""
    DEADLINE = "deadline"
    """The store alone took longer than the deadline of its chunk."""
    ABSURD = "absurd"
    """The model's predictions are NaN, negative, or far above all past sales of the store."""
    NO_DATA = "no_data"
    """No sales of the store are known. The outcome is `no_data`."""
    LITTLE_HISTORY = "little_history"
    """The history is too short or too old for the model. The outcome is `fallback`."""
    CLOSED_WEEKDAY = "closed_weekday"
    """The store never sells on the weekday of a target date, and `open` does not say otherwise."""
    IMPLAUSIBLE = "implausible"
    """The newest sales, or the forecast, are far off the store's own past."""

    @property
    def is_retriable(self) -> bool:
        """Whether another attempt may succeed, since the store's own data are not the cause."""
        return self in (
            ReasonCode.STORAGE,
            ReasonCode.MEMORY,
            ReasonCode.DEADLINE,
            ReasonCode.GONE,
        )


RETRIABLE = tuple(code for code in ReasonCode if code.is_retriable)
"""The reason codes of which another attempt may succeed."""


class Method(StrEnum):
    """How a number of a forecast was made. Readers meet values that are newer than they are."""

    MODEL = "model"
    """By the model."""
    RULE = "rule"
    """By a naive rule that was better than the model for series of this kind."""
    SIMILAR = "similar"
    """By a rule that uses the sales of similar series, since its own history is too short."""
    FALLBACK = "fallback"
    """By a simple rule, since there is too little or too old history for the model."""
    ENDED = "ended"
    """0: the item is no longer sold."""
    CLOSED = "closed"
    """0: the store is closed."""
