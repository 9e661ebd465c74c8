"""`python -m tests.benchmarks.commands TOOL BUCKET HORIZON [--latency-ms MS] [--delivery]`.

TOOL is `storecast`, `mlforecast` or `polars`. One night as a whole process, from its start to its
end, with histories that are in the page cache. With `--latency-ms` the bucket lies on the fake
Cloud Storage in a process of its own, which waits so long before each answer; its requests are
counted by class. With `--delivery` a day of all stores is ingested first, as a measurement of its
own (`ingest_…`).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from ray_job.bucket.storage import open_bucket
from ray_job.data.histories import open_histories
from tests.benchmarks.commands.environments import rival_command
from tests.benchmarks.commands.observed import observe
from tests.benchmarks.commands.requests import CountedStorage, counted_storage
from tests.benchmarks.data import LAST, forget, warm

_BUCKET = "shop"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.commands", description=__doc__
    )
    parser.add_argument("tool", choices=("storecast", "mlforecast", "polars"))
    parser.add_argument("bucket", type=Path)
    parser.add_argument("horizon", type=int)
    parser.add_argument("--latency-ms", type=float)
    parser.add_argument("--delivery", action="store_true")
    asked = parser.parse_args()
    if asked.delivery and asked.latency_ms is None:
        parser.error("--delivery needs --latency-ms: the day would stay in the bucket on disk")
    warm(asked.bucket)
    if asked.tool == "storecast":
        figures = _storecast(asked)
    else:
        figures = _rival(asked.tool, asked.bucket, asked.horizon)
    print(json.dumps(figures))  # noqa: T201


def _storecast(asked: argparse.Namespace) -> dict[str, Any]:
    forget(asked.bucket)
    environment = dict(os.environ)
    command = [sys.executable, "-m", "ray_job"]
    storage = (
        nullcontext()
        if asked.latency_ms is None
        else counted_storage(_BUCKET, asked.bucket, asked.latency_ms)
    )
    figures: dict[str, Any] = {}
    with _delivered_day(asked.bucket, wanted=asked.delivery) as last, storage as counted:
        url = str(asked.bucket)
        if counted is not None:
            url, environment["STORAGE_EMULATOR_HOST"] = f"gs://{_BUCKET}", counted.url
        environment["STORECAST_BUCKET"] = url
        if asked.delivery:
            _add(figures, "ingest_", observe([*command, "ingest"], environment), counted)
        run = [*command, "run", "--as-of", str(last)]
        if asked.horizon == 1:
            run = [sys.executable, "-m", "tests.benchmarks.commands.short_night", str(last)]
        else:
            environment["STORECAST_HORIZON"] = str(asked.horizon)
        _add(figures, "", observe(run, environment), counted)
    forget(asked.bucket)
    return figures


def _add(
    figures: dict[str, Any],
    prefix: str,
    observed: dict[str, float],
    counted: CountedStorage | None,
) -> None:
    figures.update({f"{prefix}{name}": value for name, value in observed.items()})
    if counted is not None:
        requests = counted.take()
        figures[f"{prefix}storage_cpu_seconds"] = requests.cpu_seconds
        figures[f"{prefix}reads"] = requests.reads
        figures[f"{prefix}writes"] = requests.writes
        figures[f"{prefix}dollars"] = requests.dollars


@contextmanager
def _delivered_day(bucket: Path, *, wanted: bool) -> Iterator[Any]:
    """The last day with sales; if `wanted`, of a raw file with a further day of all stores.

    The file is gone afterwards.
    """
    if not wanted:
        yield LAST
        return
    day = LAST + timedelta(days=1)
    folder = bucket / "raw_data"
    folder.mkdir()
    try:
        with (folder / f"{day}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("store_id", "date", "sales", "open", "promo"))
            stores = open_histories(open_bucket(str(bucket))).store_ids
            writer.writerows(
                (store, day, 100 + number % 50, 1, 0) for number, store in enumerate(stores)
            )
        yield day
    finally:
        shutil.rmtree(folder)


def _rival(name: str, bucket: Path, horizon: int) -> dict[str, Any]:
    """A rival's night. Its model is fitted once, on the bucket of a thousand stores."""
    script = rival_command(name)
    origin = bucket.parent / "model"
    model = origin / f"{name}.model"
    if not model.exists():
        observe([*script, "fit", str(origin), str(model)], os.environ)
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "forecasts.parquet"))
        return dict(
            observe([*script, "run", str(bucket), str(model), out, str(horizon)], os.environ)
        )


if __name__ == "__main__":
    main()
