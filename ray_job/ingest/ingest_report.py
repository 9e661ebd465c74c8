"""What an ingest did."""

from __future__ import annotations

from dataclasses import dataclass

from ray_job.bucket.receipts import BadDelivery


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest committed: numbers of files, rows and stores, and the files' bytes.

    `version` is the version of the histories' table, None if there is no table. `compacted` is the
    number of compacted stores.
    """

    files: int = 0
    rows: int = 0
    stores: int = 0
    bytes: int = 0
    version: int | None = None
    compacted: int = 0
    not_compacted: str | None = None
    """Why compaction failed, None if it did not."""
    not_packed: str | None = None
    """Why there are no packs of the new rows, None if there are."""
    bad: tuple[BadDelivery, ...] = ()
    """The bad files that were left out."""
    warnings: tuple[str, ...] = ()
    """What looks odd in files that were brought in, and files that bring nothing new."""
