"""Large buckets, made of columns: releases and parts as a run would write them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from ray_job.bucket import keys, parts, pointer, releases
from ray_job.bucket.compatibility import conform
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.storage import open_bucket

HORIZON = 7
ZONE = "Europe/Berlin"


@dataclass(frozen=True)
class Size:
    stores: int
    items: int
    parts: int

    @property
    def rows(self) -> int:
        return self.stores * self.items * HORIZON


def publish(folder: Path, size: Size, *, as_of: date, name: str, base: float) -> None:
    """One release of equal stores; every prediction lies between `base` and `base` + 1."""
    folder.mkdir(parents=True, exist_ok=True)
    storage = open_bucket(str(folder))
    ids = [f"{number:06d}" for number in range(size.stores)]
    days = pa.array([as_of + timedelta(days=ahead) for ahead in range(1, HORIZON + 1)], pa.date32())
    references: list[tuple[str, int, int, str]] = []
    for number, some in enumerate(np.array_split(np.arange(size.stores), size.parts)):
        table = _part([ids[index] for index in some], size.items, as_of, days, base)
        data = parts.encode(
            conform(table, parts.PART_SCHEMA),
            parts.OUTCOME_SCHEMA.empty_table(),
            f"{name}-{number}",
        )
        key = keys.part(as_of, f"{name}-{number}", 0)
        storage.write_unseen(key, data)
        digest = parts.sha256(data)
        rows = size.items * HORIZON
        references += [(key, row * rows, rows, digest) for row in range(len(some))]
    data = releases.encode(_release(ids, size, as_of, name, days, base, references))
    storage.create(keys.release(name), data)
    entry = Published(
        release=name,
        sha256=parts.sha256(data),
        as_of=as_of,
        run_id=f"run-{name}",
        published_at=datetime.now(UTC),
    )

    def change(now: Pointer) -> Pointer:
        return now.model_copy(
            update={
                "current": name,
                "history": (entry, *now.history),
                "dates": {**now.dates, as_of: name},
                "time_zone": ZONE,
            }
        )

    pointer.move(storage, change)


def _part(ids: list[str], items: int, as_of: date, days: pa.Array, base: float) -> pa.Table:
    rows = len(ids) * items * HORIZON
    values = base + np.linspace(0, 1, rows)
    item_ids = [""] if items == 1 else [f"item-{number:06d}" for number in range(items)]
    stores = pa.DictionaryArray.from_arrays(
        np.repeat(np.arange(len(ids), dtype=np.int32), items * HORIZON), ids
    )
    names = pa.DictionaryArray.from_arrays(
        np.tile(np.repeat(np.arange(items, dtype=np.int32), HORIZON), len(ids)), item_ids
    )
    return pa.table(
        {
            "store_id": stores.dictionary_decode(),
            "item_id": names.dictionary_decode(),
            "target_date": days.take(pa.array(np.tile(np.arange(HORIZON), len(ids) * items))),
            "days_ahead": np.tile(np.arange(1, HORIZON + 1, dtype=np.int16), len(ids) * items),
            "predicted_sales": values,
            "lower_80": values * 0.9,
            "upper_80": values * 1.1,
            "method": pa.repeat(pa.scalar("model"), rows),
            "data_through": pa.repeat(pa.scalar(as_of, pa.date32()), rows),
            "model_version": pa.repeat(pa.scalar("m1"), rows),
        }
    )


def _release(
    ids: list[str],
    size: Size,
    as_of: date,
    name: str,
    days: pa.Array,
    base: float,
    references: list[tuple[str, int, int, str]],
) -> releases.Release:
    count = size.stores
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * HORIZON)
    totals = (base + np.linspace(0, 1, count * HORIZON)) * size.items
    now = datetime.now(UTC)

    def same(value: object, kind: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), count)

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values)

    columns = {
        "store_id": pa.array(ids),
        "outcome": same("ok", pa.string()),
        "reason_code": pa.nulls(count, pa.string()),
        "reason": pa.nulls(count, pa.string()),
        "attempt": same(1, pa.int32()),
        "expected": same(True, pa.bool_()),
        "as_of": same(as_of, pa.date32()),
        "generated_at": same(now, pa.timestamp("us", "UTC")),
        "data_through": same(as_of, pa.date32()),
        "run_id": same(f"run-{name}", pa.string()),
        "model_version": same("m1", pa.string()),
        "table_version": same(1, pa.int64()),
        "carried_since": pa.nulls(count, pa.date32()),
        "last_target_date": same(days[-1].as_py(), pa.date32()),
        "items": same(size.items, pa.int64()),
        "target_dates": lists(days.take(pa.array(np.tile(np.arange(HORIZON), count)))),
        "predicted": lists(pa.array(totals)),
        "lower_80": lists(pa.array(totals * 0.9)),
        "upper_80": lists(pa.array(totals * 1.1)),
        "usual": lists(pa.array(totals)),
        "method": lists(pa.repeat(pa.scalar("model"), count * HORIZON)),
        "missing": lists(pa.repeat(pa.scalar(""), count * HORIZON)),
        "parts": pa.ListArray.from_arrays(
            pa.array(np.arange(count + 1, dtype=np.int32)),
            pa.StructArray.from_arrays(
                [pa.array(column) for column in zip(*references, strict=True)],
                fields=list(releases.PART_REFERENCE),
            ),
        ),
        "description": same('{"region": "north"}', pa.string()),
    }
    header = releases.ReleaseHeader(
        release=name,
        as_of=as_of,
        run_id=f"run-{name}",
        created_at=now,
        table_version=1,
        model_version="m1",
        horizon=HORIZON,
    )
    return releases.Release(header, conform(pa.table(columns), releases.RELEASE_SCHEMA))
