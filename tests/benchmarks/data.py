"""The buckets that are measured: generated from a seed, ingested, with a model that is current.

A bucket that is there already is taken as it is; what a run leaves in it, `forget` removes.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job import ingest, sample_files, settings
from ray_job.bucket.storage import open_bucket
from ray_job.sample import SampleSpec, iter_sales
from ray_job.settings import Settings
from tests.benchmarks import fitting

LAST = date(2025, 6, 30)
"""The last day with sales of every bucket."""
NOW = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
DAYS = 730
SEED = 29
_READY = "ready"


@dataclass(frozen=True, slots=True)
class Data:
    """The folder in which all buckets of a benchmark lie."""

    folder: Path

    def stores(self, number: int, *, daily: int = 0) -> Path:
        """A bucket of so many stores with one series of two years each.

        Ingested at once, or with each of the last `daily` days delivered on its own.
        """
        spec = SampleSpec(last_day=LAST, stores=number, days=DAYS, seed=SEED)
        name = f"stores-{number}" + (f"-daily-{daily}" if daily else "")
        return self._bucket(name, spec, daily)

    def items(self, stores: int, items: int, days: int, big: int) -> Path:
        """A bucket of stores with items, the first of which has `big` of them."""
        spec = SampleSpec(
            last_day=LAST,
            stores=stores,
            days=days,
            items_per_store=items,
            big_store_items=big,
            seed=SEED,
        )
        return self._bucket(f"items-{stores}x{items}x{days}-{big}", spec, 0)

    def _bucket(self, name: str, spec: SampleSpec, daily: int) -> Path:
        root = self.folder / name
        if (root / _READY).exists():
            return root
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        storage = open_bucket(str(root))
        first = replace(
            spec, last_day=spec.last_day - timedelta(days=daily), days=spec.days - daily
        )
        raw = root / "raw_data"
        sample_files.write_blocks(first, raw)
        ingest.ingest(storage, measured(root), now=NOW - timedelta(days=daily + 1))
        shutil.rmtree(raw)
        if daily:
            self._deliver_daily(root, spec, daily)
        self._give_model(root)
        (root / _READY).touch()
        return root

    def _deliver_daily(self, root: Path, spec: SampleSpec, daily: int) -> None:
        """The last days again as one file a day for all stores."""
        raw = root / "raw_data"
        nights = [spec.last_day - timedelta(days=back) for back in reversed(range(daily))]
        spans = replace(spec, days=daily, days_ahead=0)
        table = pa.concat_tables(iter_sales(spans)).sort_by([("date", "ascending")])
        for night in nights:
            raw.mkdir(exist_ok=True)
            stamp = datetime.combine(night + timedelta(days=1), NOW.timetz())
            rows = table.filter(pa.compute.equal(table["date"].cast(pa.date32()), night))
            path = raw / f"sales-{night}.parquet"
            pq.write_table(rows, path)
            os.utime(path, (stamp.timestamp(), stamp.timestamp()))
            ingest.ingest(open_bucket(str(root)), measured(root), now=stamp)
            shutil.rmtree(raw)

    def _give_model(self, root: Path) -> None:
        """The same model for all buckets: it is fitted once, on a thousand stores."""
        origin = self.folder / "model"
        if not (origin / _READY).exists():
            shutil.rmtree(origin, ignore_errors=True)
            spec = SampleSpec(last_day=LAST, stores=1000, days=DAYS, seed=SEED)
            sample_files.write_blocks(spec, origin / "raw_data")
            storage = open_bucket(str(origin))
            ingest.ingest(storage, measured(origin), now=NOW)
            fitting.register(storage, measured(origin, horizon=7), NOW)
            (origin / _READY).touch()
        shutil.copytree(origin / "models", root / "models")


def measured(bucket: Path, horizon: int = 1) -> Settings:
    """The settings under which everything is measured: the defaults, but for the horizon."""
    chosen = settings.load(None, bucket=str(bucket))
    return chosen.model_copy(update={"horizon": horizon})


def forget(bucket: Path) -> None:
    """Remove what runs have left, so that the next one does everything again."""
    shutil.rmtree(bucket / "results", ignore_errors=True)
