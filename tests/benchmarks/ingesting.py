"""`python -m tests.benchmarks.ingesting WHAT FOLDER STORES`: raw files into a table.

- `ours`: `ingest` of one CSV of so many stores with two years each;
- `duckdb`: DuckDB's own partitioned COPY of the same CSV, sorted;
- `small files`: as many files of one row, as a night may bring them, in one commit.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb
from pyarrow import csv

from ray_job import ingest
from ray_job.bucket.storage import open_bucket
from ray_job.sample import SampleSpec, iter_sales
from tests.benchmarks.data import DAYS, LAST, NOW, SEED, measured


def main(what: str, folder: Path, stores: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    spec = SampleSpec(last_day=LAST, stores=stores, days=DAYS, seed=SEED)
    target = folder / "target"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    seconds, files = MEASURED[what](folder, target, spec)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "files": files, "peak_bytes": peak}))  # noqa: T201


def ours(folder: Path, target: Path, spec: SampleSpec) -> tuple[float, int]:
    (target / "raw_data").mkdir()
    (target / "raw_data" / "sales.csv").hardlink_to(_raw(folder, spec))
    began = time.monotonic()
    ingest.ingest(open_bucket(str(target)), measured(target), now=NOW)
    return time.monotonic() - began, 1


def duckdb_copy(folder: Path, target: Path, spec: SampleSpec) -> tuple[float, int]:
    raw = _raw(folder, spec)
    began = time.monotonic()
    with duckdb.connect(config={"temp_directory": str(target / "spill")}) as session:
        session.execute(
            f"COPY (SELECT * FROM read_csv('{raw}', types={{'store_id': 'VARCHAR'}})"  # noqa: S608
            f" ORDER BY store_id, date) TO '{target / 'table'}'"
            " (FORMAT parquet, PARTITION_BY (store_id))"
        )
    return time.monotonic() - began, 1


def small_files(_: Path, target: Path, spec: SampleSpec) -> tuple[float, int]:
    raw = target / "raw_data"
    raw.mkdir()
    count = 0
    for rows in iter_sales(replace(spec, days=1)):
        header = ",".join(rows.column_names)
        for row in rows.to_pylist():
            values = ",".join(str(value) for value in row.values())
            (raw / f"{row['store_id']}.csv").write_text(f"{header}\n{values}\n")
            count += 1
    began = time.monotonic()
    ingest.ingest(open_bucket(str(target)), measured(target), now=NOW)
    return time.monotonic() - began, count


def _raw(folder: Path, spec: SampleSpec) -> Path:
    """One CSV, not in the order of the stores: by date, as nights deliver."""
    path = folder / f"sales-{spec.stores}.csv"
    if not path.exists():
        with duckdb.connect() as session:
            blocks = folder / "blocks"
            blocks.mkdir(exist_ok=True)
            for number, rows in enumerate(iter_sales(spec)):
                csv.write_csv(rows, blocks / f"{number:05d}.csv")
            made = path.with_suffix(".part")
            session.execute(
                f"COPY (SELECT * FROM read_csv('{blocks}/*.csv', types={{'store_id': 'VARCHAR'}})"  # noqa: S608
                f" ORDER BY date, store_id) TO '{made}' (FORMAT csv, HEADER)"
            )
            made.rename(path)
            shutil.rmtree(blocks)
    return path


MEASURED = {"ours": ours, "duckdb": duckdb_copy, "small files": small_files}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
