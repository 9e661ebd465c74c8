"""Where a store's number comes from, or why it has none.

All of it is named by the pointer, but for the runs that published nothing: of those one night's
receipts tell, those of the as-of that is asked for or of the newest that could have been run.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pyarrow.compute as pc

from ray_job.bucket import keys, pointer, receipts, releases
from ray_job.bucket.errors import InputError, NotFoundError
from ray_job.bucket.freshness import Schedule, judge
from ray_job.bucket.storage import Storage
from ray_job.data import delta
from ray_job.settings import Settings


def explain(
    storage: Storage, settings: Settings, store_id: str, as_of: date | None, now: datetime
) -> dict[str, Any]:
    """Everything that is known of a store's forecast in the release of `as_of` (default: current).

    Raises InputError where nothing was published, naming the run that was refused or held if there
    was one, or where the store is unknown.
    """
    current, _ = pointer.read(storage)
    name = current.current if as_of is None else current.dates.get(as_of)
    entry = None if name is None else current.entry(name)
    schedule = Schedule(settings.zone, settings.deadline)
    unpublished = _unpublished(storage, store_id, as_of or schedule.today(now) - _DAY)
    if entry is None:
        when = "" if as_of is None else f" as of {as_of}"
        why = [f"; {one['status']}: {one['message']}" for one in unpublished[:1]]
        raise InputError(f"{storage.url}: nothing was published{when}{''.join(why)}")
    release = releases.load(storage, entry.release, entry.sha256)
    found = release.stores.filter(pc.equal(release.stores["store_id"], store_id)).to_pylist()
    if not found:
        raise InputError(f"{store_id}: the release {entry.release} has no such store")
    row = found[0]
    fresh = judge(row["as_of"], row["data_through"], schedule, now)
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
        "unpublished_runs": [one for one in unpublished if one["as_of"] >= entry.as_of],
    }
    if row["run_id"] is not None:
        told["receipt"] = _receipt(storage, row["as_of"], row["run_id"])
    return told


def _unpublished(storage: Storage, store_id: str, as_of: date) -> list[dict[str, Any]]:
    """The runs of a night that published nothing, newest first: a gate, or a hold."""
    told = []
    for receipt in reversed(receipts.of_night(storage, as_of)):
        if receipt.status not in ("refused", "held", "failed"):
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


_DAY = timedelta(days=1)
_DAYS = ("target_dates", "predicted", "lower_80", "upper_80", "usual", "method", "missing")


def _files(storage: Storage, store_id: str) -> list[dict[str, Any]]:
    """The files of the store's history as they are now."""
    table = delta.open_snapshot(storage, keys.BATCH_DATA)
    if table is None:
        return []
    listed = table.files
    return [
        {
            "key": delta.partition_key(file["path"]),
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
