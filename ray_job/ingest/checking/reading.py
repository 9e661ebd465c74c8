"""Files as an ingest would read them, without bringing them in: refusals, and what looks odd."""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from ray_job.bucket.errors import StorecastError
from ray_job.ingest.checking.oddities import oddities
from ray_job.ingest.checking.suggestions import known_ahead
from ray_job.ingest.plausibility.daily_sales import rows_sql
from ray_job.ingest.plausibility.meaning import check_meaning
from ray_job.ingest.reading.batch import RawBatch, read_batch
from ray_job.ingest.reading.column_types import expected_types
from ray_job.ingest.reading.groups import FILE, MOMENT, group_files, unreadable
from ray_job.ingest.reading.kinds import SALES
from ray_job.ingest.reading.load import PROBLEM, load
from ray_job.ingest.reading.raw_files import BadFilesError, RawFile
from ray_job.ingest.reading.way_out import with_way_out
from ray_job.ingest.reading.workspace import Workspace, open_workspace, shortage
from ray_job.progress import SilentProgress
from ray_job.settings import Settings


@dataclass(slots=True)
class FileReading:
    """Files as an ingest reads them: what it refuses, and what is in the others."""

    refused: dict[str, list[str]] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)
    figures: dict[str, tuple[int, int, int, date | None, date | None]] = field(default_factory=dict)
    """Rows, stores, items, first and last date by the name of each file that can be read."""


def read_files(settings: Settings, files: Sequence[RawFile], today: date) -> FileReading:
    """Read the files, and leave out those that are refused until the others can be read.

    Raises StorageError.
    """
    reading = FileReading()
    remaining = list(files)
    while remaining:
        with open_workspace(settings) as workspace, SilentProgress().stage("read") as stage:
            try:
                batch = read_batch(workspace, settings, remaining, {}, stage, today)
                reading.odd += check_meaning(workspace, batch)
                _add_figures(workspace, batch, reading)
            except BadFilesError as error:
                bad = error.problems
            except (StorecastError, MemoryError):
                raise
            except Exception as error:
                if (storage_error := shortage(workspace.folder, error)) is not None:
                    raise storage_error from error
                bad = _failing_alone(settings, remaining, today, error)
            else:
                return reading
        for file in remaining:
            if file.name in bad:
                rows = _bad_rows(settings, file, today) if bad[file.name].startswith("row ") else []
                reading.refused[file.name] = rows or [bad[file.name]]
        remaining = [file for file in remaining if file.name not in bad]
    return reading


def _failing_alone(
    settings: Settings, files: Sequence[RawFile], today: date, error: Exception
) -> dict[str, str]:
    """The files that raise an error that nobody foresaw, by name. Raises `error` if none does."""
    if len(files) == 1:
        return {files[0].name: unreadable(error)}
    bad: dict[str, str] = {}
    for file in files:
        for name, sentences in read_files(settings, [file], today).refused.items():
            bad[name] = sentences[0]
    if not bad:
        raise error
    return bad


def _bad_rows(settings: Settings, file: RawFile, today: date) -> list[str]:
    """A sentence for each kind of problem of a file's rows, with the first row that has it."""
    with open_workspace(settings) as workspace, SilentProgress().stage("read") as stage:
        try:
            [group] = group_files(workspace, settings, [file], today)
            expected = expected_types(group, group.delivery.types, {})
            load(workspace, group, expected, stage)
        except BadFilesError:
            pass
        problems = workspace.run(
            f"SELECT count(*), min(rowid), arg_min({PROBLEM}, rowid) FROM {group.table}"
            f" WHERE {PROBLEM} IS NOT NULL"
            f" GROUP BY regexp_replace({PROBLEM}, 'the value \"[^\"]*\"', '') ORDER BY 2"
        )
        return [
            f"row {group.row_number(workspace, group.first, row)}: {with_way_out(group, problem)}"
            + (f" ({count - 1:,} more such rows)" if count > 1 else "")
            for count, row, problem in problems
        ]


def _add_figures(workspace: Workspace, batch: RawBatch, reading: FileReading) -> None:
    for group in batch.groups:
        key = group.files.kind.key
        stores = "count(DISTINCT store_id)" if "store_id" in key else "0"
        items = "count(DISTINCT nullif(item_id, ''))" if "item_id" in key else "0"
        days = "min(date), max(date)" if "date" in key else "NULL, NULL"
        for number, *figures in workspace.run(
            f"SELECT {FILE}, count(*), {stores}, {items}, {days} FROM {group.files.table}"
            f" GROUP BY {FILE}"
        ):
            rows, stores_, items_, first, last = figures
            reading.figures[group.files.file(number).name] = (rows, stores_, items_, first, last)
    sales = batch.groups_of(SALES)
    moments = sum(
        workspace.run(f"SELECT count({MOMENT}) FROM {group.files.table}")[0][0] for group in sales
    )
    if moments and sales[0].files.settings.time_zone == "UTC":
        reading.odd.append(
            "dates have times of the day: instants become days of the time zone of the settings,"
            ' which is UTC; put time_zone = "Europe/Berlin", or where the stores are, into them'
        )
    reading.ahead = known_ahead(workspace, [(group.files, group.values) for group in sales])
    rows_of_sales = rows_sql(sales)
    if rows_of_sales is not None:
        reading.odd += oddities(workspace, rows_of_sales)
