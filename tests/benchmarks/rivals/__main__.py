"""`python -m tests.benchmarks.rivals NAME BUCKET STORES HORIZON OUT`: one rival, measured.

The clock starts after the imports of the driver and the start of Spark or Ray. The imports of the
workers and their loading of the model count. OUT gets the predictions as Parquet.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # one row at a time has no use for threads
os.environ["PYSPARK_PYTHON"] = sys.executable

import joblib
import pandas as pd

from ray_job.bucket import keys
from tests.benchmarks.data import warm
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.rivals import numpy_store, pandas_store
from tests.benchmarks.rivals.agreement import agreeing
from tests.benchmarks.rivals.shared import Night, handed, night

WORKERS = 2
Rows = list[dict[str, Any]]


def main(name: str, bucket: str, stores: int, horizon: int, out: str) -> None:
    warm(Path(bucket))
    known = night(bucket, horizon)
    chosen = list(known.paths)[:stores]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "night.joblib"))
        joblib.dump(known, path)
        seconds, frame, cpu = RIVALS[name](known, chosen, path)
    frame.to_parquet(out)
    figures = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "stores": int(frame["store_id"].nunique()),
        "agreeing": agreeing(bucket, horizon, frame),
    }
    print(json.dumps(figures))  # noqa: T201


def by_pandas(store_id: str, path: str) -> Rows:
    """One store in a worker, from its files to its rows, in pandas."""
    known = handed(path)
    frames = [pd.read_parquet(Path(known.bucket, key)) for key in known.paths[store_id]]
    frame = frames[0] if len(frames) == 1 else pd.concat(frames)
    return pandas_store.forecast(store_id, frame, known)


def by_numpy(store_id: str, path: str) -> Rows:
    known = handed(path)
    paths = [str(Path(known.bucket, key)) for key in known.paths[store_id]]
    return numpy_store.forecast(store_id, paths, known)


def pandas_loop(_: Night, stores: Sequence[str], path: str) -> tuple[float, pd.DataFrame, float]:
    began, cpu = time.monotonic(), cpu_seconds()
    rows = [row for store in stores for row in by_pandas(store, path)]
    return _measured(began, cpu, rows)


def _joblib(
    forecast: Callable[[str, str], Rows],
) -> Callable[..., tuple[float, pd.DataFrame, float]]:
    def run(_: Night, stores: Sequence[str], path: str) -> tuple[float, pd.DataFrame, float]:
        began, cpu = time.monotonic(), cpu_seconds()
        with joblib.Parallel(n_jobs=WORKERS) as pool:
            rows_of_stores = pool(joblib.delayed(forecast)(store, path) for store in stores)
        return _measured(began, cpu, [row for rows in rows_of_stores for row in rows])

    return run


def dask(_: Night, stores: Sequence[str], path: str) -> tuple[float, pd.DataFrame, float]:
    import dask as library  # noqa: PLC0415

    began, cpu = time.monotonic(), cpu_seconds()
    calls = [library.delayed(by_pandas)(store, path) for store in stores]
    rows_of_stores = library.compute(*calls, scheduler="processes", num_workers=WORKERS)
    return _measured(began, cpu, [row for rows in rows_of_stores for row in rows])


def spark(known: Night, stores: Sequence[str], path: str) -> tuple[float, pd.DataFrame, float]:
    from pyspark.sql import SparkSession  # noqa: PLC0415

    session = (
        SparkSession.builder.master(f"local[{WORKERS}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.shuffle.partitions", 4 * WORKERS)
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )

    def group(key: tuple[str], frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(pandas_store.forecast(key[0], frame, handed(path)))

    began, cpu = time.monotonic(), cpu_seconds()
    rows = session.read.option("basePath", _root(known)).parquet(*_folders(known, stores))
    schema = "store_id string, target_date date, predicted double"
    frame = rows.groupBy("store_id").applyInPandas(group, schema).toPandas()
    seconds, cpu = time.monotonic() - began, cpu_seconds() - cpu
    session.stop()
    return seconds, frame, cpu


def ray_groups(known: Night, stores: Sequence[str], path: str) -> tuple[float, pd.DataFrame, float]:
    import ray  # noqa: PLC0415
    from ray.data.datasource.partitioning import Partitioning  # noqa: PLC0415

    ray.init(address="local", logging_level="ERROR", log_to_driver=False, num_cpus=WORKERS)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def group(frame: pd.DataFrame) -> pd.DataFrame:
        store = str(frame["store_id"].iloc[0])
        return pd.DataFrame(pandas_store.forecast(store, frame, handed(path)))

    began, cpu = time.monotonic(), cpu_seconds()
    rows = ray.data.read_parquet(
        _folders(known, stores),
        partitioning=Partitioning("hive", base_dir=_root(known), field_types={"store_id": str}),
    )
    frame = rows.groupby("store_id").map_groups(group, batch_format="pandas").to_pandas()
    seconds, cpu = time.monotonic() - began, cpu_seconds() - cpu
    ray.shutdown()
    return seconds, frame, cpu


def _root(known: Night) -> str:
    return str(Path(known.bucket, keys.BATCH_DATA))


def _folders(known: Night, stores: Sequence[str]) -> list[str]:
    return [f"{_root(known)}/store_id={store}" for store in stores]


def _measured(
    began: float, cpu: float, rows: Iterator[dict[str, Any]] | Rows
) -> tuple[float, pd.DataFrame, float]:
    frame = pd.DataFrame(rows)
    return time.monotonic() - began, frame, cpu_seconds() - cpu


RIVALS = {
    "pandas loop": pandas_loop,
    "joblib, pandas": _joblib(by_pandas),
    "joblib, numpy features": _joblib(by_numpy),
    "PySpark applyInPandas": spark,
    "Dask": dask,
    "Ray Data map_groups": ray_groups,
}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
