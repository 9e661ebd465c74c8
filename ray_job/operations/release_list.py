"""The publications that the pointer remembers, with the main figures of their receipts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

from ray_job.bucket import pointer, receipts
from ray_job.bucket.errors import NotFoundError
from ray_job.bucket.pointer import Published
from ray_job.bucket.storage import Storage

_RECEIPT_FIELDS = {
    "status",
    "forced",
    "hindsight",
    "stores",
    "seconds",
    "cpu_seconds",
    "cost",
    "model_version",
    "revision",
}
_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class ListedRelease:
    """A publication. `receipt` is None if the receipt is deleted or was never written."""

    published: Published
    current: bool
    live_for_its_as_of: bool
    bad: bool
    receipt: dict[str, Any] | None

    def document(self) -> dict[str, Any]:
        """The release as a JSON object."""
        return {
            **self.published.model_dump(mode="json"),
            "current": self.current,
            "live_for_its_as_of": self.live_for_its_as_of,
            "bad": self.bad,
            "receipt": self.receipt,
        }


@dataclass(frozen=True, slots=True)
class PublicationList:
    """`releases` are newest first. No scheduled run publishes an as-of up to `hold_through`."""

    hold_through: date | None
    releases: tuple[ListedRelease, ...]


def list_releases(storage: Storage, last: int) -> PublicationList:
    """The `last` newest publications. Writes nothing."""
    current, _ = pointer.read(storage)
    entries = current.history[:last]
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        documents = list(pool.map(lambda entry: _receipt_figures(storage, entry), entries))
    return PublicationList(
        hold_through=current.hold_through,
        releases=tuple(
            ListedRelease(
                published=entry,
                current=entry.release == current.current,
                live_for_its_as_of=current.dates.get(entry.as_of) == entry.release,
                bad=entry.release in current.bad,
                receipt=document,
            )
            for entry, document in zip(entries, documents, strict=True)
        ),
    )


def _receipt_figures(storage: Storage, entry: Published) -> dict[str, Any] | None:
    try:
        receipt = receipts.read(storage, entry.as_of, entry.run_id)
    except NotFoundError:
        return None
    figures = receipt.model_dump(mode="json", include=_RECEIPT_FIELDS)
    return {**figures, "warnings": () if receipt.drift is None else receipt.drift.warnings}
