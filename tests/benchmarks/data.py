"""The buckets that are measured: generated from a seed, ingested, and with a current model.

A bucket that exists is used as it is. `forget` removes the results of its runs.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from ray_job import ingest, settings
from ray_job.bucket import keys
from ray_job.bucket.storage import open_bucket
from ray_job.data import delta
from ray_job.data.partition import Constants
from ray_job.sample import SampleSpec
from ray_job.sample import files as sample_files
from ray_job.settings import Settings
from tests.benchmarks import fitting

LAST = date(2025, 6, 30)
"""The last day with sales of every bucket."""
NOW = datetime(2025, 7, 1, 0, 5, tzinfo=UTC)
DAYS = 730
SEED = 29
_READY = "ready"
_LINKS = 50_000
"""A file system may allow no more than 65,000 links to one file."""


@dataclass(frozen=True, slots=True)
class Data:
    """The folder in which all buckets of a benchmark lie."""

    folder: Path

    def stores(self, number: int) -> Path:
        """A bucket of so many stores with one series of two years each, ingested at once."""
        spec = SampleSpec(last_day=LAST, stores=number, days=DAYS, seed=SEED)
        return self._bucket(f"stores-{number}", spec)

    def daily(self, number: int, days: int) -> Path:
        """The same bucket with each of the last `days` days delivered again, one object a store.

        An object is as an ingest writes it. The objects of a day are links to the same bytes, so
        that 1.5 million of them take a minute; readers open each by its own name.
        """
        root = self.folder / f"stores-{number}-daily-{days}"
        if (root / _READY).exists():
            return root
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.stores(number), root, copy_function=os.link)
        (root / _READY).unlink()
        forget(root)
        for back in reversed(range(days)):
            _deliver_again(root, LAST - timedelta(days=back))
        (root / _READY).touch()
        return root

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
        return self._bucket(f"items-{stores}x{items}x{days}-{big}", spec)

    def _bucket(self, name: str, spec: SampleSpec) -> Path:
        root = self.folder / name
        if (root / _READY).exists():
            return root
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        raw = root / "raw_data"
        sample_files.write_blocks(spec, raw)
        ingest.ingest(open_bucket(str(root)), measured(root), now=NOW - timedelta(days=1))
        shutil.rmtree(raw)
        self._give_model(root)
        (root / _READY).touch()
        return root

    def _give_model(self, root: Path) -> None:
        """Copy the model, which is fitted once, on a thousand stores, for all buckets."""
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


def _deliver_again(root: Path, day: date) -> None:
    """One commit of a row for each store."""
    storage = open_bucket(str(root))
    table = delta.open_or_create(storage, keys.BATCH_DATA, delta.SALES_SCHEMA, [delta.STORE])
    delivered = datetime.combine(day + timedelta(days=1), NOW.timetz())
    schema = delta.stored_schema(delta.arrow_schema(table))
    row = {"item_id": "", "date": day, "sales": 100.0, "delivered_at": delivered, "op": "set"}
    sink = pa.BufferOutputStream()
    with delta.parquet_writer(sink, schema) as writer:
        rows = pa.RecordBatch.from_pylist([row], schema)
        writer.write_batch(rows)
        constants = Constants()
        constants.add(rows)
        writer.add_key_value_metadata(constants.footer())
    data = sink.getvalue().to_pybytes()
    stores = sorted(set(delta.list_files(table)[delta.STORE].to_pylist()))
    name = f"{uuid4().hex}.parquet"
    added = []
    for number, store in enumerate(stores):
        path = f"{delta.STORE}={store}/{name}"
        target = root / delta.partition_key(path)
        if number % _LINKS == 0:
            origin = target
            origin.write_bytes(data)
        else:
            target.hardlink_to(origin)
        added.append(delta.DataFile(path, store, len(data), 1, day, day, "", ""))
    delta.commit(table, added, now=NOW)


def measured(bucket: Path, horizon: int = 1) -> Settings:
    """The settings of all measurements: the defaults, except for the horizon."""
    chosen = settings.load(None, bucket=str(bucket))
    return chosen.model_copy(update={"horizon": horizon})


def forget(bucket: Path) -> None:
    """Remove the results of runs, so that the next run makes everything again."""
    shutil.rmtree(bucket / "results", ignore_errors=True)


def warm(bucket: Path) -> None:
    """Read all histories once, so that the first measurement does not wait for the disk longer than
    those after it."""
    for parent, _, names in os.walk(bucket / keys.BATCH_DATA):
        for name in names:
            with Path(parent, name).open("rb", buffering=0) as file:
                file.read()
