"""Receipts: the immutable record of each run, one JSON object per run."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError
from ray_job.bucket.records import Record
from ray_job.bucket.storage import Storage
from ray_job.bucket.widths import IntervalWidths

Status = Literal[
    "published", "published_with_failures", "unchanged", "held", "refused", "unpublished", "failed"
]
"""`held`: a hold forbids to publish. `refused`: a gate failed. `unpublished`: `--no-publish` was
given. `unchanged`: an earlier run had done everything already. `failed`: the run could not begin,
since its model could not be loaded or its Ray cluster could not be reached."""


class Gate(Record):
    """A condition for publishing: `value` was compared with `limit`."""

    name: str
    passed: bool
    value: float
    limit: float
    message: str


class StoreCounts(Record):
    """The number of `expected` stores, and how many of them have each outcome.

    `carried` counts stores whose forecast is of an older as-of, `kept` stores outside of the run's
    scope, `late` stores whose sales end before the as-of.
    """

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
    """Why a store has no new forecast, and the as-of of its last good forecast, if it has one."""

    store_id: str
    reason_code: str
    reason: str
    attempt: int = 1
    last_good_as_of: date | None = None


class BadDelivery(Record):
    """A raw file that could not be read, and why. Each later ingest tries it again."""

    key: str
    reason: str


class ChunkRecord(Record):
    """What a chunk cost. `part` is the key of its part; `adopted` parts are of an earlier run."""

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
    """The times of the chunks that the run did itself, without adopted ones, in seconds."""

    chunks: int = 0
    shortest: float = 0.0
    median: float = 0.0
    longest: float = 0.0


class Cost(Record):
    """An estimate from the prices in the settings: CPU time of chunks, memory during the run."""

    currency: str
    cpu: float
    memory: float
    total: float
    per_1000_stores: float | None


class Level(Record):
    """A night's forecasts compared with usual sales, over the stores that are open.

    The usual sales of a target date are the recent mean of the same weekday. `region` None means
    all regions. `ratio` is the mean over the target dates of forecast / usual; `lowest` and
    `highest` are the lowest and the highest of the target dates.
    """

    region: str | None = None
    stores: int = 0
    forecast_per_store: float | None = None
    usual_per_store: float | None = None
    ratio: float | None = None
    lowest: float | None = None
    highest: float | None = None


class Drift(Record):
    """Figures that compare a night with the nights before it. Shares are of the expected stores.

    A `silent` store has sent no sales for `silent_days` days or more before the as-of, and is open
    on at least one target date. `warnings` are sentences for people.
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
    """At most 100 silent stores. Those whose sales ended first come first."""
    data_through: dict[date, int] = Field(default_factory=dict)
    """How many stores have sales through each day before the as-of."""
    warnings: tuple[str, ...] = ()


class AdaptedIntervals(Record):
    """By what the intervals of the run were wider than they were calibrated.

    `counted` is the number of scored days of the last four weeks that the factors come from.
    """

    widths: IntervalWidths
    counted: int


class Receipt(Record):
    """The record of a run. `exit_code` is the exit code of its command outside of a RayJob."""

    run_id: str
    status: Status
    exit_code: int
    as_of: date
    release: str | None
    published: bool
    message: str = ""
    """Why the run did not publish; empty if it did."""
    forced: bool = False
    hindsight: bool = False
    submission: str | None = None
    started_at: datetime
    finished_at: datetime
    seconds: float
    stage_seconds: dict[str, float] = Field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    stores: StoreCounts = StoreCounts()
    series: dict[str, dict[str, int]] = Field(default_factory=dict)
    """The number of series by kind of series and by method."""
    failures: tuple[Failure, ...] = ()
    bad_deliveries: tuple[BadDelivery, ...] = ()
    """Raw files that `run --ingest` left out. The run used all others."""
    warnings: tuple[str, ...] = ()
    """Sentences about what somebody should look at, beside those of `drift`."""
    chunks: tuple[ChunkRecord, ...] = ()
    rows_read: int = 0
    bytes_read: int = 0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    packed_stores: int = 0
    """Stores whose histories were read from packs; 0: there were none, or no chunk was done."""
    chunk_times: ChunkTimes = ChunkTimes()
    cost: Cost | None = None
    """None if the settings have no prices."""
    drift: Drift | None = None
    intervals: AdaptedIntervals | None = None
    """None if the settings do not adapt them."""
    scored: dict[date, int] = Field(default_factory=dict)
    """How many rows of scores the run wrote, by target date."""
    horizon: int = 0
    model_version: str = ""
    model_sha256: str = ""
    table_version: int = 0
    context_digest: str = ""
    settings_digest: str = ""
    all_settings_digest: str = ""
    """Of all settings, also of those that decide no prediction; empty in receipts of 0.2.0."""
    written_by: str | None = None
    """The run that wrote this receipt in the name of the one that published, since it found none.
    The run that published replaces it, if it lives."""
    versions: dict[str, str] = Field(default_factory=dict)
    revision: str | None = None


def write(storage: Storage, receipt: Receipt) -> None:
    """Write a receipt. Idempotent. Raises ConflictError if the run id has a different receipt."""
    storage.create(keys.receipt(receipt.as_of, receipt.run_id), receipt.to_bytes())


def write_own(storage: Storage, receipt: Receipt) -> None:
    """Write the receipt of the run that calls. Idempotent.

    A receipt that a later run has written in its name meanwhile is replaced. Raises ConflictError
    if the run id has a receipt of another run.
    """
    try:
        write(storage, receipt)
    except ConflictError:
        key = keys.receipt(receipt.as_of, receipt.run_id)
        stored = storage.read_versioned(key)
        if Receipt.from_bytes(stored.data, key).written_by is None:
            raise
        storage.replace(key, receipt.to_bytes(), stored.generation)


def read(storage: Storage, as_of: date, run_id: str) -> Receipt:
    """The receipt of a run. Raises NotFoundError or CorruptError."""
    key = keys.receipt(as_of, run_id)
    return Receipt.from_bytes(storage.read(key), key)


def of_night(storage: Storage, as_of: date) -> list[Receipt]:
    """All receipts of an as-of, in the order in which the runs finished."""
    night = [
        Receipt.from_bytes(storage.read(info.key), info.key)
        for info in storage.list(keys.receipts_of(as_of))
    ]
    return sorted(night, key=lambda receipt: receipt.finished_at)
