"""Progress of long work: a bar on a terminal, elsewhere one log line every few seconds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

LOGGER = logging.getLogger("ray_job.progress")


class Stage(Protocol):
    """A piece of work that is under way."""

    def advance(self, n: int = 1, **fields: object) -> None:
        """`n` more units are done; `fields` replace what was told about the stage before."""


class Progress(Protocol):
    """Where long work tells how far it is."""

    def stage(
        self, name: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Stage]:
        """A stage of `total` units (None: unknown), which ends with the context."""


class _SilentStage:
    def advance(self, n: int = 1, **fields: object) -> None:
        """Nobody listens."""


class SilentProgress:
    """Tells nobody."""

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:  # noqa: ARG002
        yield _SilentStage()


@dataclass(slots=True)
class _LogStage:
    name: str
    total: int | None
    unit: str
    clock: Callable[[], float]
    interval: float
    began: float
    told: float
    done: int = 0
    fields: dict[str, object] = field(default_factory=dict)

    def advance(self, n: int = 1, **fields: object) -> None:
        self.done += n
        self.fields.update(fields)
        now = self.clock()
        if now - self.told >= self.interval:
            self.told = now
            self.tell(now, "running")

    def tell(self, now: float, state: str) -> None:
        seconds = now - self.began
        known: dict[str, Any] = {"stage": self.name, "state": state, "done": self.done}
        if self.total is not None:
            known["total"] = self.total
        if self.unit:
            known["unit"] = self.unit
        known["seconds"] = round(seconds, 1)
        if state == "running" and self.total and self.done:
            known["remaining_seconds"] = round(seconds * (self.total - self.done) / self.done, 1)
        known |= self.fields
        LOGGER.info(
            "progress %s",
            " ".join(f"{name}={value}" for name, value in known.items()),
            extra={"fields": {"event": "progress", **known}},
        )


@dataclass(frozen=True, slots=True)
class LogProgress:
    """One line every `interval` seconds of a stage and one at its end, as key=value pairs.

    The same pairs are on the log record, as its `fields`, for a handler that writes JSON. `clock`
    counts seconds, from anywhere. A stage that is over before its first line tells nothing.
    """

    clock: Callable[[], float]
    interval: float = 5.0

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        began = self.clock()
        stage = _LogStage(name, total, unit, self.clock, self.interval, began, began)
        try:
            yield stage
        except BaseException:
            stage.tell(self.clock(), "stopped")
            raise
        if stage.told != began:
            stage.tell(self.clock(), "done")


@dataclass(frozen=True, slots=True)
class _BarStage:
    bars: RichProgress
    task: TaskID
    fields: dict[str, object]

    def advance(self, n: int = 1, **fields: object) -> None:
        self.fields.update(fields)
        text = " ".join(f"{name}={value}" for name, value in self.fields.items())
        self.bars.update(self.task, advance=n, fields=text)


@dataclass(frozen=True, slots=True)
class BarProgress:
    """A bar for each stage, on a terminal's standard error."""

    console: Console

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[fields]}"),
        )
        with RichProgress(*columns, console=self.console) as bars:
            yield _BarStage(bars, bars.add_task(name, total=total, fields=""), {})


def progress_for(stream: TextIO, clock: Callable[[], float]) -> Progress:
    """What suits `stream` (standard error): bars on a terminal, log lines elsewhere."""
    if stream.isatty():
        return BarProgress(Console(file=stream))
    return LogProgress(clock)
