"""What executors hand to `forecast_chunk` and get back: the interface that knows no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from ray_job.bucket.parts import OUTCOME_SCHEMA, WrittenPart
from ray_job.data.context import Context
from ray_job.model.registry import Artifact
from ray_job.plan import Basis, Chunk
from ray_job.settings import Settings

RETRIABLE = frozenset({"storage", "memory", "deadline", "gone"})
"""Reasons of failure that are not the data's own fault: another attempt may succeed."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What every chunk of a run needs; workers get it once."""

    bucket: str
    basis: Basis
    artifact: Artifact
    context: Context
    settings: Settings
    run_id: str
    generated_at: datetime


@dataclass(frozen=True, slots=True)
class Task:
    """A chunk and which attempt at it this is: the part that it makes is `<digest>-<attempt>`.

    An executor with processes of its own ends one that is still at it after `deadline_seconds`. It
    may give a process several chunks at once, which are all lost with it, unless they are `alone`.
    """

    chunk: Chunk
    attempt: int = 0
    deadline_seconds: float = 86_400.0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What a chunk took; `peak_memory_bytes` is that of its whole process."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    rows: int = 0
    bytes: int = 0
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """A chunk that was worked through, whatever became of its stores."""

    digest: str
    done: WrittenPart
    cost: Cost = Cost()
    adopted: bool = False


class Executor(Protocol):
    """Where chunks are worked through."""

    def run(self, tasks: Sequence[Task], spec: RunSpec) -> Iterator[Result]:
        """The results as they come. A task that was lost, with its worker, gives none.

        Each task is tried once: who asks decides what becomes of the lost ones. May raise
        MemoryError where a single task was lost for want of memory.
        """


def failed(
    stores: Sequence[str], code: str, reason: str, run_id: str, now: datetime, attempt: int = 1
) -> WrittenPart:
    """Outcomes of stores that failed, without a part."""
    return _without_part("failed", stores, code, reason, run_id, now, attempt)


def without_data(stores: Sequence[str], reason: str, run_id: str, now: datetime) -> WrittenPart:
    """Outcomes of stores that have nothing to make a forecast from."""
    return _without_part("no_data", stores, "no_data", reason, run_id, now, 1)


def _without_part(
    outcome: str,
    stores: Sequence[str],
    code: str,
    reason: str,
    run_id: str,
    now: datetime,
    attempt: int,
) -> WrittenPart:
    rows = [
        {"store_id": store, "outcome": outcome, "reason_code": code, "reason": reason}
        for store in stores
    ]
    table = pa.Table.from_pylist(rows, schema=OUTCOME_SCHEMA)
    return WrittenPart(table, None, None, run_id, now, attempt)
