"""Where a store's number comes from, or why it has none.

The pointer names all objects that are read, except for runs that published nothing. Those are read
from the receipts of one night: of the given as-of, or of the newest night that can have run.
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
    """The row of a store in the release of `as_of` (None: the current one), with all its sources.

    Raises InputError if nothing was published, naming the run that was refused or held if there is
    one, or if the release has no such store.
    """
    current, _ = pointer.read(storage)
    name = current.current if as_of is None else current.dates.get(as_of)
    entry = None if name is None else current.entry(name)
    schedule = Schedule(settings.zone, settings.deadline)
    unpublished = _unpublished(storage, store_id, as_of or schedule.today(now) - _DAY)
    if entry is None:
        when = "" if as_of is None else f" as of {as_of}"
        reason = "".join(f"; {run['status']}: {run['message']}" for run in unpublished[:1])
        raise InputError(f"{storage.url}: nothing was published{when}{reason}")
    release = releases.load(storage, entry.release, entry.sha256)
    rows = release.stores.filter(pc.equal(release.stores["store_id"], store_id)).to_pylist()
    if not rows:
        raise InputError(f"{store_id}: the release {entry.release} has no such store")
    row = rows[0]
    freshness = judge(row["as_of"], row["data_through"], schedule, now)
    explanation = {name: value for name, value in row.items() if name not in _DAY_COLUMNS}
    explanation |= {
        "days": [
            dict(zip(_DAY_COLUMNS, values, strict=True))
            for values in zip(*(row[name] or [] for name in _DAY_COLUMNS), strict=True)
        ],
        "release": entry.release,
        "release_as_of": entry.as_of,
        "published_at": entry.published_at,
        "hindsight": release.header.hindsight,
        "stale": freshness.stale,
        "stale_reason": freshness.reason,
        "data_age_days": freshness.data_age_days,
        "hold_through": current.hold_through,
        "input_files": _files(storage, store_id),
        "unpublished_runs": [run for run in unpublished if run["as_of"] >= entry.as_of],
    }
    if row["run_id"] is not None:
        explanation["receipt"] = _receipt(storage, row["as_of"], row["run_id"])
    return explanation


def _unpublished(storage: Storage, store_id: str, as_of: date) -> list[dict[str, Any]]:
    """The runs of a night that a gate or a hold kept from publishing, newest first."""
    runs = []
    for receipt in reversed(receipts.of_night(storage, as_of)):
        if receipt.status not in ("refused", "held", "failed"):
            continue
        failure = next(
            (failure for failure in receipt.failures if failure.store_id == store_id), None
        )
        runs.append(
            {
                "run_id": receipt.run_id,
                "as_of": receipt.as_of,
                "status": receipt.status,
                "message": receipt.message,
                "failure": None if failure is None else failure.model_dump(mode="json"),
            }
        )
    return runs


_DAY = timedelta(days=1)
_DAY_COLUMNS = ("target_dates", "predicted", "lower_80", "upper_80", "usual", "method", "missing")


def _files(storage: Storage, store_id: str) -> list[dict[str, Any]]:
    """The files that hold the store's history now."""
    table = delta.open_snapshot(storage, keys.BATCH_DATA)
    if table is None:
        return []
    files = table.files
    return [
        {
            "key": delta.partition_key(file["path"]),
            "rows": file["rows"],
            "bytes": file["size"],
            "first_date": file["first_date"],
            "last_date": file["last_date"],
        }
        for file in files.filter(pc.equal(files["store_id"], store_id)).to_pylist()
    ]


def _receipt(storage: Storage, as_of: date, run_id: str) -> dict[str, Any] | None:
    try:
        receipt = receipts.read(storage, as_of, run_id)
    except NotFoundError:
        return None
    fields = {"status", "started_at", "seconds", "gates", "message", "revision", "submission"}
    return receipt.model_dump(mode="json", include=fields)
