"""A generated sample as raw files, laid out as below raw_data/."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from ray_job.bucket.errors import InputError
from ray_job.sample.generator import Sample, SampleSpec, holidays, iter_blocks, stores, weather

Format = Literal["csv", "csv.gz", "parquet"]


def write(
    sample: Sample,
    directory: Path,
    *,
    days_per_file: int | None = None,
    format: Format = "csv",  # noqa: A002 - the common name
) -> list[Path]:
    """Write `sample` below `directory`. Returns the files: sales first, by date.

    There is a file of sales for each calendar month (`sales-2026-01.csv`), or for `days_per_file`
    days, named by the first (`sales-2026-01-05.csv`). The other tables become `known_ahead.csv`,
    `weather/weather.csv`, `holidays/holidays.csv` and `stores/stores.csv`, if they have rows. Files
    of the same names are overwritten. The same sample gives the same bytes. Raises InputError if
    `days_per_file` is less than 1.
    """
    if days_per_file is not None and days_per_file < 1:
        raise InputError(f"days_per_file is {days_per_file}: it must be at least 1")
    written = [
        _write(table, directory / f"sales-{name}", format)
        for name, table in _by_date(sample, days_per_file)
    ]
    if sample.known_ahead.num_rows:
        written.append(_write(sample.known_ahead, directory / "known_ahead", format))
    return written + _write_context(
        directory, format, weather=sample.weather, holidays=sample.holidays, stores=sample.stores
    )


def write_blocks(
    spec: SampleSpec,
    directory: Path,
    *,
    stores_per_block: int = 500,
    format: Format = "parquet",  # noqa: A002 - the common name
) -> list[Path]:
    """Write the rows of `generate(spec)` with bounded memory. Returns the files.

    Each file has all days of some stores: `sales-00001.parquet`, `known_ahead-00001.parquet`, ….
    """
    written: list[Path] = []
    for number, block in enumerate(iter_blocks(spec, stores_per_block), start=1):
        written.append(_write(block.sales, directory / f"sales-{number:05d}", format))
        if block.known_ahead.num_rows:
            written.append(
                _write(block.known_ahead, directory / f"known_ahead-{number:05d}", format)
            )
    return written + _write_context(
        directory, format, weather=weather(spec), holidays=holidays(spec), stores=stores(spec)
    )


def _by_date(sample: Sample, days_per_file: int | None) -> Iterator[tuple[str, pa.Table]]:
    """The sales of each file, with the part of its name that is the date."""
    days = sample.sales["date"].to_numpy().astype("datetime64[D]")
    order = np.argsort(days, kind="stable")
    starts = _first_days(sample.spec, days_per_file)
    bounds = np.searchsorted(days[order], np.array(starts, dtype="datetime64[D]"))
    pattern = "%Y-%m" if days_per_file is None else "%Y-%m-%d"
    for start, rows in zip(starts, np.split(order, bounds)[1:], strict=True):
        yield start.strftime(pattern), sample.sales.take(np.sort(rows))


def _first_days(spec: SampleSpec, days_per_file: int | None) -> list[date]:
    """The first day of each file."""
    all_days = [spec.first_day + timedelta(days=day) for day in range(spec.days)]
    if days_per_file is None:
        return [day for day in all_days if day.day == 1 or day == spec.first_day]
    return all_days[::days_per_file]


def _write_context(directory: Path, suffix: Format, **tables: pa.Table) -> list[Path]:
    return [
        _write(table, directory / kind / kind, suffix)
        for kind, table in tables.items()
        if table.num_rows
    ]


def _write(table: pa.Table, stem: Path, suffix: Format) -> Path:
    path = stem.with_name(f"{stem.name}.{suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == "parquet":
        parquet.write_table(table, path)
    else:
        with pa.output_stream(path, compression="gzip" if suffix == "csv.gz" else None) as sink:
            csv.write_csv(table, sink, csv.WriteOptions(quoting_style="needed"))
    return path
