"""What a chunk needs, and what comes back: the types between plan, executors and forecasting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from ray_job.bucket.parts import OUTCOME_SCHEMA, WrittenPart
from ray_job.bucket.reasons import Outcome, ReasonCode
from ray_job.bucket.widths import CALIBRATED, IntervalWidths
from ray_job.data.context import Context
from ray_job.data.packs.index import NO_PACKS, PackIndex
from ray_job.forecasting.similar import SimilarSales
from ray_job.model.registry import Artifact
from ray_job.plan import Basis, Chunk
from ray_job.settings import Settings


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What every chunk of a run needs. A worker process gets it once."""

    bucket: str
    basis: Basis
    artifact: Artifact
    context: Context
    settings: Settings
    run_id: str
    generated_at: datetime
    widths: IntervalWidths = CALIBRATED
    similar: Mapping[str, SimilarSales] = field(default_factory=dict)
    """What new stores are forecast by."""
    stock: bool = False
    """Whether the histories have the column `in_stock`."""
    packs: PackIndex = NO_PACKS
    """Where the histories may be read faster. It decides nothing that is in a part."""


@dataclass(frozen=True, slots=True)
class Task:
    """A chunk, and the number of this attempt at it: its part is named `<digest>-<attempt>`.

    An executor with processes of its own ends a process that works on the chunk for longer than
    `deadline_seconds`. It may give one process several chunks, which are all lost with the process.
    A task that is `alone` gets a process for itself.
    """

    chunk: Chunk
    attempt: int = 0
    deadline_seconds: float = 86_400.0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class ChunkCost:
    """What a chunk took. `peak_memory_bytes` is the peak of its whole process."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    rows: int = 0
    bytes: int = 0
    ended_at: float = 0.0
    packed_stores: int = 0
    """Stores of which at least some files were read from packs."""


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """A chunk that was processed, whatever the outcomes of its stores.

    `adopted`: an earlier run or attempt had made the part.
    """

    digest: str
    part: WrittenPart
    cost: ChunkCost = ChunkCost()
    adopted: bool = False


def outcomes_without_forecast(
    stores: Sequence[str], outcome: Outcome, reason_code: ReasonCode, reason: str
) -> pa.Table:
    """Outcomes (OUTCOME_SCHEMA) of stores that have no forecast, all for the same reason."""
    rows = [
        {"store_id": store, "outcome": outcome, "reason_code": reason_code, "reason": reason}
        for store in stores
    ]
    return pa.Table.from_pylist(rows, schema=OUTCOME_SCHEMA)


def failed_part(
    stores: Sequence[str], reason_code: ReasonCode, reason: str, spec: RunSpec, attempt: int = 1
) -> WrittenPart:
    """The outcomes of a chunk all of whose stores failed, so that no part was written."""
    outcomes = outcomes_without_forecast(stores, Outcome.FAILED, reason_code, reason)
    return WrittenPart(outcomes, None, None, spec.run_id, spec.generated_at, attempt)


def part_without_data(stores: Sequence[str], reason: str, spec: RunSpec) -> WrittenPart:
    """The outcomes of stores that have nothing to make a forecast from."""
    outcomes = outcomes_without_forecast(stores, Outcome.NO_DATA, ReasonCode.NO_DATA, reason)
    return WrittenPart(outcomes, None, None, spec.run_id, spec.generated_at)
