"""The time that objects are stamped with; tests move it to age what they wrote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """The real time until `set` stops it; `advance` moves either kind. Times are aware, in UTC."""

    def __init__(self) -> None:
        self._fixed: datetime | None = None
        self._ahead = timedelta()

    def now(self) -> datetime:
        return (self._fixed or datetime.now(UTC)) + self._ahead

    def set(self, moment: datetime) -> None:
        """Stand still at `moment`, which must be aware."""
        self._fixed = moment.astimezone(UTC)
        self._ahead = timedelta()

    def advance(self, by: timedelta) -> None:
        """Move on (or back) by `by`."""
        self._ahead += by

    def reset(self) -> None:
        """Back to the real time."""
        self._fixed = None
        self._ahead = timedelta()
