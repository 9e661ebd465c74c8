"""Receipts: the record of a run, immutable, one JSON object each."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from ray_job.bucket import keys
from ray_job.bucket.records import Record
from ray_job.bucket.storage import Storage

Status = Literal[
    "published", "published_with_failures", "unchanged", "held", "refused", "unpublished"
]
"""`refused`: a gate failed. `unpublished`: `--no-publish`. `unchanged`: all was done already."""


class Gate(Record):
    """A condition of publishing: `value` was compared to `limit`."""

    name: str
    passed: bool
    value: float
    limit: float
    message: str


class StoreCounts(Record):
    """`expected` stores by outcome; `carried` counts those whose forecast is of an older as-of."""

    expected: int = 0
    ok: int = 0
    closed: int = 0
    fallback: int = 0
    failed: int = 0
    no_data: int = 0
    carried: int = 0
    kept: int = 0
    late: int = 0


class Failure(Record):
    """Why a store has no new forecast, and the as-of of its last good one, if there is any."""

    store_id: str
    reason_code: str
    reason: str
    attempt: int = 1
    last_good_as_of: date | None = None


class ChunkRecord(Record):
    digest: str
    part: str | None
    stores: int
    rows: int
    bytes: int
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    adopted: bool = False


class Receipt(Record):
    """What a run did. `exit_code` is what its command would exit with outside of a RayJob."""

    run_id: str
    status: Status
    exit_code: int
    as_of: date
    release: str | None
    published: bool
    message: str = ""
    """Why it was not published, where it was not."""
    forced: bool = False
    hindsight: bool = False
    submission: str | None = None
    started_at: datetime
    finished_at: datetime
    seconds: float
    stage_seconds: dict[str, float] = Field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    stores: StoreCounts = StoreCounts()
    failures: tuple[Failure, ...] = ()
    chunks: tuple[ChunkRecord, ...] = ()
    rows_read: int = 0
    bytes_read: int = 0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    horizon: int = 0
    model_version: str = ""
    model_sha256: str = ""
    table_version: int = 0
    context_digest: str = ""
    settings_digest: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    revision: str | None = None


def write(storage: Storage, receipt: Receipt) -> None:
    """Idempotent. Raises ConflictError where another receipt of that run id lies there."""
    storage.create(keys.receipt(receipt.as_of, receipt.run_id), receipt.to_bytes())


def read(storage: Storage, as_of: date, run_id: str) -> Receipt:
    """Raises NotFoundError or CorruptError."""
    key = keys.receipt(as_of, run_id)
    return Receipt.from_bytes(storage.read(key), key)


def of_night(storage: Storage, as_of: date) -> list[Receipt]:
    """Every receipt of an as-of, oldest first."""
    found = [
        Receipt.from_bytes(storage.read(info.key), info.key)
        for info in storage.list(keys.receipts_of(as_of))
    ]
    return sorted(found, key=lambda receipt: receipt.finished_at)
