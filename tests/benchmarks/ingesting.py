"""`python -m tests.benchmarks.ingesting METHOD FOLDER STORES`: raw files into a table.

- `ours`: `ingest` of one CSV with two years of so many stores;
- `duckdb`: DuckDB's own partitioned COPY of the same CSV, sorted;
- `small files`: so many files of one row in one commit.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import duckdb
from pyarrow import csv

from ray_job import ingest
from ray_job.bucket.storage import open_bucket
from ray_job.sample import SampleSpec, iter_sales
from tests.benchmarks.data import DAYS, LAST, NOW, SEED, measured
from tests.benchmarks.processes import cpu_seconds, peak_bytes

PreparedIngest = tuple[Callable[[], None], int]
"""The call that is measured, and the number of bytes of its raw files."""


def main(method: str, folder: Path, stores: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    spec = _spec(stores)
    target = folder / "target"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    bring_in, size = METHODS[method](folder, target, spec)
    began, cpu = time.monotonic(), cpu_seconds()
    bring_in()
    figures = {
        "seconds": time.monotonic() - began,
        "cpu_seconds": cpu_seconds() - cpu,
        "bytes": size,
        "peak_bytes": peak_bytes(),
    }
    shutil.rmtree(target)
    print(json.dumps(figures))  # noqa: T201


def prepare(folder: Path, stores: int) -> None:
    """Make the CSV, in a process whose memory is not measured."""
    _raw(folder, _spec(stores))


def ours(folder: Path, target: Path, spec: SampleSpec) -> PreparedIngest:
    raw = _raw(folder, spec)
    (target / "raw_data").mkdir()
    (target / "raw_data" / "sales.csv").hardlink_to(raw)
    return partial(_ingest, target), raw.stat().st_size


def _ingest(target: Path) -> None:
    ingest.ingest(open_bucket(str(target)), measured(target), now=NOW)


def duckdb_copy(folder: Path, target: Path, spec: SampleSpec) -> PreparedIngest:
    raw = _raw(folder, spec)
    return partial(_copy, raw, target), raw.stat().st_size


def _copy(raw: Path, target: Path) -> None:
    with duckdb.connect(config={"temp_directory": str(target / "spill")}) as session:
        session.execute(
            f"COPY (SELECT * FROM read_csv('{raw}', types={{'store_id': 'VARCHAR'}})"  # noqa: S608
            f" ORDER BY store_id, date) TO '{target / 'table'}'"
            " (FORMAT parquet, PARTITION_BY (store_id))"
        )


def small_files(_: Path, target: Path, spec: SampleSpec) -> PreparedIngest:
    raw = target / "raw_data"
    raw.mkdir()
    size = 0
    for rows in iter_sales(replace(spec, days=1)):
        header = ",".join(rows.column_names)
        for row in rows.to_pylist():
            values = ",".join(str(value) for value in row.values())
            size += (raw / f"{row['store_id']}.csv").write_text(f"{header}\n{values}\n")
    return partial(_ingest, target), size


def _spec(stores: int) -> SampleSpec:
    return SampleSpec(last_day=LAST, stores=stores, days=DAYS, seed=SEED)


def _raw(folder: Path, spec: SampleSpec) -> Path:
    """One CSV, ordered by date and not by store, as nights deliver."""
    path = folder / f"sales-{spec.stores}.csv"
    if not path.exists():
        with duckdb.connect() as session:
            blocks = folder / "blocks"
            blocks.mkdir(parents=True, exist_ok=True)
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


METHODS: dict[str, Callable[[Path, Path, SampleSpec], PreparedIngest]] = {
    "ours": ours,
    "duckdb": duckdb_copy,
    "small files": small_files,
}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
