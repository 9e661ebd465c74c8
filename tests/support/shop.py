"""A small chain of stores: its raw files, its model, and a bucket in which its nights are run.

`ray_job.sample` generates its ten stores. The first has a dozen items, which is enough for the plan
to cut it. The fifth opened three days ago, the ninth has been closed for ten days and stays closed,
the tenth is at a station and open every day. Clocks in Berlin go forward in the first night after
`LAST`, and Easter is within its horizon.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingRegressor

from ray_job import ingest, sample
from ray_job.bucket import keys, parts, pointer, releases
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.releases import Release
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.data.histories import open_histories
from ray_job.execution.executor import Executor
from ray_job.execution.inline import InlineExecutor
from ray_job.model import registry
from ray_job.nightly.request import RunRequest
from ray_job.nightly.run import run
from ray_job.progress import SilentProgress
from ray_job.sample import files as sample_files
from ray_job.settings import Ingest, Plan, Settings
from tests.support.models import register_model

DAY = timedelta(days=1)
LAST = date(2026, 3, 28)
"""The last day with sales: a Saturday."""
STORES = tuple(f"s{number:03d}" for number in range(1, 11))
BIG = STORES[0]
SETTINGS = Settings(
    time_zone="Europe/Berlin",
    lookback_days=84,
    ingest=Ingest(row_group_rows=200),
    plan=Plan(chunk_rows=420),
)
MODEL = "tiny"
_SPEC = sample.SampleSpec(last_day=LAST, stores=len(STORES), days=100, big_store_items=12, seed=5)
_WARM_UP = 60


def midnight(as_of: date) -> datetime:
    """Five minutes into the night of an as-of."""
    return datetime.combine(as_of + DAY, time(0, 5), SETTINGS.zone)


@cache
def delivered() -> sample.Sample:
    """The chain's raw tables."""
    return sample.generate(_SPEC)


@cache
def objects() -> Mapping[str, bytes]:
    """Every object of a bucket with the ingested chain and a current model."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "bucket")
        root.mkdir()
        storage = open_bucket(str(root))
        sample_files.write(delivered(), root / "raw_data", days_per_file=50, format="parquet")
        ingest.ingest(storage, SETTINGS, now=midnight(LAST))
        train(storage)
        return snapshot(storage)


def train(storage: Storage, version: str = MODEL, *, promote: bool = True) -> None:
    """Register a model: a few trees on those features that the short history has."""
    made_on = LAST - 14 * DAY
    cut_offs = [made_on - back * DAY for back in range(1, 21)]
    pairs = [
        (as_of, as_of + (1 + back % SETTINGS.horizon) * DAY)
        for back, as_of in enumerate(cut_offs, start=1)
    ]
    register_model(
        storage,
        SETTINGS,
        version,
        HistGradientBoostingRegressor(max_iter=8, max_leaf_nodes=7, random_state=1),
        [(as_of, target) for as_of, target in pairs if target <= made_on],
        made_on=made_on,
        days=80,
        now=midnight(LAST),
    )
    if promote:
        registry.promote(storage, version, midnight(LAST))


def sales_row(store: str, day: date, sales: float = 900.0, **columns: Any) -> dict[str, Any]:
    """A row of sales of a store that is open; `columns` are added or replaced."""
    return {"store_id": store, "date": day, "sales": sales, "open": 1, "promo": 0, **columns}


def weekday_row(store: str, day: date, sales: float = 900.0) -> dict[str, Any]:
    """A row of a store that is closed on Sundays, without a column `promo`."""
    closed = day.weekday() == 6
    return {
        "store_id": store,
        "date": day,
        "sales": 0.0 if closed else sales,
        "open": int(not closed),
    }


def stores_csv(stores: Iterable[str], closed_for_good: str | None = None) -> str:
    """A file of stores, all in the region BE; one of them may be closed for good."""
    header = "store_id,region" + (",closed_for_good" if closed_for_good else "")
    lines = [
        f"{store},BE" + ((",yes" if store == closed_for_good else ",") if closed_for_good else "")
        for store in stores
    ]
    return "\n".join([header, *lines, ""])


def snapshot(storage: Storage, prefix: str = "") -> dict[str, bytes]:
    """The bytes of every object."""
    return {
        info.key: storage.read(info.key) for info in storage.list(prefix) if _is_object(info.key)
    }


def filled(folder: Path, contents: Mapping[str, bytes]) -> Storage:
    """A bucket in a directory with these objects, by key."""
    for key, data in contents.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return open_bucket(str(folder))


def generations(storage: Storage, prefix: str = "") -> dict[str, str]:
    """The generation of every object. Equal before and after means that nothing was written."""
    return {info.key: info.generation for info in storage.list(prefix) if _is_object(info.key)}


def _is_object(key: str) -> bool:
    return "/.storecast-" not in key


@dataclass(frozen=True)
class Shop:
    """The chain's bucket. Each night has a clock of its own, and runs without Ray by default."""

    storage: Storage
    settings: Settings = SETTINGS
    executor: Executor = field(default_factory=InlineExecutor)

    def having(self, **sections: Any) -> Shop:
        """The same bucket under other settings."""
        return replace(self, settings=self.settings.model_copy(update=sections))

    def by(self, executor: Executor) -> Shop:
        """The same bucket with another executor."""
        return replace(self, executor=executor)

    def run(self, as_of: date | str | None = LAST, *, now: datetime | None = None, **request: Any):
        """One run, by default at the midnight after its as-of."""
        if now is None:
            now = midnight(as_of if isinstance(as_of, date) else LAST)
        return self.perform(RunRequest(as_of=as_of, **request), now)  # type: ignore[arg-type]

    def perform(self, request: RunRequest, now: datetime) -> Receipt:
        return run(
            self.storage,
            self.settings,
            request,
            self.executor,
            now=now,
            clock=lambda: 0.0,
            progress=SilentProgress(),
        )

    def deliver(
        self,
        rows: pa.Table | Sequence[Mapping[str, Any]] | str,
        *,
        name: str = "late",
        kind: str = "sales",
        replace: bool = False,
        now: datetime | None = None,
    ) -> None:
        """Ingest a file of these rows: CSV if it is text, else Parquet."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.csv" if isinstance(rows, str) else f"{name}.parquet")
            if isinstance(rows, str):
                path.write_text(rows)
            else:
                table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows))
                pa.parquet.write_table(table, path)
            ingest.ingest(
                self.storage,
                self.settings,
                [path],
                kind=kind,
                replace=replace,
                now=now or midnight(LAST),
            )

    @property
    def pointer(self) -> Pointer:
        return pointer.read(self.storage)[0]

    def release(self, name: str | None = None) -> Release:
        """A release as readers load it: the current one by default."""
        current = self.pointer
        entry = current.entry(name or current.current or "")
        assert entry is not None
        return releases.load(self.storage, entry.release, entry.sha256)

    def stores(self, name: str | None = None) -> dict[str, dict[str, Any]]:
        """The rows of a release by store."""
        return {row["store_id"]: row for row in self.release(name).stores.to_pylist()}

    def forecast(self, store: str, name: str | None = None) -> pa.Table:
        """A store's rows, read from its parts as the API does."""
        return self.rows_of(self.stores(name)[store])

    def rows_of(self, row: Mapping[str, Any]) -> pa.Table:
        """The forecast that a release's row refers to; fails where a part has other bytes."""
        pieces = [parts.PART_SCHEMA.empty_table()]
        for reference in row["parts"] or []:
            key, first_row, rows = (reference[name] for name in ("part", "first_row", "rows"))
            data = self.storage.read(key)
            assert parts.sha256(data) == reference["sha256"]
            pieces.append(parts.read_rows(data, key, first_row, rows))
        return pa.concat_tables(pieces)

    def all_rows(self, name: str | None = None) -> pa.Table:
        """Every row of a release, sorted."""
        pieces = [self.rows_of(row) for row in self.stores(name).values()]
        order = ["store_id", "item_id", "target_date"]
        return pa.concat_tables(pieces).sort_by([(name, "ascending") for name in order])

    def partition_files(self, store: str) -> list[str]:
        """The keys of a store's history."""
        files = open_histories(self.storage).files.to_pylist()
        return [file["path"] for file in files if file["store_id"] == store]

    def tamper(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Overwrite an object by what `change` makes of its bytes.

        Of a file of the histories no pack is left, from which it would be read as it was.
        """
        self._without_packs(key)
        current = self.storage.read_versioned(key)
        self.storage.replace(key, change(current.data), current.generation)

    def delete(self, *prefixes: str) -> None:
        """Delete every object whose key begins with one of these prefixes; packs as in `tamper`."""
        for prefix in prefixes:
            self._without_packs(prefix)
            for key in [info.key for info in self.storage.list(prefix)]:
                self.storage.delete(key, self.storage.stat(key).generation)

    def _without_packs(self, key: str) -> None:
        if key.startswith(keys.BATCH_DATA):
            self.delete(keys.PACKS)

    def part_keys(self, as_of: date = LAST) -> list[str]:
        return [info.key for info in self.storage.list(f"{keys.PARTS}as_of={as_of}/")]

    def check(self) -> None:
        """Fails unless everything that the pointer names is in the bucket, whole and consistent."""
        current = self.pointer
        for name in {*current.dates.values(), *([current.current] if current.current else [])}:
            release = self.release(name)
            ids = release.stores["store_id"].to_pylist()
            assert ids == sorted(set(ids))
            for row in release.stores.to_pylist():
                rows = self.rows_of(row)
                assert set(rows["store_id"].to_pylist()) <= {row["store_id"]}
                assert rows.num_rows == (row["items"] or 0) * len(row["target_dates"] or [])
                if row["as_of"] is not None:
                    assert row["as_of"] <= release.header.as_of
