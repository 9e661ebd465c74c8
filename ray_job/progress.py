"""Progress of long stages: a bar on a terminal, elsewhere a log line every few seconds."""

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
    """A stage that is running."""

    def advance(self, n: int = 1, **fields: object) -> None:
        """`n` more units are done. `fields` are added to the stage's fields, or replace them."""


class Progress(Protocol):
    """Receives how far a long operation is."""

    def stage(
        self, name: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Stage]:
        """A context that is the stage; `total` is its number of units, None if unknown."""


class _SilentStage:
    def advance(self, n: int = 1, **fields: object) -> None:
        """Nothing is shown."""


class SilentProgress:
    """Shows nothing."""

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
    last_line: float
    done: int = 0
    fields: dict[str, object] = field(default_factory=dict)

    def advance(self, n: int = 1, **fields: object) -> None:
        self.done += n
        self.fields.update(fields)
        now = self.clock()
        if now - self.last_line >= self.interval:
            self.last_line = now
            self.log(now, "running")

    def log(self, now: float, state: str) -> None:
        seconds = now - self.began
        pairs: dict[str, Any] = {"stage": self.name, "state": state, "done": self.done}
        if self.total is not None:
            pairs["total"] = self.total
        if self.unit:
            pairs["unit"] = self.unit
        pairs["seconds"] = round(seconds, 1)
        if state == "running" and self.total and self.done:
            pairs["remaining_seconds"] = round(seconds * (self.total - self.done) / self.done, 1)
        pairs |= self.fields
        LOGGER.info(
            "progress %s",
            " ".join(f"{name}={value}" for name, value in pairs.items()),
            extra={"fields": {"event": "progress", **pairs}},
        )


@dataclass(frozen=True, slots=True)
class LogProgress:
    """One line every `interval` seconds of a stage and one at its end, as key=value pairs.

    The log record has the same pairs as its `fields`, for a handler that writes JSON. `clock`
    counts seconds, from anywhere. A stage that ends before its first line writes no line.
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
            stage.log(self.clock(), "stopped")
            raise
        if stage.last_line != began:
            stage.log(self.clock(), "done")


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
    """The progress for `stream` (standard error): bars on a terminal, log lines elsewhere."""
    if stream.isatty():
        return BarProgress(Console(file=stream))
    return LogProgress(clock)
