"""Drafts of publications made by hand. Their parts lie in the bucket, so that readers find them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

from ray_job.bucket import keys, parts, pointer, releases
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.releases import RELEASE_SCHEMA
from ray_job.bucket.storage import Storage
from ray_job.publishing.decide import Draft, Publication
from ray_job.publishing.publish import publish
from ray_job.settings import Gates, Settings

A = date(2026, 3, 28)
DAY = timedelta(days=1)
LENIENT = Settings(
    gates=Gates(missing_share=1, late_share=1, vanished_stores=10_000, mean_factor=1e9)
)
OK, FAILED = "ok", "failed"


def run_name(number: int) -> str:
    """The id of a publisher's run with this number, in the form of a run's id."""
    return f"20260328-20260329T000500-{number:06x}"


class Publisher:
    """Makes drafts and publishes them; every draft has a run id of its own."""

    def __init__(self, storage: Storage, settings: Settings = LENIENT) -> None:
        self.storage, self.settings = storage, settings
        self.runs = 0

    def draft(
        self, outcomes: Mapping[str, str], as_of: date = A, *, version: int = 1, **more: Any
    ) -> Draft:
        """A run that had these outcomes; the parts of good ones are written."""
        self.runs += 1
        run_id = more.pop("run_id", run_name(self.runs))
        now = datetime.combine(as_of + DAY, time(0, 5), self.settings.zone)
        rows = [
            self._row(store, outcome, as_of, version, run_id) for store, outcome in outcomes.items()
        ]
        return Draft(
            rows=pa.Table.from_pylist(sorted(rows, key=_store), schema=RELEASE_SCHEMA),
            expected=more.pop("expected", set(outcomes)),
            known=more.pop("known", set(outcomes)),
            as_of=as_of,
            run_id=run_id,
            created_at=now,
            table_version=version,
            model_version=more.pop("model_version", "m1"),
            horizon=2,
            **more,
        )

    def publish(self, *args: Any, **more: Any) -> Publication:
        return publish(self.storage, self.draft(*args, **more), self.settings)

    @property
    def pointer(self) -> Pointer:
        return pointer.read(self.storage)[0]

    def rows(self, release: str | None = None) -> dict[str, dict[str, Any]]:
        current = self.pointer
        entry = current.entry(release or current.current or "")
        assert entry is not None
        table = releases.load(self.storage, entry.release, entry.sha256).stores
        return {row["store_id"]: row for row in table.to_pylist()}

    def views(self) -> dict[date | None, dict[str, dict[str, Any]]]:
        """The rows that readers get, by as-of; None is the current release.

        Fails where a part that a row names has other bytes.
        """
        current = self.pointer
        names: dict[date | None, str | None] = {None: current.current, **current.dates}
        rows_by_as_of = {}
        for as_of, name in names.items():
            if name is None:
                continue
            rows_by_as_of[as_of] = self.rows(name)
            for row in rows_by_as_of[as_of].values():
                for reference in row["parts"] or []:
                    assert parts.sha256(self.storage.read(reference["part"])) == reference["sha256"]
        return rows_by_as_of

    def _row(
        self, store: str, outcome: str, as_of: date, version: int, run_id: str
    ) -> dict[str, Any]:
        if outcome == FAILED:
            return {
                "store_id": store,
                "outcome": FAILED,
                "reason_code": "corrupt",
                "reason": f"{run_id} could not read it",
                "attempt": 1,
            }
        data = f"{store} {as_of} {run_id}".encode()
        key = keys.part(as_of, hashlib.sha256(data).hexdigest()[:32], 0)
        self.storage.create(key, data)
        targets = [as_of + DAY, as_of + 2 * DAY]
        return {
            "store_id": store,
            "outcome": outcome,
            "attempt": 1,
            "as_of": as_of,
            "generated_at": datetime.combine(as_of + DAY, time(0, 5), self.settings.zone),
            "data_through": as_of,
            "run_id": run_id,
            "model_version": "m1",
            "table_version": version,
            "last_target_date": targets[-1],
            "items": 1,
            "target_dates": targets,
            "predicted": [float(version), float(version)],
            "lower_80": [0.0, 0.0],
            "upper_80": [9.0, 9.0],
            "usual": [float(version), float(version)],
            "method": ["model", "model"],
            "missing": ["", ""],
            "parts": [
                {"part": key, "first_row": 0, "rows": 2, "sha256": parts.sha256(data)},
            ],
        }


def _store(row: Mapping[str, Any]) -> str:
    return str(row["store_id"])


@contextmanager
def interposed(storage: Storage, act: Any, nth: int = 1) -> Iterator[Storage]:
    """A storage that calls `act` before its nth call of `replace`, as if a rival came first."""
    yield _Interposed(storage, act, nth)  # type: ignore[misc]


class _Interposed:
    def __init__(self, storage: Storage, act: Any, nth: int) -> None:
        self._storage, self._act, self._left = storage, act, nth

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def replace(self, key: str, data: bytes, generation: str | None) -> str:
        self._left -= 1
        if self._left == 0:
            self._act()
        return self._storage.replace(key, data, generation)
