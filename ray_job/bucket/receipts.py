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


class BadDelivery(Record):
    """A raw file that could not be brought in, and why; it is tried again by every ingest."""

    key: str
    reason: str


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
    ended_at: datetime | None = None


class ChunkTimes(Record):
    """Over the chunks that the run did itself, in seconds."""

    chunks: int = 0
    shortest: float = 0.0
    median: float = 0.0
    longest: float = 0.0


class Cost(Record):
    """An estimate from the prices in the settings: CPU in chunks, memory while the run lasted."""

    currency: str
    cpu: float
    memory: float
    total: float
    per_1000_stores: float | None


class Level(Record):
    """A night's forecasts against the same weekday's recent means, over the stores open then.

    `region` None: all of them. `ratio` is the mean over the target dates of forecast / usual;
    `lowest` and `highest` are those of single target dates.
    """

    region: str | None = None
    stores: int = 0
    forecast_per_store: float | None = None
    usual_per_store: float | None = None
    ratio: float | None = None
    lowest: float | None = None
    highest: float | None = None


class Drift(Record):
    """Whether a night looks like the nights before it. Shares are of the expected stores.

    `silent` stores have sent no sales for `silent_days` days or more before the as-of; those that
    are closed on every target date are not among them. `warnings` are sentences for people.
    """

    total: Level = Level()
    regions: tuple[Level, ...] = ()
    carried_share: float = 0.0
    fallback_share: float = 0.0
    missing_weather_share: float = 0.0
    silent_days: int = 0
    silent: int = 0
    silent_share: float = 0.0
    silent_stores: tuple[str, ...] = ()
    """The first hundred of them, those that stopped first before the others."""
    data_through: dict[date, int] = Field(default_factory=dict)
    """How many stores have sales through each day; only the days up to the as-of less 1."""
    warnings: tuple[str, ...] = ()


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
    bad_deliveries: tuple[BadDelivery, ...] = ()
    """What `run --ingest` left out; the run used what else there was."""
    chunks: tuple[ChunkRecord, ...] = ()
    rows_read: int = 0
    bytes_read: int = 0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    chunk_times: ChunkTimes = ChunkTimes()
    cost: Cost | None = None
    """None where the settings name no prices."""
    drift: Drift | None = None
    scored: dict[date, int] = Field(default_factory=dict)
    """Rows of scores that the run wrote, by target date."""
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
