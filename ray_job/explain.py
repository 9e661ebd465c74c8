"""Where a store's number comes from, or why it has none."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pyarrow.compute as pc

from ray_job import tables
from ray_job.bucket import keys, pointer, receipts, releases
from ray_job.bucket.errors import InputError, NotFoundError
from ray_job.bucket.freshness import Schedule, judge
from ray_job.bucket.storage import Storage
from ray_job.settings import Settings


def explain(
    storage: Storage, settings: Settings, store_id: str, as_of: date | None, now: datetime
) -> dict[str, Any]:
    """Everything that is known of a store's forecast in the release of `as_of` (default: current).

    Raises InputError where nothing was published or the store is unknown.
    """
    current, _ = pointer.read(storage)
    name = current.current if as_of is None else current.dates.get(as_of)
    entry = None if name is None else current.entry(name)
    if entry is None:
        when = "" if as_of is None else f" as of {as_of}"
        raise InputError(f"{storage.url}: nothing was published{when}")
    release = releases.load(storage, entry.release, entry.sha256)
    found = release.stores.filter(pc.equal(release.stores["store_id"], store_id)).to_pylist()
    if not found:
        raise InputError(f"{store_id}: the release {entry.release} has no such store")
    row = found[0]
    fresh = judge(
        row["as_of"], row["data_through"], Schedule(settings.zone, settings.deadline), now
    )
    told = {name: value for name, value in row.items() if name not in _DAYS}
    told |= {
        "days": [
            dict(zip(_DAYS, values, strict=True))
            for values in zip(*(row[name] or [] for name in _DAYS), strict=True)
        ],
        "release": entry.release,
        "release_as_of": entry.as_of,
        "published_at": entry.published_at,
        "hindsight": release.header.hindsight,
        "stale": fresh.stale,
        "stale_reason": fresh.reason,
        "data_age_days": fresh.data_age_days,
        "hold_through": current.hold_through,
        "input_files": _files(storage, store_id),
        "later_runs": _later_runs(storage, settings, store_id, entry.as_of, as_of, now),
    }
    if row["run_id"] is not None:
        told["receipt"] = _receipt(storage, row["as_of"], row["run_id"])
    return told


def _later_runs(
    storage: Storage,
    settings: Settings,
    store_id: str,
    shown: date,
    asked: date | None,
    now: datetime,
) -> list[dict[str, Any]]:
    """The runs of newer nights that were not published, newest first: a gate, or a hold."""
    if asked is not None:
        return []
    told = []
    last = Schedule(settings.zone, settings.deadline).today(now)
    for back in range(min((last - shown).days + 1, _NIGHTS)):
        for receipt in reversed(receipts.of_night(storage, last - timedelta(days=back))):
            if receipt.published or receipt.as_of < shown:
                continue
            failure = next((one for one in receipt.failures if one.store_id == store_id), None)
            told.append(
                {
                    "run_id": receipt.run_id,
                    "as_of": receipt.as_of,
                    "status": receipt.status,
                    "message": receipt.message,
                    "failure": None if failure is None else failure.model_dump(mode="json"),
                }
            )
    return told


_NIGHTS = 14
_DAYS = ("target_dates", "predicted", "lower_80", "upper_80", "usual", "method", "missing")


def _files(storage: Storage, store_id: str) -> list[dict[str, Any]]:
    """The files of the store's history as they are now."""
    table = tables.open_table(storage, keys.BATCH_DATA)
    if table is None:
        return []
    listed = tables.list_files(table)
    return [
        {
            "key": tables.partition_key(file["path"]),
            "rows": file["rows"],
            "bytes": file["size"],
            "first_date": file["first_date"],
            "last_date": file["last_date"],
        }
        for file in listed.filter(pc.equal(listed["store_id"], store_id)).to_pylist()
    ]


def _receipt(storage: Storage, as_of: date, run_id: str) -> dict[str, Any] | None:
    try:
        receipt = receipts.read(storage, as_of, run_id)
    except NotFoundError:
        return None
    chosen = {"status", "started_at", "seconds", "gates", "message", "revision", "submission"}
    return receipt.model_dump(mode="json", include=chosen)
