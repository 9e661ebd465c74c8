"""A small bucket, written through `ray_job.bucket` as a run would, with numbers made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_job.bucket import keys, parts, pointer, releases
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.storage import Storage, open_bucket

AS_OF = date(2026, 11, 22)  # a Sunday
ZONE = "Europe/Berlin"
NOON = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)
"""Monday noon in Berlin: the forecast of AS_OF is live, its first day is today."""
HORIZON = 7


@dataclass(frozen=True)
class StoreSpec:
    """Item k of a store is forecast `base + 10 k + days ahead`, ± 1; totals are their sums ± 5."""

    store_id: str
    base: float = 100.0
    items: tuple[str, ...] = ("",)
    outcome: str = "ok"
    as_of: date | None = AS_OF
    data_through: date | None = AS_OF
    carried_since: date | None = None
    reason_code: str | None = None
    reason: str | None = None
    missing: str = ""
    description: dict[str, Any] = field(default_factory=dict)


def days_of(as_of: date, horizon: int = HORIZON) -> list[date]:
    return [as_of + timedelta(days=ahead) for ahead in range(1, horizon + 1)]


def item_value(spec: StoreSpec, item: int, ahead: int) -> float:
    return spec.base + 10 * item + ahead


def total_value(spec: StoreSpec, ahead: int) -> float:
    return sum(item_value(spec, item, ahead) for item in range(len(spec.items)))


def part_table(specs: Sequence[StoreSpec]) -> pa.Table:
    rows = [
        {
            "store_id": spec.store_id,
            "item_id": item_id,
            "target_date": day,
            "days_ahead": ahead,
            "predicted_sales": item_value(spec, item, ahead),
            "lower_80": item_value(spec, item, ahead) - 1,
            "upper_80": item_value(spec, item, ahead) + 1,
            "method": "model",
            "data_through": spec.data_through,
            "model_version": "m1",
        }
        for spec in specs
        if spec.as_of is not None
        for item, item_id in enumerate(spec.items)
        for ahead, day in enumerate(days_of(spec.as_of), start=1)
    ]
    return pa.Table.from_pylist(rows, schema=parts.PART_SCHEMA)


def release_row(spec: StoreSpec, ranges: list[dict[str, Any]], run_id: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(releases.RELEASE_SCHEMA.names)
    row |= {
        "store_id": spec.store_id,
        "outcome": spec.outcome,
        "reason_code": spec.reason_code,
        "reason": spec.reason,
        "attempt": 1,
        "expected": True,
        "items": len(spec.items),
        "description": json.dumps(spec.description) if spec.description else None,
    }
    if spec.as_of is None:
        return row
    aheads = range(1, HORIZON + 1)
    totals = [total_value(spec, ahead) for ahead in aheads]
    return row | {
        "as_of": spec.as_of,
        "generated_at": datetime.combine(spec.as_of + timedelta(days=1), datetime.min.time(), UTC),
        "data_through": spec.data_through,
        "run_id": run_id,
        "model_version": "m1",
        "table_version": 1,
        "carried_since": spec.carried_since,
        "last_target_date": days_of(spec.as_of)[-1],
        "target_dates": days_of(spec.as_of),
        "predicted": totals,
        "lower_80": [total - 5 for total in totals],
        "upper_80": [total + 5 for total in totals],
        "usual": totals,
        "method": ["model"] * HORIZON,
        "missing": [spec.missing] * HORIZON,
        "parts": ranges,
    }


@dataclass
class Bucket:
    """Publishes releases into a storage."""

    storage: Storage

    @classmethod
    def make(cls, folder: Path) -> Bucket:
        folder.mkdir(parents=True, exist_ok=True)
        return cls(open_bucket(str(folder)))

    def publish(
        self,
        specs: Sequence[StoreSpec],
        *,
        as_of: date = AS_OF,
        name: str | None = None,
        published_at: datetime | None = None,
        point: bool = True,
        parts_per_run: int = 1,
    ) -> Published:
        """One release with the stores of `specs`, dealt out to `parts_per_run` parts."""
        specs = sorted(specs, key=lambda spec: spec.store_id)
        name = name or f"{as_of}-a"
        published_at = published_at or datetime.combine(
            as_of + timedelta(days=1), datetime.min.time(), UTC
        )
        run_id = f"run-{name}"
        rows: list[dict[str, Any]] = []
        for number in range(parts_per_run):
            rows += self._write_part(specs[number::parts_per_run], f"{name}{number}", run_id)
        rows.sort(key=lambda row: row["store_id"])
        header = releases.ReleaseHeader(
            release=name,
            as_of=as_of,
            run_id=run_id,
            created_at=published_at,
            table_version=1,
            model_version="m1",
            horizon=HORIZON,
        )
        table = pa.Table.from_pylist(rows, schema=releases.RELEASE_SCHEMA)
        data = releases.encode(releases.Release(header, table))
        self.storage.create(keys.release(name), data)
        entry = Published(
            release=name,
            sha256=parts.sha256(data),
            as_of=as_of,
            run_id=run_id,
            published_at=published_at,
        )
        if point:
            self.point(entry)
        return entry

    def point(self, entry: Published, **changes: Any) -> None:
        def change(now: Pointer) -> Pointer:
            return now.model_copy(
                update={
                    "current": entry.release,
                    "history": (entry, *now.history),
                    "dates": {**now.dates, entry.as_of: entry.release},
                    "time_zone": ZONE,
                    **changes,
                }
            )

        pointer.move(self.storage, change)

    def change(self, **changes: Any) -> None:
        pointer.move(self.storage, lambda now: now.model_copy(update=changes))

    def _write_part(
        self, specs: Sequence[StoreSpec], digest: str, run_id: str
    ) -> list[dict[str, Any]]:
        """The release's rows of these stores, after writing their part."""
        as_of = max((spec.as_of for spec in specs if spec.as_of), default=AS_OF)
        key = keys.part(as_of, digest, 0)
        data = parts.encode(part_table(specs), parts.OUTCOME_SCHEMA.empty_table(), digest)
        self.storage.create(key, data)
        found, first_row = [], 0
        for spec in specs:
            rows = len(spec.items) * HORIZON if spec.as_of else 0
            where = {
                "part": key,
                "first_row": first_row,
                "rows": rows,
                "sha256": parts.sha256(data),
            }
            found.append(release_row(spec, [where] if rows else [], run_id))
            first_row += rows
        return found


STORES = (
    StoreSpec("1", base=100, missing="promo,weather", description={"region": "north"}),
    StoreSpec("2", base=500, items=("a", "b", "c", "d", "e")),
    StoreSpec(
        "3",
        base=300,
        outcome="failed",
        as_of=AS_OF - timedelta(days=2),
        data_through=AS_OF - timedelta(days=3),
        carried_since=AS_OF - timedelta(days=2),
        reason_code="bad_data",
        reason="row 7 has no date",
    ),
    StoreSpec("4", outcome="failed", as_of=AS_OF - timedelta(days=9), reason="storage failed"),
    StoreSpec("5", outcome="no_data", as_of=None, data_through=None, items=()),
    StoreSpec("6", outcome="failed", as_of=None, data_through=None, items=(), reason="no model"),
)
"""A good one, one with items, a carried, an expired, one without data, one never forecast."""
